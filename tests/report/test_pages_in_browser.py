"""Pages in Chromium: colours, hostile texts, small runs, browsers that lack something, and the index of a sweep."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from browser import before_pages, element, prefer, wait, window
from html_page import HOSTILE
from report_examples import EXAMPLES
from report_page import a_dot, copied, open_report, prompt, write
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By

from epo_jax.report.attribution_data import PromptDrops, Replacement, TokenDrops
from epo_jax.report.index_html import IndexRow, render_index

pytestmark = pytest.mark.slow


def test_colours_follow_the_choice_and_the_system(browser, page) -> None:
    colours = """
      const of = one => getComputedStyle(one).backgroundColor;
      return [of(document.body), plot.background_fill_color, of(document.getElementById("interactive"))];
    """
    light = browser.execute_script(colours)
    assert light[0] == "rgb(246, 247, 249)"
    element(browser, "#theme input[value=dark]").click()
    dark = browser.execute_script(colours)
    assert dark == ["rgb(16, 19, 24)", "#171b22", "rgb(23, 27, 34)"]
    open_report(browser, page)
    assert browser.execute_script(colours) == dark
    element(browser, "#theme input[value=auto]").click()
    assert browser.execute_script(colours) == light
    prefer(browser, color_scheme="dark")
    wait(browser, "plot.background_fill_color === '#171b22'")
    assert browser.execute_script(colours) == dark
    element(browser, "#theme input[value=light]").click()
    assert browser.execute_script(colours) == light
    element(browser, "#theme input[value=auto]").click()


def test_a_browser_that_keeps_nothing_says_so(browser, page) -> None:
    refuse = """
      const get = () => { throw new DOMException("no storage", "SecurityError"); };
      Object.defineProperty(window, "localStorage", {get});
    """
    with before_pages(browser, refuse):
        open_report(browser, page)
    element(browser, "#theme input[value=dark]").click()
    assert browser.execute_script("return plot.background_fill_color") == "#171b22"
    assert "does not let the page remember" in element(browser, "#theme").get_attribute("title")


def test_an_old_browser_has_the_table_and_is_told_why_there_is_no_plot(browser, page) -> None:
    with before_pages(browser, "delete window.DecompressionStream"):
        browser.get("about:blank")
        browser.get(page.as_uri() + "#prompt-5")
    wait(browser, "!document.getElementById('old').hidden")
    assert not element(browser, "#interactive").is_displayed()
    assert element(browser, "#pinned").is_displayed()
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert not element(browser, "#pinned").is_displayed()


def test_hostile_prompts_are_shown_and_not_run(browser, report, tmp_path) -> None:
    base = report(points=2, history=512)
    drops = tuple(TokenDrops(text, 1.0, 0.5, (Replacement(text, 0.0),), ()) for text in HOSTILE)
    data = dataclasses.replace(
        base,
        feature=HOSTILE[0],
        model=HOSTILE[3],
        frontier_tokens=(HOSTILE, HOSTILE[::-1]),
        history_ids=np.tile(np.arange(len(HOSTILE), dtype=np.int32), (512, 1)),
        token_texts=dict(enumerate(HOSTILE)),
        continuations={0: HOSTILE},
        attributions={0: PromptDrops(1.0, drops, 32)},
        examples=EXAMPLES,
        settings={HOSTILE[0]: HOSTILE[3]},
        command="".join(HOSTILE),
    )
    open_report(browser, write(data, tmp_path), "#prompt-1")
    shown = "".join(HOSTILE[:4]) + r"\x00\x07\x1b\u202egnp.exe" + HOSTILE[6]
    assert shown in element(browser, "#pinned").get_attribute("textContent")
    dot = a_dot(browser)
    browser.execute_script("point({kind: 'dot', at: arguments[0]})", dot["at"])
    tip = element(browser, "#tip")
    assert tip.is_displayed()
    assert shown in tip.get_attribute("textContent")
    assert browser.execute_script("return [document.images.length, document.scripts.length]") == [0, 5]
    text = copied(browser, "#prompt-1 button[data-copy]")
    assert r"\x1b\u202egnp.exe" in text
    assert {character for character in text if not character.isprintable()} == {"\n", "\t"}


@pytest.mark.parametrize(("points", "history"), [(0, 0), (1, 1)])
def test_small_runs_are_drawn(browser, report, tmp_path, points: int, history: int) -> None:
    open_report(browser, write(report(points=points, history=history), tmp_path))
    assert browser.execute_script("return parts['points-data'].data.x.length") == points
    assert browser.execute_script("return document.querySelectorAll('#canvas *').length") > 0


def test_without_scripts_there_is_a_picture_and_the_table(browser, whole, page) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(page.as_uri() + "?still")
        assert element(browser, "noscript img").is_displayed()
        assert not element(browser, "#interactive").is_displayed()
        assert not element(browser, "#theme").is_displayed()
        assert not any(button.is_displayed() for button in browser.find_elements(By.CSS_SELECTOR, "[data-copy]"))
        assert prompt(whole, 4) in element(browser, "#prompt-5").text
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_the_index_of_a_sweep_is_searched_and_sorted(browser, tmp_path) -> None:
    rows = [
        IndexRow(
            n, f"L{n}.N7", 0, 5.0 - n, 8.5, HOSTILE[n], 1.5 * n, 5.5, f"a dog {n}", 7, "", f"dreams/{n}/report.html"
        )
        for n in range(5)
    ]
    path = tmp_path / "index.html"
    path.write_text(render_index("tiny", rows, 9), encoding="utf-8")
    browser.get(path.as_uri())
    features = "return [...document.querySelectorAll('#rows td.f')].map(one => one.textContent)"
    assert browser.execute_script(features) == [f"L{n}.N7" for n in range(5)]
    element(browser, "th button[data-column='6']").click()
    assert browser.execute_script(features) == [f"L{n}.N7" for n in (4, 3, 2, 1, 0)]
    element(browser, "#filter").send_keys("dog 3")
    assert browser.execute_script(features) == ["L3.N7"]
    assert element(browser, "#count").text == "1 of 5"
    assert json.loads(element(browser, "#data").get_attribute("textContent"))[0][5] == HOSTILE[0]
    window(browser, 390, 844, phone=True)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
