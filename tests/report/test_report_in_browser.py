"""Reports as people use them, in Chromium: with a pointer, a keyboard, a finger, and without scripts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser as pages
import numpy as np
import pytest
from browser import before_pages, element, open_report, prefer, wait, window
from html_page import HOSTILE, PNG
from report_examples import EXAMPLES
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By

from epo_jax.report.attribution_data import PromptDrops, Replacement, TokenDrops
from epo_jax.report.data import ReportData
from epo_jax.report.html import render
from epo_jax.report.index_html import IndexRow, render_index

pytestmark = pytest.mark.slow

WORDS = tuple(f" word{n}" for n in range(50))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chrome]:
    browser = pages.start()
    yield browser
    browser.quit()


@pytest.fixture
def browser(chromium: Chrome) -> Iterator[Chrome]:
    window(chromium, 1280, 900)
    prefer(chromium, color_scheme="light")
    pages.complaints(chromium)
    yield chromium
    assert pages.complaints(chromium) == []
    assert chromium.execute_script("return performance.getEntriesByType('resource').length") == 0


@pytest.fixture(scope="module")
def whole(report: Callable[..., ReportData]) -> ReportData:
    """A run of which everything is known."""
    base = report(history=3840)
    other = ((Replacement("x", 0.5),), (Replacement("y", 0.75),))
    drops = PromptDrops(1.0, tuple(TokenDrops(text, 0.5, 0.25, *other) for text in base.frontier_tokens[4]), 32)
    return dataclasses.replace(
        base,
        history_ids=np.random.default_rng(1).integers(0, len(WORDS), (3840, 4)).astype(np.int32),
        token_texts=dict(enumerate(WORDS)),
        attributions={4: drops},
        continuations={4: (" and", " so", " on"), 0: (".",)},
        examples=EXAMPLES,
        columns={"retokenizes": [n % 3 > 0 for n in range(12)]},
    )


@pytest.fixture(scope="module")
def written(whole: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(whole, tmp_path_factory.mktemp("report"))


@pytest.fixture
def page(browser: Chrome, written: Path) -> Path:
    open_report(browser, written)
    return written


def write(data: ReportData, folder: Path) -> Path:
    path = folder / "report.html"
    path.write_text(render(data, PNG), encoding="utf-8", newline="\n")
    return path


def move(browser: Chrome, x: float, y: float) -> ActionChains:
    """To a place of the plot, in its own values, by its own scales."""
    script = """
      surface.scrollIntoView({block: "center"});
      const [left, top] = pixel(...arguments);
      return [Math.round(left - surface.clientWidth / 2), Math.round(top - surface.clientHeight / 2)];
    """
    offset = browser.execute_script(script, x, y)
    return ActionChains(browser, 0).move_to_element_with_offset(element(browser, "#surface"), *offset)


def a_dot(browser: Chrome) -> dict[str, Any]:
    """A scored prompt in sight that lies over no other."""
    script = """
      const {x, y, tokens} = told.dots, {left, right, top, bottom} = view.frame.bbox;
      const at = x.findIndex((one, at) => {
        const [a, b] = pixel(one, y[at]);
        const found = a > left && a < right && b > top && b < bottom && nearest(a, b, 1);
        return found && found.kind === "dot" && found.at === at;
      });
      return {at, x: x[at], y: y[at], text: tokens[at].map(token => told.texts[token])};
    """
    return browser.execute_script(script)


def copied(browser: Chrome, button: str) -> str:
    """What a button puts on the clipboard."""
    element(browser, button).click()
    wait(browser, f"document.querySelector('{button}').textContent === 'Copied'")
    return browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")


def prompt(data: ReportData, row: int) -> str:
    return "".join(data.frontier_tokens[row]).replace("\n", "⏎")


def fragment(browser: Chrome) -> str:
    return browser.execute_script("return location.hash")


def test_what_is_pointed_at_is_told_and_a_click_pins_it(browser, whole, page) -> None:
    x, y = float(whole.frontier_cross_entropy[4]), float(whole.frontier_feature[4])
    move(browser, x, y).perform()
    tip = element(browser, "#tip")
    assert prompt(whole, 4) in tip.text
    assert len(tip.find_elements(By.CSS_SELECTOR, ".t")) == 12
    assert tip.find_element(By.CSS_SELECTOR, ".number").text == "5"
    move(browser, x, y).click().perform()
    pinned = element(browser, "#pinned")
    assert fragment(browser) == "#prompt-5"
    assert prompt(whole, 4) in pinned.text
    assert pinned.find_element(By.CSS_SELECTOR, ".goes .prompt").get_attribute("textContent") == " and so on"
    assert len(pinned.find_elements(By.CSS_SELECTOR, ".strip .token")) == 12
    assert element(browser, "#prompt-5").get_attribute("aria-current") == "true"
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(set(ids)) == len(ids)
    dot = a_dot(browser)
    move(browser, dot["x"], dot["y"]).perform()
    assert len(dot["text"]) == 4
    # A space at a token's edge and its word are two pieces.
    assert " ".join(word for _, word in dot["text"]) in tip.text
    move(browser, EXAMPLES.rows[0].isolated_cross_entropy, EXAMPLES.rows[0].isolated_activation).perform()
    assert "a time" in element(browser, "#tip").text
    assert fragment(browser) == "#prompt-5"
    browser.execute_script("hide()")
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert not element(browser, "#pinned").is_displayed()
    assert fragment(browser) == ""
    assert not browser.find_elements(By.CSS_SELECTOR, "tr.pinned")


def test_a_link_to_a_prompt_pins_it(browser, whole, page) -> None:
    open_report(browser, page, "#prompt-3")
    assert prompt(whole, 2) in element(browser, "#pinned").text
    marked = browser.execute_script("return parts['pinned-data'].data.x[0]")
    assert marked == pytest.approx(whole.frontier_cross_entropy[2], rel=1e-5)
    browser.execute_script("location.hash = '#prompt-7'")
    wait(browser, "pinned === 6")
    # Names that are no prompts pin nothing.
    for other in ("#prompt-99", "#x\"'<img>"):
        open_report(browser, page, other)
        assert not element(browser, "#pinned").is_displayed()


def test_a_keyboard_is_enough(browser, whole, page) -> None:
    def press(*keys: str) -> None:
        ActionChains(browser, 0).send_keys(*keys).perform()

    for _ in range(12):
        press(Keys.TAB)
        if browser.execute_script("return document.activeElement === surface"):
            break
    assert browser.execute_script("return document.activeElement === surface")
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert browser.execute_script(outline) == "solid"
    press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert prompt(whole, 1) in element(browser, "#tip").text
    assert "Prompt 2 of 12" in element(browser, "#said").get_attribute("textContent")
    press(Keys.END)
    assert "KKKK" in element(browser, "#tip").text
    press(Keys.ENTER)
    assert fragment(browser) == "#prompt-12"
    before = browser.execute_script("return [parts.x.start, parts.x.end]")
    press("+")
    closer = browser.execute_script("return [parts.x.start, parts.x.end]")
    assert closer[1] - closer[0] < 0.7 * (before[1] - before[0])
    press("0")
    assert browser.execute_script("return [parts.x.start, parts.x.end]") == before
    press(Keys.ESCAPE)
    assert fragment(browser) == ""
    # From the table: Enter on a row's number, and Escape back to it.
    browser.execute_script("document.querySelector('#prompt-4 a').focus()")
    press(Keys.ENTER)
    assert fragment(browser) == "#prompt-4"
    assert browser.execute_script("return document.activeElement.textContent") == "Pinned 4"
    press(Keys.ESCAPE)
    assert browser.execute_script("return document.activeElement.textContent") == "4"


def test_the_table_sorts_by_every_head_and_copies(browser, whole, page) -> None:
    heads = browser.find_elements(By.CSS_SELECTOR, "#frontier thead button")
    assert len(heads) == 8
    values = "return [...table.tBodies[0].rows].map(line => line.cells[arguments[0]].dataset.value)"
    states = "return [...table.tHead.rows[0].cells].map(one => one.getAttribute('aria-sort'))"
    collated = "return arguments[0].sort(new Intl.Collator('en', {numeric: true}).compare)"
    for at, head in enumerate(heads):
        for order in ("ascending", "descending"):
            head.click()
            assert browser.execute_script(states) == [order if one == at else None for one in range(9)]
            found = browser.execute_script(values, at)
            known = [value for value in found if value != ""]
            # What a row lacks comes last both ways.
            assert found[len(known) :] == [""] * (12 - len(known))
            expected = sorted(known, key=float) if at < 6 else browser.execute_script(collated, known)
            assert known == (expected if order == "ascending" else expected[::-1])
    heads[0].click()
    assert copied(browser, "#prompt-9 button[data-copy]") == "".join(whole.frontier_tokens[8])
    lines = [line.split("\t") for line in copied(browser, "[data-copy=table]").splitlines()]
    names = "number feature retokenizes cross_entropy perplexity iteration prompt continuation"
    assert lines[0] == names.split()
    assert [line[0] for line in lines[1:]] == [str(n) for n in range(1, 13)]
    assert float(lines[5][1]) == pytest.approx(whole.frontier_feature[4], rel=1e-6)
    assert lines[5][7] == " and so on"
    assert copied(browser, "[data-copy=command]") == whole.command


def test_the_frontier_of_each_iteration_can_be_seen(browser, whole, page) -> None:
    line = "return [...parts['line-data'].data.y]"
    last = browser.execute_script(line)
    assert last == pytest.approx(whole.frontier_feature, rel=1e-5)
    slider = element(browser, "#iteration")
    slider.send_keys(Keys.HOME)
    first = browser.execute_script(line)
    initial = whole.history_feature[whole.history_iteration == 0]
    assert max(first) == pytest.approx(initial.max(), rel=1e-5)
    assert element(browser, "#moment").text.startswith("0 of 14")
    assert browser.execute_script("return parts['dots-data'].data.x.length") == (whole.history_iteration == 0).sum()
    slider.send_keys(Keys.ARROW_RIGHT)
    assert slider.get_attribute("value") == "1"
    assert "1 of 14" in slider.get_attribute("aria-valuetext")
    slider.send_keys(Keys.END)
    assert browser.execute_script(line) == last
    element(browser, "#play").click()
    wait(browser, "slider.value === '14' && document.getElementById('play').textContent === 'Play'")
    assert browser.execute_script(line) == last


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


def test_the_page_scrolls_by_the_wheel_until_the_plot_is_clicked(browser, whole, page) -> None:
    state = "return [parts.x.start, parts.x.end, scrollY]"
    surface = element(browser, "#surface")
    move(browser, 6.0, 1.0).perform()
    before = browser.execute_script(state)
    ActionChains(browser, 0).scroll_from_origin(ScrollOrigin.from_element(surface), 0, 120).perform()
    wait(browser, f"scrollY > {before[2]}")
    assert browser.execute_script(state)[:2] == before[:2]
    move(browser, 6.0, 1.0).click().perform()
    before = browser.execute_script(state)
    ActionChains(browser, 0).scroll_from_origin(ScrollOrigin.from_element(surface), 0, -120).perform()
    wait(browser, f"parts.x.end - parts.x.start < {0.95 * (before[1] - before[0])}")
    assert browser.execute_script(state)[2] == before[2]
    # Dragging moves what is seen, and pins nothing.
    start = browser.execute_script(state)
    ActionChains(browser, 0).move_to_element(surface).click_and_hold().move_by_offset(-80, 0).release().perform()
    assert browser.execute_script(state)[0] > start[0]
    assert fragment(browser) == ""
    element(browser, "#home").click()
    assert browser.execute_script(state)[:2] == before[:2]


def test_a_phone_shows_all_without_scrolling_sideways_and_a_tap_pins(browser, whole, page) -> None:
    window(browser, 390, 844, phone=True)
    open_report(browser, page)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    x, y = float(whole.frontier_cross_entropy[8]), float(whole.frontier_feature[8])
    script = """
      surface.scrollIntoView({block: "center"});
      const {left, top} = surface.getBoundingClientRect(), [x, y] = pixel(...arguments);
      return [left + x, top + y];
    """
    left, top = browser.execute_script(script, x, y)
    finger = ActionBuilder(browser, mouse=PointerInput("touch", "finger"), duration=0)
    finger.pointer_action.move_to_location(round(left), round(top)).pointer_down().pointer_up()
    finger.perform()
    wait(browser, "location.hash === '#prompt-9'")
    box = browser.execute_script("return tip.getBoundingClientRect()")
    assert 0 <= box["left"] < box["right"] <= 390
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.execute_script("return getComputedStyle(surface).touchAction") == "pan-y pinch-zoom"


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
