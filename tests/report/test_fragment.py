"""A result in a notebook's cell: read as HTML, with nothing run and nothing reaching outside."""

from __future__ import annotations

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from epo_jax.report.data import ReportData
from epo_jax.report.fragment import render_fragment

HOSTILE = "<script>alert(1)</script>\"'&\u202e\x07"


class Page(HTMLParser):
    """Elements, their attributes, and all text but styles."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.styles = "", ""
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in ("line", "circle", "polyline"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        if self._open and self._open[-1] == "style":
            self.styles += data
        else:
            self.text += data

    def of(self, tag, **attributes):
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]


@pytest.fixture
def data() -> ReportData:
    return ReportData(
        feature="L1.N2",
        model="tiny",
        frontier_feature=np.asarray([-0.5, 2.0, 3.5], np.float32),
        frontier_cross_entropy=np.asarray([3.0, 5.5, 9.0], np.float32),
        frontier_tokens=((" a", "b"), (" the", "\n"), (HOSTILE, "c")),
        frontier_iteration=np.asarray([0, 4, 7]),
        history_feature=np.asarray([-0.5, 2.0, 3.5, np.nan], np.float32),
        history_cross_entropy=np.asarray([3.0, 5.5, 9.0, 1.0], np.float32),
        history_iteration=np.asarray([0, 4, 7, 7]),
        settings={},
        versions={},
        command="",
        continuations={0: (" goes", "\n", HOSTILE)},
    )


def test_the_table_has_each_prompt_with_its_numbers_and_the_best_ones_marked(data):
    page = Page(render_fragment(data))
    assert len(page.of("tr")) == 4
    for text in ("L1.N2", "tiny", "3 prompts on the frontier out of 4 scored in 7 iterations", "−0.50", "3.50", "9.00"):
        assert text in page.text
    assert len(page.of("bdi", **{"class": "t"})) == 6
    assert [len(page.of("tr", **{"class": kind})) for kind in ("best", "fluent")] == [1, 1]
    assert [len(page.of("circle", **{"class": kind})) for kind in ("best", "fluent")] == [1, 1]
    assert "the model goes on" in page.text
    assert " goes⏎" in page.text.replace("·", " ")


def test_the_picture_has_a_point_for_each_prompt_inside_its_frame(data):
    page = Page(render_fragment(data))
    width, height = map(float, page.of("svg")[0]["viewbox"].split()[2:])
    places = [(float(point["cx"]), float(point["cy"])) for point in page.of("circle")]
    assert len(places) == 3
    assert all(0 < x < width and 0 < y < height for x, y in places)
    # More fluent to the left, stronger above.
    assert sorted(places) == places
    assert sorted((y for _, y in places), reverse=True) == [y for _, y in places]


def test_what_prompts_hold_is_shown_and_not_run(data):
    html = render_fragment(dataclasses.replace(data, feature=HOSTILE, model=HOSTILE, stopped=HOSTILE))
    page = Page(html)
    assert not page.of("script")
    assert "<script>alert(1)</script>" in page.text
    assert "\u202e" not in html.replace(HOSTILE, "")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on") or name == "id"]
    assert not re.search(r"(src|href|url\()", html)


def test_styles_reach_nothing_outside_it(data):
    selectors = re.findall(r"([^{}]+)\{[^{}]*\}", Page(render_fragment(data)).styles)
    assert len(selectors) > 20
    for selector in ",".join(selectors).split(","):
        assert selector.strip().startswith(".epo-jax-result"), selector


def test_an_empty_frontier_and_one_of_a_single_prompt_are_shown(data):
    none = {name: getattr(data, name)[:0] for name in vars(data) if name.startswith("frontier_")}
    page = Page(render_fragment(dataclasses.replace(data, **none, continuations={})))
    assert not page.of("svg")
    assert "0 prompts on the frontier" in page.text
    one = {name: getattr(data, name)[1:2] for name in vars(data) if name.startswith("frontier_")}
    page = Page(render_fragment(dataclasses.replace(data, **one, continuations={})))
    assert len(page.of("circle")) == 1
    assert "the model goes on" not in page.text
