"""Which tokens matter: numbers, picture and page, from plain data."""

from __future__ import annotations

import io
import re
import sys

import numpy as np
from html_page import HOSTILE, PNG, Page
from matplotlib.image import imread

from epo_jax.report import PromptDrops, Replacement, TokenDrops, render_attributions, write_attribution_png
from epo_jax.report.attribution_figure import attribution_figure, attribution_png
from epo_jax.report.attribution_marks import marks
from epo_jax.report.html import render


def token(text: str, to_worst: float, to_best: float, other: str = " x") -> TokenDrops:
    worst = tuple(Replacement(f"{other}{rank}", 4 - to_worst + rank) for rank in range(3))
    best = tuple(Replacement(f"{other}{rank}", 4 - to_best - rank) for rank in range(3))
    return TokenDrops(text, to_worst, to_best, worst, best)


def prompt(*texts: str, feature: float = 4.0, cross_entropy: float | None = 5.0) -> PromptDrops:
    drops = [(5.0, 2.5), (1.25, -0.5), (0.0, -3.0), (-1.0, -2.0)]
    tokens = tuple(token(text, *drops[index % len(drops)]) for index, text in enumerate(texts))
    return PromptDrops(feature, tokens, 32, cross_entropy)


PROMPT = prompt(" no", " other", " word", " does")


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(imread(io.BytesIO(png)))[..., :3]


def test_shade_and_bar_are_shares_of_the_largest_fall_and_rises_have_none() -> None:
    found = marks(PROMPT)
    assert [mark.shade for mark in found] == [1.0, 0.25, 0.0, 0.0]
    assert [mark.bar for mark in found] == [0.5, 0.0, 0.0, 0.0]
    assert [mark.to_worst for mark in found] == ["−5.00", "−1.25", "0.00", "+1.00"]
    assert [mark.to_best for mark in found] == ["−2.50", "+0.50", "+3.00", "+2.00"]


def test_drops_that_are_not_numbers_and_prompts_that_never_fall_are_drawn_without_marks() -> None:
    broken = PromptDrops(np.nan, (token("a", np.nan, np.inf), token("b", -1.0, -2.0)), 32)
    assert [(mark.shade, mark.bar) for mark in marks(broken)] == [(0.0, 0.0)] * 2
    assert pixels(attribution_png([broken], "f", "m")).min() < 0.5
    assert "nan" in Page(render_attributions([broken], "f", "m")).text


def test_the_page_tells_each_tokens_worst_and_best_replacements_with_their_values() -> None:
    page = Page(render_attributions([PROMPT], "L10.N5", "a model", prefix="User: "))
    tips = [attributes for _, attributes in page.elements if attributes.get("role") == "tooltip"]
    buttons = [attributes for tag, attributes in page.elements if tag == "button"]
    assert [one["aria-describedby"] for one in buttons] == [one["id"] for one in tips]
    assert len({one["id"] for one in tips}) == 4
    for told in ("−5.00 with the worst of 32, −2.50 with the best", "Worst x0 −1.00", "Best x0 1.50", "5.00 nats"):
        assert told in page.text
    shades = [a["style"] for tag, a in page.elements if tag == "i" and a.get("class") == "shade" and "style" in a]
    assert shades == [f"--share: {share}" for share in ("1.000", "0.250", "0.000", "0.000")]
    assert "User: " in page.text


def test_hostile_tokens_stay_text_and_the_page_needs_nothing_else() -> None:
    tokens = tuple(token(text, 1.0, 0.5, other=text) for text in HOSTILE)
    text = render_attributions([PromptDrops(1.0, tokens, 32)] * 2, HOSTILE[0], HOSTILE[1], HOSTILE[0], HOSTILE[5])
    page = Page(text)
    assert not {tag for tag, _ in page.elements} & {"script", "img", "link", "iframe", "object", "base", "form"}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count("</script><script>alert(1)</script>") >= 2 * 7
    assert "49" not in re.sub(r"#[0-9a-f]{6}", "", page.text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "url(" not in text
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")


def test_the_report_shows_the_prompts_that_were_tried_with_their_numbers_and_says_if_others_were_not(report) -> None:
    page = Page(render(report(points=4, attributions={3: PROMPT, 1: PROMPT}), PNG))
    section = page.text[page.text.index("Which tokens matter 2 of 4 frontier prompts") :]
    assert "Not every prompt was tried" in section
    assert re.findall(r"(\d) 4\.00 feature", section) == ["2", "4"]
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert sum(re.match(r"drops-\d", one) is not None for one in ids) == 8
    whole = Page(render(report(points=2, attributions={0: PROMPT, 1: PROMPT}), PNG)).text
    assert "Not every prompt was tried" not in whole
    assert "frontier prompts Each" not in Page(render(report(points=2), PNG)).text


def test_the_picture_shows_more_ink_where_the_feature_falls_more(tmp_path) -> None:
    found = pixels(attribution_png([PROMPT], "L10.N5", "a model", [3]))
    # The box of the first token is orange, and a bar of half the height stands above it.
    orange = (found[..., 0] > 0.75) & (found[..., 1] < 0.6) & (found[..., 2] < 0.5)
    green = (abs(found - np.array([0x0F, 0x76, 0x6E]) / 255) < 0.02).all(axis=-1)
    assert orange.sum() > 500
    assert green[orange.any(axis=1).argmax() :].sum() > 100
    none = pixels(attribution_png([prompt("a", feature=1.0)], "L10.N5", "a model"))
    assert none.shape != found.shape or (none != found).any()
    write_attribution_png(tmp_path / "strip.png", [PROMPT], "L10.N5", "a model")
    assert (tmp_path / "strip.png").read_bytes() == attribution_png([PROMPT], "L10.N5", "a model")


def test_hostile_and_long_prompts_are_drawn_and_those_beyond_the_height_are_counted(monkeypatch) -> None:
    monkeypatch.setattr(sys.modules[attribution_png.__module__], "MOST_INCHES", 8.0)
    attribution_figure([prompt(*HOSTILE)], HOSTILE[0], HOSTILE[1])
    figure = attribution_figure([prompt(*[" word"] * 100)] * 50, "L10.N5", "a model")
    assert figure.get_size_inches()[1] < 8 + 2
    assert any("of 50 prompts" in text.get_text() for text in figure.axes[0].texts)


def test_an_empty_list_of_prompts_is_drawn() -> None:
    assert attribution_png([], "f", "m").startswith(PNG[:8])
    assert "Which tokens matter" in Page(render_attributions([], "f", "m")).text
