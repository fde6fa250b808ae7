"""The templates of pages, and what all pages share."""

from __future__ import annotations

from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup

from epo_jax.report.tokens import pieces, plain


@cache
def template(name: str) -> jinja2.Template:
    """A page's template."""
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(text_of),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain
    environment.filters["pieces"] = pieces
    environment.globals["css"] = Markup(text_of("report.css") + text_of("attribution.css"))
    return environment.get_template(name)


def text_of(name: str) -> str:
    """A file of the package that goes into a page."""
    return resources.files("epo_jax.report").joinpath(name).read_text("utf-8")
