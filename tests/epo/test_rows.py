from __future__ import annotations

import jax
import numpy as np


def test_children_differ_from_their_parents_in_one_token_and_rows_from_there_on_are_counted(toy):
    algorithm = toy(restart_every=0)
    state = algorithm.init(jax.random.key(0))
    for _ in range(3):
        new, info = algorithm.step(state)
        parents = np.repeat(np.asarray(state.ids), algorithm.children, axis=0)
        differs = np.asarray(info.ids) != parents
        assert (differs.sum(axis=1) == 1).all()
        # A parent with its gradient counts as three forward passes.
        assert int(info.rows) == 3 * 4 * 5 + (5 - differs.argmax(axis=1)).sum()
        state = new


def test_iterations_on_the_device_tell_the_same_rows(toy):
    algorithm = toy(restart_every=2)
    state = algorithm.init(jax.random.key(1))
    _, infos = algorithm.advance(algorithm.init(jax.random.key(1)), 3, 4)
    for number in range(3):
        state, info = algorithm.step(state)
        assert int(info.rows) == int(infos.rows[number])
