"""What holds of all pictures for papers: their letters, their bytes, their edges."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from figure_lines import HOSTILE, PROMPT, examples, frontier, nothing, texts

from epo_jax.report import (
    dataset_figure,
    directions_figure,
    evolution_figure,
    layers_figure,
    seeds_figure,
    write_figure,
)
from epo_jax.report.attribution_data import PromptDrops, TokenDrops
from epo_jax.report.attribution_figure import attribution_figure
from epo_jax.report.dataset_pages import Panel, dataset_pages
from epo_jax.report.line import Line
from epo_jax.report.palette import DARK, LIGHT
from epo_jax.report.saved_figure import write_figures
from epo_jax.report.sheet import COLUMN, PAGE
from epo_jax.report.summary_figure import Bests, summary_figure


def attributions(title: str):
    tokens = tuple(TokenDrops(text, 1.0, 0.5, (), ()) for text in PROMPT)
    return attribution_figure([PromptDrops(9.0, tokens, 32, 4.0)] * 2, title, title, [1, 2], width=PAGE, size=8.0)


def renamed(line: Line, name: str) -> Line:
    tokens = tuple((name, *prompt[1:]) for prompt in line.tokens)
    return Line(name, line.cross_entropy, line.feature, tokens)


def figures(name: str, palette=LIGHT, width: float = COLUMN):
    """Every picture, with a text that stands wherever a text of the caller's can stand."""
    dreams = [renamed(frontier(top=top), name) for top in (4.0, 9.9)]
    found = renamed(examples(), name)
    told = {"percentile": 1.6, "maximum": 7.0}
    look = {"palette": palette}
    panel = Panel(name, dreams, found, 1.6, 7.0)
    bests = [Bests(name, (9.0, np.nan, -2.0), (5.0, 4.0, 0.5))] * 3
    kinds = {name: np.full((2, 3), 7.0), "dataset": np.full((2, 3), 5.0)}
    return {
        "seeds": seeds_figure(dreams, name, **look, width=width),
        "evolution": evolution_figure(dreams, name, **look, width=width),
        "dataset": dataset_figure(dreams, found, name, **told, **look, width=width),
        "layers": layers_figure([4, 8], kinds, name, published=([4, 8], [7.6, 7.4]), **look, width=width),
        "directions": directions_figure(dreams, [found], found, name, **look, width=width),
        "pages": dataset_pages([panel] * 4, name, **look)[0],
        "summary": summary_figure(bests, [name, "overall", "fluent"], name, name, **look),
        "attributions": attributions(name),
    }


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("width", [COLUMN, PAGE])
@pytest.mark.parametrize("name", ["L10.N5 in a model", HOSTILE, "W" * 300])
def test_no_text_leaves_the_picture_or_is_smaller_than_8_points(name: str, width: float) -> None:
    for kind, figure in figures(name, width=width).items():
        figure.draw_without_rendering()
        wide, high = figure.get_size_inches() * figure.dpi
        ticks = [text for axes in figure.axes for text in (*axes.get_xticklabels(), *axes.get_yticklabels())]
        labels = [label for axes in figure.axes for label in (axes.xaxis.label, axes.yaxis.label)]
        for text in (*figure.texts, *(text for axes in figure.axes for text in axes.texts), *labels, *ticks):
            if text.get_text() and text.get_visible():
                assert text.get_fontsize() >= 8.0, (kind, text.get_text())
        for text in (*figure.texts, *(text for axes in figure.axes for text in axes.texts), *labels):
            box = text.get_window_extent()
            assert box.x0 >= -1, (kind, text.get_text())
            assert box.x1 <= wide + 1, (kind, text.get_text())
            assert box.y0 >= -1, (kind, text.get_text())
            assert box.y1 <= high + 1, (kind, text.get_text())
        box = figure.get_tightbbox()
        assert box.x0 >= -0.02, kind
        assert box.y0 >= -0.02, kind
        assert box.x1 <= wide / figure.dpi + 0.02, kind
        assert box.y1 <= high / figure.dpi + 0.02, kind


def test_a_text_is_drawn_and_not_interpreted(tmp_path) -> None:
    for kind, figure in figures(HOSTILE, width=PAGE).items():
        shown = [text for text in texts(figure) if "$x^2$" in text]
        assert shown, kind
        for text in shown:
            assert "\x00" not in text
            assert "\u202e" not in text
        whole = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
        assert not any(text.get_parse_math() for text in whole if "$" in text.get_text()), kind
        write_figure(figure, tmp_path / kind)


