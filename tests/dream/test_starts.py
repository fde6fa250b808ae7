"""Initial populations."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil

import jax
import numpy as np
import pytest
from dream_command import QUICK, run

import epo_jax
from epo_jax import EPOConfig, EpoError, Template
from epo_jax.dream.starts import initial_prompts
from epo_jax.models.sampling import sample

SMALL = EPOConfig(iterations=1, population=3, children=2, length=4, top_k=30)


def prompts_of(lm, seeds=(0,), template=None, **start):
    return initial_prompts(lm, SMALL, list(seeds), template or Template(), **start)


@pytest.fixture(scope="module")
def texts(tiny) -> dict[str, list[int]]:
    """Texts of four tokens, one with characters that some take for line breaks."""
    found = {}
    for text in ("$#%&", "x y ", " \u2028", "ab$%", 'a,"b', "1\n2\n"):
        ids = tiny.tokenizer.encode(text, add_special_tokens=False)
        assert len(ids) == SMALL.length, (text, ids)
        found[text] = ids
    return found


def test_random_prompts_are_left_to_the_search_and_a_text_is_in_every_slot(tiny, texts):
    assert prompts_of(tiny) is None
    assert prompts_of(tiny, init_text="$#%&").tolist() == [texts["$#%&"]] * 3


def test_a_file_of_lines_gives_a_prompt_to_each_slot_and_fewer_are_repeated_in_order(tiny, texts, tmp_path):
    one, two, three = "x y ", " \u2028", "ab$%"
    path = tmp_path / "prompts.txt"
    path.write_bytes(f"\ufeff{one}\n\n{two}\r\n".encode())
    assert prompts_of(tiny, init_file=path).tolist() == [texts[one], texts[two], texts[one]]
    path.write_text(f"{one}\n{two}\n{three}", encoding="utf-8")
    assert prompts_of(tiny, init_file=str(path)).tolist() == [texts[one], texts[two], texts[three]]


def test_a_jsonl_gives_texts_or_ids_and_they_may_hold_line_breaks(tiny, texts, tmp_path):
    path = tmp_path / "prompts.JSONL"
    path.write_text('{"text": "1\\n2\\n", "note": 1}\n{"ids": [9, 8, 7, 6]}\n\n')
    assert prompts_of(tiny, init_file=path).tolist() == [texts["1\n2\n"], [9, 8, 7, 6], texts["1\n2\n"]]


@pytest.fixture(scope="module")
def finished(tiny, tmp_path_factory):
    """A run whose frontier is one that another run starts from."""
    folder = tmp_path_factory.mktemp("run") / "run"
    made = epo_jax.dream(
        tiny, "L1.N5", dataclasses.replace(SMALL, iterations=4), seed=1, output=folder, attribution=False
    )
    return folder, made.frontier.ids


@pytest.mark.parametrize("name", ["", "frontier.json", "frontier.csv"])
def test_a_run_folder_and_its_frontiers_are_files_of_prompts(tiny, finished, name):
    folder, ids = finished
    config = dataclasses.replace(SMALL, population=len(ids) + 1)
    found = initial_prompts(tiny, config, [0], Template(), init_file=folder / name)
    np.testing.assert_array_equal(found, [*ids, ids[0]])


def test_a_csv_keeps_commas_quotes_and_line_breaks_of_its_texts(tiny, texts, tmp_path):
    import pandas

    rows = {text: texts[text] for text in ('a,"b', "1\n2\n", " \u2028")}
    frame = pandas.DataFrame({"text": list(rows), "ids": [str(ids) for ids in rows.values()]})
    frame.to_csv(tmp_path / "some.csv", index=False)
    assert prompts_of(tiny, init_file=tmp_path / "some.csv").tolist() == list(rows.values())


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"", "holds no prompts"),
        ("a.txt", b"\n\n", "holds no prompts"),
        ("a.txt", b"ab$%\nabc\n", r"line 2: has 3 tokens \('a', 'b', 'c'\), and --length is 4"),
        ("a.txt", b"ab$%\n" * 4, "holds 4 prompts, and --population is 3"),
        ("a.txt", b"\xff\xfe", "cannot be read"),
        ("a.jsonl", b"ab$%", "line 1: not readable as JSON"),
        ("a.jsonl", b"[1]", "line 1: holds .*where .* is read"),
        ("a.jsonl", b'{"prompt": "ab$%"}', 'line 1: has neither a "text" nor "ids"'),
        ("a.jsonl", b'{"text": 5}', 'line 1: has neither a "text" nor "ids"'),
        ("a.jsonl", b'{"ids": "1234"}', "line 1: its ids are no list"),
        ("a.jsonl", b'{"ids": [1, 2, 3, true]}', "line 1: its ids are no list"),
        ("a.jsonl", b'{"ids": [1, 2, 3, 307]}', "line 1: its ids are outside the model's tokens 0 to"),
        ("a.jsonl", b'{"ids": [1, 2, 3, -1]}', "line 1: its ids are outside"),
        ("a.jsonl", b'{"ids": [1, 2, 3]}', "line 1: has 3 tokens"),
        ("a.jsonl", b'{"ids": []}', "line 1: has 0 tokens"),
        ("a.jsonl", b'{"ids": [9, 8, 7, 6], "text": "dogs"}', "line 1: .*another tokenizer"),
        ("a.json", b"{", "not readable as JSON"),
        ("a.json", b'{"text": "ab$%"}', "holds no list of prompts"),
        ("a.json", b"[5]", "holds 5, where"),
        ("a.csv", b"text\nab$%\n", "row 1: has no ids"),
        ("a.csv", b"ids\nmany\n", "row 1: not readable as JSON"),
        ("a.csv", b"ids\n" + b"1" * 200_000, "not readable as CSV"),
        ("a", b"ab$%\x00", "line 1: has 5 tokens"),
    ],
)
def test_a_file_that_is_no_population_is_one_line_that_names_it(tiny, tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EpoError, match=f"(?s)^--init_file={path}.*{said}") as raised:
        prompts_of(tiny, init_file=path)
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_a_folder_without_a_frontier_are_refused(tiny, tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(EpoError, match=f"^--init_file={path}: cannot be read"):
            prompts_of(tiny, init_file=path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"init": "model", "init_text": "ab$%"}, "--init=model and --init_text: .*give one"),
        ({"init_text": "ab$%", "init_file": "x"}, "--init_text and --init_file: .*give one"),
        ({"init": "text"}, "--init=text: not one of random, model"),
        ({"init_text": "a\nb"}, r"--init_text='a\\nb': has 3 tokens"),
    ],
)
def test_a_start_that_cannot_be_is_one_line(tiny, given, said):
    with pytest.raises(EpoError, match=f"^{said}") as raised:
        prompts_of(tiny, **given)
    assert "\n" not in str(raised.value)


def test_each_dream_has_samples_of_its_own_that_follow_the_prefix_and_are_those_of_the_dream_alone(tiny):
    template = Template(prefix="The quick", suffix=" dog")
    found = prompts_of(tiny, (5, 6), template, init="model")
    assert (found.shape, found.dtype) == ((2, 3, 4), np.int32)
    assert not np.array_equal(found[0], found[1])
    np.testing.assert_array_equal(prompts_of(tiny, (6,), template, init="model"), found[1:])
    prefix = tiny.tokenizer.encode("The quick")
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(5, impl="threefry2x32"), 0), 0)
    np.testing.assert_array_equal(sample(tiny, prefix, key, 3, 4), found[0])
    assert not np.array_equal(prompts_of(tiny, (5,), init="model")[0], found[0])


def test_samples_that_may_not_stay_are_drawn_anew_until_there_are_enough(tiny):
    free = prompts_of(tiny, init="model")[0]
    last = free[:, -1]
    kept = prompts_of(tiny, init="model", keep=lambda ids: ids[:, -1] % 2 == last[0] % 2)[0]
    assert (kept[:, -1] % 2 == last[0] % 2).all()
    np.testing.assert_array_equal(kept[0], free[0])
    assert len(np.unique(kept, axis=0)) == 3
    with pytest.raises(EpoError, match=r"^--init=model: of 300 samples only 0 satisfy the constraints"):
        prompts_of(tiny, init="model", keep=lambda ids: np.zeros(len(ids), np.bool_))


def test_samples_hold_allowed_tokens_only(tiny):
    allowed = np.zeros(tiny.config.vocab_size, np.bool_)
    allowed[[20, 30]] = True
    assert np.isin(prompts_of(tiny, init="model", allowed=allowed), [20, 30]).all()


def test_a_sample_that_does_not_fit_is_refused(tiny):
    config = dataclasses.replace(SMALL, length=64)
    with pytest.raises(EpoError, match=r"^--length=64: with the prefix it makes 65 tokens, and the model takes 64"):
        initial_prompts(tiny, config, [0], Template(prefix="a"), init="model")


@pytest.mark.parametrize("start", ["text", "file", "model"])
def test_the_command_starts_a_dream_in_each_way_and_records_what_repeats_it(tiny_folder, tiny, tmp_path, capsys, start):
    (tmp_path / "prompts.txt").write_text("ab$%\nx y \n")
    flag = {
        "text": "--init_text=ab$%",
        "file": f"--init_file={tmp_path / 'prompts.txt'}",
        "model": "--init=model",
    }[start]
    given = [
        f"--model={tiny_folder}",
        "--feature=L1.N5",
        *QUICK,
        "--noattribution",
        "--template=The {prompt} dog",
        flag,
    ]
    assert run(*given, f"--output={tmp_path / 'first'}") == 0, capsys.readouterr().err
    first = epo_jax.load_result(tmp_path / "first")
    assert (first.run.prefix, first.run.suffix) == ("The ", " dog")
    initial = first.history.ids[first.history.iteration == 0]
    expected = {
        "text": tiny.tokenizer(["ab$%", "ab$%"])["input_ids"],
        "file": tiny.tokenizer(["ab$%", "x y "])["input_ids"],
        "model": initial_prompts(
            tiny, dataclasses.replace(SMALL, population=2), [0], Template("The ", " dog"), init="model"
        )[0].tolist(),
    }[start]
    assert initial.tolist() == expected
    assert flag in shlex.split(first.run.command)
    assert run(*shlex.split(first.run.command)[3:], "--noattribution", f"--output={tmp_path / 'second'}") == 0
    assert epo_jax.load_result(tmp_path / "second").history.ids.tobytes() == first.history.ids.tobytes()
    assert flag.partition("=")[2] in (tmp_path / "first" / "report.html").read_text()


def test_a_run_folder_from_before_these_starts_still_loads(finished, tmp_path):
    folder, _ = finished
    made = epo_jax.load_result(folder)
    made.save(tmp_path / "old")
    config = json.loads((tmp_path / "old" / "config.json").read_text())
    for name in ("init", "init_file"):
        del config[name]
    (tmp_path / "old" / "config.json").write_text(json.dumps(config))
    assert epo_jax.load_result(tmp_path / "old").run == made.run
    assert "--init" not in made.run.command


def test_dreams_of_several_seeds_start_from_samples_of_their_own(tiny):
    found = epo_jax.dream(tiny, "L1.N5", SMALL, seed=[5, 6], init="model", attribution=False)
    expected = prompts_of(tiny, (5, 6), init="model")
    for result, prompts in zip(found, expected, strict=True):
        np.testing.assert_array_equal(result.history.ids[:3], prompts)


def test_a_chat_is_recorded_as_the_text_that_it_is_and_that_repeats_it(tiny_folder, tmp_path, capsys):
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    program = "{{ bos_token }}{% for m in messages %}<{{ m.role }}>\n{{ m.content }}\n{% endfor %}"
    (folder / "chat_template.jinja").write_text(program + "{% if add_generation_prompt %}<assistant>{% endif %}")
    given = [f"--model={folder}", "--feature=L1.N5", *QUICK, "--chat", '--system=It\'s a "$x"', "--prefix= say "]
    assert run(*given, f"--output={tmp_path / 'first'}") == 0, capsys.readouterr().err
    first = epo_jax.load_result(tmp_path / "first")
    assert first.run.prefix == '<s><system>\nIt\'s a "$x"\n<user>\n say '
    assert (first.run.suffix, first.run.bos) == ("\n<assistant>", "never")
    assert "--chat" not in first.run.command
    assert run(*shlex.split(first.run.command)[3:], "--noattribution", f"--output={tmp_path / 'second'}") == 0
    second = epo_jax.load_result(tmp_path / "second")
    assert second.history.ids.tobytes() == first.history.ids.tobytes()
    assert second.run.command == first.run.command


@pytest.mark.slow
def test_a_chat_dream_of_the_embedded_model_by_the_command_scores_whole_conversations(lm, tmp_path, capsys):
    given = [*QUICK, "--chat", "--template=Write about{prompt}.", "--system=You are terse.", "--init=model"]
    assert run(*given, "--noattribution", f"--output={tmp_path / 'run'}") == 0, capsys.readouterr().err
    made = epo_jax.load_result(tmp_path / "run")
    assert made.history.iteration[-1] == 2
    messages = [{"role": "system", "content": "You are terse."}, {"role": "user", "content": "Write about{prompt}."}]
    whole = lm.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert whole == made.run.prefix + "{prompt}" + made.run.suffix
    # The feature is that of the conversation's tokens, put together without the template.
    before, after = (lm.tokenizer.encode(text) for text in (made.run.prefix, made.run.suffix))
    every = np.asarray([[*before, *ids, *after] for ids in made.history.ids])
    feature = epo_jax.parse_feature(made.run.feature, lm)
    np.testing.assert_allclose(epo_jax.score(lm, feature, every).feature, made.history.feature, atol=1e-3)
