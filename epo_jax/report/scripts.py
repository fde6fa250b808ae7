"""Scripts inside a page: packed small, and allowed by their hashes alone."""

from __future__ import annotations

import base64
import gzip
import hashlib
from functools import cache
from importlib import metadata

from markupsafe import Markup

from epo_jax.report.pages import text_of

_PARTS = (
    *("report_texts.js", "report_plot.js", "report_view.js", "report_evolution.js", "report_point.js"),
    *("report_pin.js", "report_table.js", "report.js"),
)


def digest(script: str) -> str:
    """What a content security policy must name, so that a browser runs an inline script of exactly this text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def packed(text: str) -> str:
    """The text as gzip in base64, the same for the same text; a page's script unpacks it."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


@cache
def page_script() -> str:
    """The report's own script."""
    return "\n".join(['"use strict";', *(text_of(name) for name in _PARTS)])


@cache
def theme_script() -> str:
    """What runs before the page is drawn, so that it is never seen in the wrong colours."""
    return text_of("report_theme.js")


@cache
def plotting_library() -> tuple[Markup, str]:
    """BokehJS out of the installed package: packed, and its digest."""
    # Only the file is needed; importing bokeh takes longer than to write a page.
    path = metadata.distribution("bokeh").locate_file("bokeh/server/static/js/bokeh.min.js")
    with open(str(path), encoding="utf-8", newline="") as file:
        script = file.read()
    return Markup(packed(script)), digest(script)
