from __future__ import annotations

import base64
import gzip
import hashlib
import re
import warnings

import numpy as np
import pytest
from html_page import HOSTILE, PNG, Page
from report_examples import EXAMPLES

from epo_jax.report.html import render, write_report


@pytest.fixture
def hostile(report):
    return report(
        points=2,
        frontier_tokens=(HOSTILE, HOSTILE[::-1]),
        feature=HOSTILE[0],
        model=HOSTILE[1],
        settings={HOSTILE[0]: HOSTILE[1], "x": HOSTILE},
        versions={HOSTILE[0]: HOSTILE[4]},
        command="python -m epo_jax.dream --feature='" + "".join(HOSTILE) + "'",
        prefix=HOSTILE[0],
        suffix=HOSTILE[5],
        stopped=HOSTILE[0],
    )


def test_hostile_text_stays_text(hostile) -> None:
    text = render(hostile, PNG)
    page = Page(text)
    tags = {tag for tag, _ in page.elements}
    assert len(page.scripts) == 4
    assert not tags & {"iframe", "object", "svg"}
    assert "49" not in page.text
    assert sum(tag == "img" for tag, _ in page.elements) == 1
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count("</script><script>alert(1)</script>") >= 5
    assert "&lt;b&gt;" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)


def test_each_token_is_isolated_and_visible(hostile) -> None:
    page = Page(render(hostile, PNG))
    assert sum(tag == "bdi" and a.get("class") == "t" for tag, a in page.elements) >= 2 * len(HOSTILE)
    prompt = page.cells[5]
    for shown in (r"\x00\x07\x1b", r"\u202egnp.exe", "\u05e9\u05dc\u05d5\u05dd", r"\x0d⏎⇥", r"\ud800", " a ", "[bold]"):
        assert shown in prompt


def test_file_needs_nothing_else(report, tmp_path) -> None:
    write_report(report(), tmp_path / "report.html")
    page = Page((tmp_path / "report.html").read_text("utf-8"))
    for tag, attributes in page.elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name in {"src", "srcset", "href", "data", "action"} & set(attributes):
            assert attributes[name].startswith(("data:image/png;base64,", "#prompt-"))
    style = page.text[: page.text.index("The prompts that")]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-")
    assert "unsafe-eval" not in policy


def unpacked(text: str) -> str:
    return gzip.decompress(base64.b64decode(text)).decode()


def test_only_the_pages_own_scripts_and_the_library_may_run(report) -> None:
    page = Page(render(report(), PNG))
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    theme, _, library, script = page.scripts
    hashes = [
        base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in (theme, script, unpacked(library))
    ]
    assert re.findall(r"'sha256-(.*?)'", policy) == hashes
    for banned in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "Function(", "fetch(", "document.write"):
        assert banned not in theme + script


def test_the_same_run_gives_the_same_bytes(report) -> None:
    assert render(report(), PNG) == render(report(), PNG)


def test_own_pictures_cover_light_and_dark_for_browsers_without_scripts(report) -> None:
    text = render(report())
    elements = Page(text).elements
    assert text.index("<noscript>") < text.index("<picture>") < text.index("</noscript>")
    assert [a["media"] for tag, a in elements if tag == "source"] == ["(prefers-color-scheme: dark)"]
    sources = {a.get("src") or a["srcset"] for tag, a in elements if tag in {"img", "source"}}
    assert len(sources) == 2
    assert all(base64.b64decode(source.split(",")[1]).startswith(PNG[:8]) for source in sources)
    assert all(a["alt"] for tag, a in elements if tag == "img")


def test_a_given_picture_is_used(report) -> None:
    assert base64.b64encode(PNG).decode() in render(report(), PNG)


