from __future__ import annotations

import numpy as np
import pytest

from epo_jax.report.labels import break_lines, choose, place


def test_labels_are_few_and_hold_the_required_ones() -> None:
    points = np.stack([np.linspace(3, 9, 100), np.linspace(0, 1, 100) ** 0.5], axis=1)
    chosen = choose(points, [0, 37, 99], 12)
    assert len(chosen) == 12
    assert {0, 37, 99} <= set(chosen)
    assert chosen == sorted(chosen)


@pytest.mark.parametrize("crowd", [1.0, 0.1, 0.01])
def test_labels_overlap_neither_one_another_nor_points_nor_edges(crowd: float) -> None:
    along = np.linspace(0, 1, 12)
    points = np.stack([200 + 300 * crowd * along, 100 + 150 * crowd * along**0.5], axis=1)
    centres = place(points, range(12), (600.0, 400.0), radius=7.5)
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=-1) + 1e9 * np.eye(12)
    assert gaps.min() >= 15
    assert np.linalg.norm(centres[:, None] - points[None], axis=-1).min() >= 7.5
    assert centres.min() >= 7.5
    assert (centres[:, 0] <= 592.5).all()
    assert (centres[:, 1] <= 392.5).all()


def test_long_prompts_keep_both_ends() -> None:
    lines = break_lines([5] * 100, 20, 3)
    items = [item for line in lines for item, _ in line]
    assert len(lines) == 3
    assert items[0] == 0
    assert items[-1] == 99
    assert items.count(-1) == 1
    assert all(start + (5 if item >= 0 else 3) <= 20 for line in lines for item, start in line)
