"""The scripts that score and attribute given texts, run as programs and in this process."""

from __future__ import annotations

import importlib
import io
import json
import math
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from absl import flags
from texts import paper

import epo_jax
from epo_jax import command_line

TEXTS = ["The quick brown fox", "A cat sat on a mat, 12 times or 345 times, and ran away", "over"]


def own_flags() -> dict[str, flags.Flag]:
    """All flags but those of absl itself; ones that were put back belong to no module."""
    modules = flags.FLAGS.flags_by_module_dict().items()
    absl = {flag.name for module, found in modules if module.startswith("absl") for flag in found}
    return {name: flags.FLAGS[name] for name in flags.FLAGS if name not in absl}


@pytest.fixture
def script() -> Callable[..., int]:
    """Runs a script's main function with a command line, and gives its exit code."""

    def run(name: str, *arguments: str) -> int:
        # Scripts define flags of the same names, which only one module may have at a time.
        others = own_flags()
        for flag in others:
            delattr(flags.FLAGS, flag)
        try:
            main = importlib.import_module(name).main
            command_line.parse_flags([name, *arguments], name)
            command_line.guarded(main, name)
        except SystemExit as ended:
            return int(ended.code or 0)
        finally:
            # Both, since a package keeps the modules that were imported from it.
            for module in (name, "texts.given", "texts"):
                sys.modules.pop(module, None)
            for flag in own_flags():
                delattr(flags.FLAGS, flag)
            for flag, definition in others.items():
                flags.FLAGS[flag] = definition
        return 0

    return run


def scored(lm: epo_jax.LanguageModel, feature: str, ids: list[int]) -> epo_jax.Scores:
    return epo_jax.score(lm, epo_jax.parse_feature(feature, lm), np.array([ids]), epo_jax.Template())


def test_score_prints_and_writes_every_text_and_token(tiny, tiny_folder, tmp_path, script, capsys, monkeypatch) -> None:
    (tmp_path / "lines.txt").write_text(f"{TEXTS[1]}\n\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"over[bold] the\n")))
    given = [f"--model={tiny_folder}", "--feature=L1.N7", f"--text={TEXTS[0]}", f"--file={tmp_path / 'lines.txt'}"]
    assert script("score", *given, "--file=-", f"--output={tmp_path / 'scores.csv'}") == 0
    printed = capsys.readouterr().out
    assert "over[bold]·the" in printed or "over[bold] the" in printed
    table = pd.read_csv(tmp_path / "scores.csv")
    assert table.text.unique().tolist() == [TEXTS[0], TEXTS[1], "over[bold] the"]
    first = table[table.text == TEXTS[0]]
    ids = tiny.tokenizer.encode(TEXTS[0])
    assert first.id.tolist() == ids
    assert "".join(first.token) == TEXTS[0]
    alone = scored(tiny, "L1.N7", ids)
    np.testing.assert_allclose(first.feature, float(alone.feature[0]), atol=1e-5)
    np.testing.assert_allclose(first.token_feature.iloc[-1], float(alone.feature[0]), atol=1e-5)
    np.testing.assert_allclose(first.surprisal.mean(), float(alone.cross_entropy[0]), atol=1e-5)
    assert f"{float(alone.feature[0]):.4f}" in printed
    assert script("score", *given, f"--output={tmp_path / 'scores.json'}", "--notokens") == 0
    assert "tokens of text" not in capsys.readouterr().out
    rows = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert rows[0]["tokens"][0]["surprisal"] is None
    assert [row["text"] for row in rows] == TEXTS[:2]


def test_published_prompts_stand_beside_what_another_model_makes_of_them(tiny_folder, tmp_path, script, capsys) -> None:
    given = [f"--model={tiny_folder}", "--paper", f"--output={tmp_path / 'paper.json'}"]
    assert script("score", *given) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("the prompts were published for EleutherAI/pythia-12b-deduped, and the model here is")
    rows = json.loads((tmp_path / "paper.json").read_text("utf-8"))
    known = paper.published()
    assert [(row["feature"], row["text"], row["published"]) for row in rows] == [
        (one.feature, one.text, one.value) for one in known
    ]
    neurons = [row for row in rows if row["feature"] == "L2.N0"]
    assert all(row["here"] is not None and "12 in the paper" in row["note"] for row in neurons)
    for row in rows:
        if row["feature"] in ("L7.N1", "L10.N5"):
            assert row["here"] is None
            assert "the model has no layer" in row["note"]
        elif row["feature"].startswith("logit:"):
            assert "one token" in row["note"]
    assert "no layer 10" in printed
    assert known[0].cross_entropy == pytest.approx(math.log(72.05))


def test_attribute_prints_and_writes_what_the_library_finds(tiny, tiny_folder, tmp_path, script, capsys) -> None:
    output = tmp_path / "found"
    given = [f"--model={tiny_folder}", "--feature=-L1.N7", "--prefix=A cat", "--bos=always", "--read=max"]
    texts = [f"--text={TEXTS[2]} <b>&", "--text=fox"]
    assert script("attribute", *given, *texts, "--alternatives=5", f"--output={output}") == 0
    printed = capsys.readouterr().out
    assert "drop to worst" in printed
    values = json.loads(output.with_suffix(".json").read_text("utf-8"))
    assert [one["text"] for one in values["prompts"]] == ["over <b>&", "fox"]
    template = epo_jax.Template("A cat", bos="always")
    encode = tiny.tokenizer.encode
    whole = np.array([[0, *encode("A cat"), *encode("fox")]])
    feature = epo_jax.parse_feature("-L1.N7", tiny)
    expected = epo_jax.attribute(tiny, feature, whole, template, read="max", alternatives=5)
    np.testing.assert_allclose(values["prompts"][1]["values"], expected.values[0], atol=1e-5)
    assert f"{expected.drop_to_worst[0, 0]:.4f}" in printed
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    page = output.with_suffix(".html").read_text("utf-8")
    assert "&lt;" in page
    assert "<b>&" not in page


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("score", ["--feature=L1.N7"], "--text: none given"),
        ("score", ["--text=over"], "--feature: none given"),
        ("score", ["--text=over the", "--feature=L9.N7"], "no layer 9"),
        ("score", ["--text=", "--feature=L1.N7"], "--text="),
        ("score", ["--text=a", "--feature=L1.N7"], "single token"),
        ("score", ["--file=no/such/file", "--feature=L1.N7"], "--file=no/such/file: cannot be read"),
        ("score", ["--text=over the", "--feature=L1.N7", "--read=40"], "--read=40"),
        ("score", ["--text=over the", "--feature=L1.N7", "--output=x.txt"], ".csv or .json"),
        ("score", ["--text=over the", "--feature=L1.N7", "--output=no/such/x.csv"], "no folder"),
        ("score", ["--paper", "--text=over the"], "--paper"),
        ("score", ["--feature=L1.N7", f"--text={'over ' * 70}"], "64"),
        ("attribute", ["--feature=L1.N7"], "--text: none given"),
        ("attribute", ["--text=over the", "--feature=L1.N99"], "0 to 52"),
        ("attribute", ["--text=over the", "--feature=L1.N7", "--output=no/such/x"], "no folder"),
        ("attribute", ["--text=over the", "--feature=L1.N7", "--alternatives=0"], "alternatives"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(tiny_folder, script, capsys, name, arguments, told) -> None:
    assert script(name, f"--model={tiny_folder}", *arguments) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith(f"{name}: error: ")
    assert "\n" not in said
    assert told in said
