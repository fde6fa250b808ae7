"""A report in a browser: written, opened, pointed at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from browser import element, wait
from html_page import PNG
from selenium.webdriver import ActionChains, Chrome

from epo_jax.report.data import ReportData
from epo_jax.report.html import render


def write(data: ReportData, folder: Path) -> Path:
    """Writes the report, and says where."""
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
    """A frontier prompt as a page shows it."""
    return "".join(data.frontier_tokens[row]).replace("\n", "⏎")


def fragment(browser: Chrome) -> str:
    """What stands behind the address."""
    return browser.execute_script("return location.hash")


def open_report(browser: Chrome, path: Path, fragment: str = "") -> None:
    """Opens a report anew, and waits until its plot is drawn."""
    browser.get("about:blank")
    browser.get(path.as_uri() + fragment)
    wait(browser, "document.getElementById('surface').dataset.ready === 'yes'")
