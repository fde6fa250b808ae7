"""Which points of a frontier to number, where to put the numbers, and how to break a list of tokens into lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

# Degrees; the empty side of a frontier (less cross-entropy, more feature) first.
_ANGLES = (135, 115, 155, 95, 175, 75, 195, 55, 215, 315, 295, 335)


def choose(points: Float[np.ndarray, "n 2"], required: Sequence[int], limit: int) -> list[int]:
    """At most `limit` indices (more if more are required), ascending: the required ones, then the farthest apart."""
    chosen = list(dict.fromkeys(required))
    if len(points) <= limit:
        return list(range(len(points)))
    chosen = chosen or [0]
    span = np.ptp(points, axis=0)
    scaled = points / np.where(span > 0, span, 1.0)
    while len(chosen) < limit:
        gaps = np.linalg.norm(scaled[:, None] - scaled[None, chosen], axis=-1).min(axis=1)
        gaps[chosen] = -1.0
        chosen.append(int(np.argmax(gaps)))
    return sorted(chosen)


def place(
    points: Float[np.ndarray, "n 2"],
    labelled: Sequence[int],
    size: tuple[float, float],
    radius: float,
    line: Float[np.ndarray, "m 2"] | None = None,
) -> Float[np.ndarray, "k 2"]:
    """Centres of round labels of `radius` beside their points: clear of one another, of all points and of the edges.

    They are clear too of the line through the points, or of `line` where that is given. Points, size of the frame
    (its corner at 0, 0), radius and result share one unit of length. Where no place is clear, the clearest one is
    taken.
    """
    through = points if line is None else line
    placed: list[tuple[float, float]] = []
    for index in labelled:
        best, best_slack = (0.0, 0.0), -math.inf
        for reach in np.arange(1.9, 9.0, 0.6) * radius:
            for angle in np.deg2rad(_ANGLES):
                x = float(points[index, 0] + reach * np.cos(angle))
                y = float(points[index, 1] + reach * np.sin(angle))
                others = [math.hypot(x - a, y - b) - 2.15 * radius for a, b in placed]
                dots = float(np.hypot(points[:, 0] - x, points[:, 1] - y).min()) - 1.5 * radius
                strokes = _distance_to_line(through, x, y) - 1.1 * radius
                edge = min(x, y, size[0] - x, size[1] - y) - 1.1 * radius
                slack = min(dots, strokes, edge, *others)
                if slack > best_slack:
                    best, best_slack = (x, y), slack
                if slack >= 0:
                    break
            if best_slack >= 0:
                break
        placed.append(best)
    return np.array(placed).reshape(-1, 2)


def spread(values: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Where labels of lines at these values go: in the same order, `gap` apart, within low and high if they fit.

    Values, gap, limits and result share one unit of length.
    """
    order = sorted(range(len(values)), key=lambda index: values[index])
    gap = min(gap, (high - low) / max(len(values) - 1, 1))
    groups: list[tuple[float, int]] = []  # the middle of labels that touch, and how many they are
    for index in order:
        middle, count = float(values[index]), 1
        while True:
            half = gap * (count - 1) / 2
            middle = min(max(middle, low + half), high - half)
            if not groups or groups[-1][0] + gap * (groups[-1][1] + count) / 2 <= middle + 1e-9:
                break
            before, others = groups.pop()
            middle, count = (before * others + middle * count) / (others + count), others + count
        groups.append((middle, count))
    placed = [middle + gap * (place - (count - 1) / 2) for middle, count in groups for place in range(count)]
    return [place for _, place in sorted(zip(order, placed, strict=True))]


def break_lines(widths: Sequence[int], columns: int, limit: int) -> list[list[tuple[int, int]]]:
    """Items of the given widths set in lines of `columns`, as (item, start column); item -1 stands for left-out ones.

    Where more than `limit` lines would be needed, items are left out of the middle: both ends of a prompt matter,
    its last token most.
    """
    items = list(range(len(widths)))
    lines = _set(items, widths, columns)
    if len(lines) <= limit:
        return lines
    for dropped in range(1, len(items)):
        head = (len(items) - dropped) // 2
        kept = [*items[:head], -1, *items[head + dropped :]]
        lines = _set(kept, widths, columns)
        if len(lines) <= limit:
            break
    return lines


def _set(items: Sequence[int], widths: Sequence[int], columns: int) -> list[list[tuple[int, int]]]:
    lines: list[list[tuple[int, int]]] = [[]]
    column = 0
    for item in items:
        width = widths[item] if item >= 0 else 3
        if column and column + width > columns:
            lines.append([])
            column = 0
        lines[-1].append((item, column))
        column += width
    return lines


def _distance_to_line(points: Float[np.ndarray, "n 2"], x: float, y: float) -> float:
    """The distance from (x, y) to the polyline through the points."""
    if len(points) < 2:
        return math.inf
    start, step = points[:-1], np.diff(points, axis=0)
    length = np.maximum((step**2).sum(axis=1), 1e-12)
    along = np.clip(((np.array([x, y]) - start) * step).sum(axis=1) / length, 0.0, 1.0)
    nearest = start + along[:, None] * step
    return float(np.hypot(nearest[:, 0] - x, nearest[:, 1] - y).min())
