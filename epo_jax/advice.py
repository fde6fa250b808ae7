"""Imports transformers without its remark that PyTorch is missing, which nothing here needs; later advice is kept."""

from __future__ import annotations

import os

_SWITCH = "TRANSFORMERS_NO_ADVISORY_WARNINGS"

_before = os.environ.get(_SWITCH)
os.environ[_SWITCH] = "1"
import transformers as transformers  # noqa: E402

if _before is None:
    del os.environ[_SWITCH]
else:
    os.environ[_SWITCH] = _before
