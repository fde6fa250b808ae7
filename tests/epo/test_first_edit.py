from __future__ import annotations

import jax
import numpy as np


def test_children_are_their_parents_before_the_first_edit_and_others_there(toy):
    algorithm = toy(restart_every=0)
    state = algorithm.init(jax.random.key(0))
    for _ in range(3):
        new, info = algorithm.step(state)
        parents = np.repeat(np.asarray(state.ids), algorithm.children, axis=0)
        differs = np.asarray(info.ids) != parents
        assert (differs.sum(axis=1) == 1).all()
        assert np.array_equal(differs.argmax(axis=1), info.first_edit)
        state = new


def test_iterations_on_the_device_tell_the_same_edits(toy):
    algorithm = toy(restart_every=2)
    state = algorithm.init(jax.random.key(1))
    _, infos = algorithm.advance(algorithm.init(jax.random.key(1)), 3, 4)
    for number in range(3):
        state, info = algorithm.step(state)
        assert np.array_equal(info.first_edit, infos.first_edit[number])