def test_every_frontier_row_is_there_with_its_numbers(report) -> None:
    data = report(points=40)
    page = Page(render(data, PNG))
    rows = [page.cells[i : i + 7] for i in range(0, len(page.cells), 7)]
    assert [row[0] for row in rows] == [str(n + 1) for n in range(40)]
    assert rows[-1][1:5] == ["feature 9.90", "nats/token 8.90", "perplexity 7,332", "iteration 12"]
    assert " example, for if" in rows[1][5]
    titles = [a["title"] for tag, a in page.elements if tag == "td" and "title" in a]
    assert titles == ["".join(t).replace("\r", "\\x0d") for t in data.frontier_tokens]


def test_best_prompts_are_marked_once(report) -> None:
    page = Page(render(report(), PNG))
    assert [i // 7 + 1 for i, cell in enumerate(page.cells) if cell.endswith("best overall")] == [12]
    assert [i // 7 + 1 for i, cell in enumerate(page.cells) if cell.endswith("best below 6")] == [7]
    assert "Best with cross-entropy below 6" in page.text
    one = Page(render(report(points=1), PNG))
    assert "Best overall, and below 6 nats/token" in one.text


def test_run_is_described(report) -> None:
    page = Page(render(report(stopped="interrupted", prefix="User: ", suffix="\nBot:"), PNG))
    for part in (
        "14 iterations, 3,840 scored prompts.", "lambda_min", "0.10.2", "Stopped early: interrupted",
        "User:  prompt ⏎Bot:",
        'python -m epo_jax.dream --model=EleutherAI/pythia-12b --feature="L10.N5" --seed=0',
    ):  # fmt: skip
        assert part in page.text
    assert "Stopped early" not in render(report(), PNG)


@pytest.mark.parametrize(("points", "history"), [(0, 0), (1, 0), (1, 1)])
def test_extremes_render(report, points: int, history: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = Page(render(report(points=points, history=history)))
    assert len(page.cells) == 7 * points


def test_values_that_are_not_finite_render(report) -> None:
    page = Page(render(report(points=2, frontier_feature=np.array([np.nan, np.inf], np.float32)), PNG))
    assert page.cells[1] == "feature nan"


def test_the_models_own_continuation_is_a_column_where_there_is_one(report) -> None:
    page = Page(render(report(points=3, continuations={1: (" and", "\n", HOSTILE[0])}), PNG))
    assert [cell for cell in page.cells if cell.startswith("goes on")] == [f"goes on  and⏎{HOSTILE[0]}"]
    assert len(page.cells) == 8 * 3
    assert "Continuation" not in Page(render(report(points=3), PNG)).text


def test_dataset_examples_stand_beside_the_strongest_dreams(report) -> None:
    text = render(report(points=12, examples=EXAMPLES), PNG)
    page = Page(text)
    section = page.text[page.text.index("Beside the dataset") : page.text.index("The run")]
    assert "1,135,198 tokens of a corpus" in section
    assert EXAMPLES.sentence in section
    assert re.findall(r"(\d+)\s+[\d.]+ feature", section) == [str(n) for n in range(12, 4, -1)]
    for told in (
        "11.2 alone",
        "12.5 in context",
        "2.50 nats/token",
        "books/1.txt",
        " Once upon a time",
        "99.9% of its values are below 4.50",
    ):
        assert told in section
    assert section.count(" alone ") == 2
    assert [a["id"] for _, a in page.elements if a.get("id", "").startswith("example-")] == [
        f"example-{n}" for n in range(3)
    ]
    assert "Beside the dataset" not in Page(render(report(), PNG)).text


def test_sorting_and_copying_have_whole_numbers_and_texts_on_one_line(report) -> None:
    one = {"frontier_feature": np.array([-1234.5], np.float32), "frontier_cross_entropy": np.array([2.5], np.float32)}
    page = Page(render(report(points=1, frontier_tokens=(("a\tb", "\n", "\u202e"),), **one), PNG))
    values = [a["data-value"] for tag, a in page.elements if tag == "td" and "data-value" in a]
    assert values == ["1", "-1234.5", "2.5", "12.18249", "290", r"a\x09b\x0a\u202e"]
