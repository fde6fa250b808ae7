"""A report as people use it, in Chromium: with a pointer, a keyboard and a finger."""

from __future__ import annotations

import pytest
from browser import element, prefer, wait, window
from report_examples import EXAMPLES
from report_page import a_dot, copied, fragment, move, open_report, prompt
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By

pytestmark = pytest.mark.slow


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
    # Both the prompt and its point are in sight, though the address names a row far below.
    for part in ("#surface", "#pinned"):
        box = browser.execute_script(f"return document.querySelector('{part}').getBoundingClientRect()")
        assert 0 <= box["top"] < box["bottom"] <= 900
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
    assert len(heads) == 9
    values = "return [...table.tBodies[0].rows].map(line => line.cells[arguments[0]].dataset.value)"
    states = "return [...table.tHead.rows[0].cells].map(one => one.getAttribute('aria-sort'))"
    collated = "return arguments[0].sort(new Intl.Collator('en', {numeric: true}).compare)"
    for at, head in enumerate(heads):
        for order in ("ascending", "descending"):
            head.click()
            assert browser.execute_script(states) == [order if one == at else None for one in range(10)]
            found = browser.execute_script(values, at)
            known = [value for value in found if value != ""]
            # What a row lacks comes last both ways.
            assert found[len(known) :] == [""] * (12 - len(known))
            expected = sorted(known, key=float) if at < 7 else browser.execute_script(collated, known)
            assert known == (expected if order == "ascending" else expected[::-1])
    heads[0].click()
    assert copied(browser, "#prompt-9 button[data-copy]") == "".join(whole.frontier_tokens[8])
    lines = [line.split("\t") for line in copied(browser, "[data-copy=table]").splitlines()]
    names = "number feature scaled retokenizes cross_entropy perplexity iteration prompt continuation"
    assert lines[0] == names.split()
    assert [line[0] for line in lines[1:]] == [str(n) for n in range(1, 13)]
    assert float(lines[5][1]) == pytest.approx(whole.frontier_feature[4], rel=1e-6)
    assert lines[5][8] == " and so on"
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
    browser.execute_script("""
      const begin = setInterval.bind(window);
      window.setInterval = (action, pause) => begin(action, (window.pause = pause) && 1);
    """)
    play = element(browser, "#play")
    for motion, pause in (("no-preference", 80), ("reduce", 1500)):
        prefer(browser, reduced_motion=motion)
        play.click()
        wait(browser, "slider.value === '14' && document.getElementById('play').textContent === 'Play'")
        assert browser.execute_script("return window.pause") == pause
        assert browser.execute_script(line) == last


def test_earlier_frontiers_are_named_apart(browser, whole, page) -> None:
    # The first two are one frontier, which has one name for both.
    browser.execute_script("told.landmarks = [13, 13, 0, 5]; show(told.iterations)")
    named = browser.execute_script("return parts['names-data'].data")
    assert len({*zip(named["x"], named["y"], strict=True)}) == len(named["text"]) > 1
    assert sorted(", ".join(named["text"]).split(", ")) == ["0", "13", "13", "5"]


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
