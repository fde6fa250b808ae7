"""Settings of a search that a command line changes, as name=value;name=value, since values may hold commas."""

from __future__ import annotations

import ast
import dataclasses
from typing import Any

import epo_jax
from epo_jax.errors import EpoError


def parse_options(text: str) -> dict[str, Any]:
    """The settings that a text names: numbers, True, False, None, and words.

    Raises:
        EpoError: a part that is not name=value, a setting that there is not, or one that is given twice.
    """
    known = [field.name for field in dataclasses.fields(epo_jax.EPOConfig)]
    found: dict[str, Any] = {}
    for part in filter(None, text.split(";")):
        name, equals, value = part.partition("=")
        if not equals or name not in known:
            raise EpoError(f"--search_options={part}: must be name=value, the name one of {', '.join(known)}")
        if name in found:
            raise EpoError(f"--search_options: {name} is given twice")
        found[name] = _value(value)
    return found


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
