from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from epo_jax.report.data import ReportData

PROMPTS = (
    (" of", " the", " first", " column", " in", " the", " table", ":", "\n", "The", " date", ","),
    (" the", " following", " column", ":", " The", " date", " of", " the", " example", ",", " for", " if"),
    ("In", " the", " following", " column", ":", " The", "date", " is", " an", " example", ",", " if"),
    ("In", " the", " following", " column", ":", " The", "date", "*", " is", " example", ",", " if"),
    ("the", " following", " column", ":", " The", "date", "*", "KK", " in", " example", ",", " if"),
    ("following", " column", ":", " The", "date", "*", "KK", "ril", "%).", " example", ",", " if"),
    ("following", " column", ":", " $", "date", "$", "KK", "ril", "%).", " example", ",", " if"),
    ("following", " column", "\\xe2", " The", "date", "\t", "KK", "ril", "%).", " example", ",", " if"),
    ("following", "Column", "::", " 中文", "date", "*", "KK", "ril", "%).", " example", ",", " if"),
    ('="', "Column", "::", " The", "日期", "*", "KK", "ril", "%).", "Example", ",", " if"),
    ("</", "Column", "::", "\n\n", "DATE", "*", "KK", "ril", "%).", "Example", ",,", " if"),
    ("</", "Column", "🙂", "\r\n", "DATE", "*", "KKKK", "ril", "%).", "Example", ",,", " If"),
)


def make(points: int = 12, history: int = 3840, **changes: Any) -> ReportData:
    """A run like those of the paper: a concave frontier from 3 to 9 nats, a cloud below it, random starts far out."""
    random = np.random.default_rng(0)
    along = np.array([0.5]) if points == 1 else np.linspace(0.0, 1.0, points)
    cross_entropy = (3.1 + 5.8 * along**1.2).astype(np.float32)
    feature = (0.5 + 9.4 * along**0.55).astype(np.float32)
    iteration = np.repeat(np.arange(history // 256 + 1), 256)[:history].astype(np.int32)
    progress = iteration / max(int(iteration.max(initial=0)), 1)
    cloud_x = np.clip(random.normal(12.5 - 6.5 * np.sqrt(progress), 1.0), 3.2, None)
    ceiling = 0.5 + 9.4 * np.clip((cloud_x - 3.1) / 5.8, 0, 1) ** (0.55 / 1.2)
    cloud_y = ceiling * random.beta(1.2 + 5 * progress, 2.2) - 0.3
    values: dict[str, Any] = {
        "feature": "L10.N5",
        "model": "EleutherAI/pythia-12b",
        "frontier_feature": feature,
        "frontier_cross_entropy": cross_entropy,
        "frontier_tokens": tuple(PROMPTS[i % len(PROMPTS)] for i in range(points)),
        "frontier_iteration": np.linspace(290, 12, points).astype(np.int64),
        "history_feature": cloud_y.astype(np.float32),
        "history_cross_entropy": cloud_x.astype(np.float32),
        "history_iteration": iteration,
        "settings": {"iterations": 300, "population": 8, "children": 32, "lambda_min": 0.1, "template": None},
        "versions": {"epo_jax": "0.1.0", "jax": "0.10.2"},
        "command": 'python -m epo_jax.dream --model=EleutherAI/pythia-12b --feature="L10.N5" --seed=0',
    }
    return ReportData(**(values | changes))


@pytest.fixture(scope="session")
def report() -> Callable[..., ReportData]:
    return make
