from __future__ import annotations

import base64
import hashlib
import json
import re
import time

from html_page import HOSTILE, Page

from epo_jax.report.index_html import IndexRow, render_index


def row(number: int, **changes: object) -> IndexRow:
    values = {
        "number": number,
        "feature": f"L1.N{number}",
        "seed": 0,
        "best": 5.25,
        "best_cross_entropy": 8.5,
        "best_text": " the fox",
        "fluent": 3.5,
        "fluent_cross_entropy": 5.5,
        "fluent_text": "a dog",
        "frontier": 7,
        "error": "",
        "link": f"dreams/000000/L1.N{number}/report.html",
    }
    return IndexRow(**{**values, **changes})  # type: ignore[arg-type]


def data_of(text: str) -> list[list[object]]:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_page_holds_every_row_with_its_numbers_and_link():
    told = data_of(render_index("tiny", [row(0), row(1, error="not finite", fluent=None, fluent_text="")], 3))
    assert told[0] == [
        0,
        "L1.N0",
        0,
        5.25,
        8.5,
        "·the fox",
        3.5,
        5.5,
        "a dog",
        7,
        "",
        "dreams/000000/L1.N0/report.html",
    ]
    assert told[1][6] is None
    assert told[1][10] == "not finite"


def test_hostile_text_stays_text_and_only_the_pages_own_script_may_run():
    text = render_index(
        HOSTILE[0], [row(n, feature=one, best_text=one, error=one) for n, one in enumerate(HOSTILE)], 99
    )
    elements = Page(text).elements
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert sum(tag == "script" for tag, _ in elements) == 2
    policy = next(a["content"] for _, a in elements if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; ")
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    assert data_of(text)[0][1] == HOSTILE[0]
    text.encode()


def test_the_page_needs_nothing_else():
    text = render_index("tiny", [row(0)], 1)
    for tag, attributes in Page(text).elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form", "img"}
        assert not {"src", "href", "action"} & set(attributes)
    assert "url(" not in text
    assert "innerHTML" not in text


def test_what_is_not_done_and_what_failed_are_counted_and_seeds_are_shown_where_they_differ():
    one = Page(render_index("tiny", [row(0), row(1, error="no")], 5))
    assert "2 of 5 dreams are done, 1 of them failed" in one.text
    assert any("hidden" in a for tag, a in one.elements if tag == "th")
    two = Page(render_index("tiny", [row(0), row(1, seed=4)], 2))
    assert not any("hidden" in a for tag, a in two.elements if tag == "th")


def test_numbers_that_are_not_finite_are_left_out():
    told = data_of(render_index("tiny", [row(0, best=float("nan"), fluent=float("inf"))], 1))
    assert (told[0][3], told[0][6]) == (None, None)


def test_ten_thousand_rows_are_a_few_megabytes_and_quickly_written():
    started = time.monotonic()
    text = render_index("tiny", [row(number) for number in range(10_000)], 10_000)
    assert time.monotonic() - started < 10
    assert len(text) < 4e6
