"""Lines for pictures: frontiers like those of the paper, and dataset examples."""

from __future__ import annotations

import numpy as np

from epo_jax.report.line import Line

PROMPT = ("following", " column", ":", " The", "date", "*", "KK", "ril", "%).\n", " example", ",", " if")
HOSTILE = "$x^2$ \\frac{ _a ⏎ \x00\u202e\u0634 中 🙂 [b]"


def frontier(name: str = "dream", top: float = 9.9, points: int = 9, start: float = 3.0, end: float = 9.0) -> Line:
    """A concave frontier from (start, 0.5) to (end, top)."""
    along = np.linspace(0.0, 1.0, points)
    cross_entropy = start + (end - start) * along**1.2
    feature = 0.5 + (top - 0.5) * along**0.55
    return Line(name, cross_entropy.astype(np.float32), feature.astype(np.float32), (PROMPT,) * points)


def examples(count: int = 40, top: float = 6.0) -> Line:
    """Dataset examples around 4.5 nats/token, the strongest at 4.0."""
    random = np.random.default_rng(0)
    cross_entropy = random.normal(4.5, 0.6, count).astype(np.float32)
    cross_entropy[:1] = 4.0
    feature = np.linspace(top, 0.5 * top, count).astype(np.float32)
    return Line("dataset examples", cross_entropy, feature, (PROMPT,) * count)


def nothing(name: str = "none") -> Line:
    """No prompts."""
    return Line(name, np.zeros(0, np.float32), np.zeros(0, np.float32))


def texts(figure) -> list[str]:
    """All that a figure says, but numbers on axes."""
    found = [text.get_text() for text in figure.texts]
    return found + [text.get_text() for axes in figure.axes for text in axes.texts]


def drawn(axes) -> list[np.ndarray]:
    """The points of each line of axes."""
    return [np.stack(line.get_data(), axis=1).astype(np.float64) for line in axes.lines]


def is_drawn(axes, points: np.ndarray) -> bool:
    """Whether some line of the axes has just these points."""
    return any(one.shape == points.shape and np.allclose(one, points) for one in drawn(axes))
