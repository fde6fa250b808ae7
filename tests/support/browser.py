"""A Chromium without a window and without a network, and what it complained about."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait


def start() -> webdriver.Chrome:
    """A new browser; the test fails with one clear line where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.fail("needs Chromium and its driver: apt-get install chromium chromium-driver", pytrace=False)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    # No sandbox, since CI is root in a container; no name resolves, so that nothing can come from elsewhere.
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    allowed = ["clipboardReadWrite", "clipboardSanitizedWrite"]
    browser.execute_cdp_cmd("Browser.grantPermissions", {"permissions": allowed})
    return browser


def window(browser: webdriver.Chrome, width: int, height: int, phone: bool = False) -> None:
    """Gives the page a window of this size in CSS pixels."""
    told = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", told)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})


def prefer(browser: webdriver.Chrome, **features: str) -> None:
    """What the system says of the reader's taste, such as color_scheme="dark"."""
    told = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in features.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": told})


@contextlib.contextmanager
def before_pages(browser: webdriver.Chrome, script: str) -> Iterator[None]:
    """Runs a script in each page before its own."""
    told = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    yield
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", told)


def open_report(browser: webdriver.Chrome, path: Path, fragment: str = "") -> None:
    """Opens a report anew, and waits until its plot is drawn."""
    browser.get("about:blank")
    browser.get(path.as_uri() + fragment)
    wait(browser, "document.getElementById('surface').dataset.ready === 'yes'")


def wait(browser: webdriver.Chrome, condition: str) -> None:
    """Waits until an expression of JavaScript is true."""
    WebDriverWait(browser, 10, 0.02).until(lambda b: b.execute_script(f"return {condition}"), condition)


def element(browser: webdriver.Chrome, selector: str) -> WebElement:
    """The element that a CSS selector finds first."""
    return browser.find_element(By.CSS_SELECTOR, selector)


def complaints(browser: webdriver.Chrome) -> list[str]:
    """What stands in the browser's console as a warning or an error since the last call."""
    return [entry["message"] for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