def test_figures_without_prompts_can_be_drawn(tmp_path) -> None:
    told = {"percentile": np.nan, "maximum": np.nan}
    nowhere = [
        seeds_figure([], ""),
        seeds_figure([nothing()], ""),
        evolution_figure([], ""),
        evolution_figure([nothing(), frontier(points=1)], ""),
        dataset_figure([], nothing(), "", **told),
        dataset_figure([nothing()], examples(), "", **told),
        dataset_figure([frontier()], nothing(), "", percentile=1.0, maximum=1.0),
        layers_figure([], {}, ""),
        layers_figure([3], {"dreams": np.full((1, 2), np.nan)}, ""),
        directions_figure([], [], nothing(), ""),
        *dataset_pages([], ""),
        *dataset_pages([Panel("a", [], nothing(), np.nan, np.nan)], ""),
        summary_figure([], ["overall"], ""),
        summary_figure([Bests("a", (np.nan,), (np.nan,))], ["overall"], ""),
    ]
    for figure in nowhere:
        write_figure(figure, tmp_path / "nothing")


@pytest.mark.parametrize("scale", [1e-6, 1e30])
def test_features_of_any_size_can_be_drawn(tmp_path, scale: float) -> None:
    def scaled(line: Line) -> Line:
        return Line(line.name, line.cross_entropy, line.feature * np.float32(scale))

    dreams, found = [scaled(frontier())], scaled(examples())
    for figure in (
        seeds_figure(dreams, ""),
        evolution_figure(dreams, ""),
        dataset_figure(dreams, found, "", percentile=scale, maximum=7 * scale),
        directions_figure(dreams, [found], found, "", palette=DARK),
        summary_figure([Bests("a", (scale,), (-scale,))], ["overall"], "", palette=DARK),
    ):
        write_figure(figure, tmp_path / "scaled")


def test_bytes_are_the_same_in_every_process(tmp_path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from figure_lines import examples, frontier;"
        "from epo_jax.report import dataset_figure, write_figure;"
        "write_figure(dataset_figure([frontier()], examples(), 'a', percentile=1.6, maximum=7.0), sys.argv[2])"
    )
    support = str(Path(__file__).parents[1] / "support")
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(
            [sys.executable, "-c", code, support, str(tmp_path / seed)], env=environment, check=True, timeout=120
        )
    for ending in ("png", "pdf"):
        assert (tmp_path / f"1.{ending}").read_bytes() == (tmp_path / f"2.{ending}").read_bytes()


def test_a_pdf_has_its_letters_as_embedded_truetype(tmp_path) -> None:
    files = write_figure(figures("L10.N5")["dataset"], tmp_path / "one.two")
    assert files == [tmp_path / "one.two.png", tmp_path / "one.two.pdf"]
    pdf = files[1].read_bytes()
    assert pdf.startswith(b"%PDF")
    kinds = set(re.findall(rb"/Subtype /(Type0|Type1|Type3|TrueType|CIDFontType2)", pdf))
    assert kinds == {b"Type0", b"CIDFontType2"}
    assert pdf.count(b"/FontFile2") == pdf.count(b"/Type /FontDescriptor") >= 2
    assert b"CreationDate" not in pdf
    assert b"Matplotlib" not in pdf


def test_lines_are_vectors_in_a_pdf(tmp_path) -> None:
    few = write_figure(directions_figure([frontier()], [examples()], examples(), ""), tmp_path / "few")[1].read_bytes()
    many = write_figure(directions_figure([frontier()], [], examples(6000), ""), tmp_path / "many")[1].read_bytes()
    assert b"/Subtype /Image" not in few
    assert b"/Subtype /Image" in many
    assert len(many) < 500_000
    assert any(
        b" l\n" in zlib.decompress(part) for part in re.findall(rb"stream\r?\n(x.*?)\r?\nendstream", few, re.S)[:1]
    )


def test_pages_are_one_pdf_and_a_png_each(tmp_path) -> None:
    panel = Panel("L1.N1", [frontier()], examples(), 1.6, 7.0)
    pages = dataset_pages([panel] * 13, "many")
    assert [len(page.axes) for page in pages] == [12, 1]
    files = write_figures(pages, tmp_path / "pages")
    assert [file.name for file in files] == ["pages-1.png", "pages-2.png", "pages.pdf"]
    assert files[-1].read_bytes().count(b"/Type /Page ") == 2


def test_what_cannot_be_written_is_an_oserror(tmp_path) -> None:
    with pytest.raises(OSError, match="missing"):
        write_figure(seeds_figure([frontier()], ""), tmp_path / "missing" / "a")
