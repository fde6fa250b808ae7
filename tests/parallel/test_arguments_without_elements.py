"""On several devices the compiler of jaxlib 0.11.2 dies of arguments that have no elements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import pytest

import epo_jax


def equations_of(jaxpr: Any) -> Iterator[Any]:
    """The equations of a program and of the programs inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(list(equation.params.values())):
            # Closed ones have the program inside.
            if hasattr(part := getattr(value, "jaxpr", value), "eqns"):
                yield from equations_of(part)


@pytest.fixture
def equations(tiny_folder) -> list[Any]:
    lm = epo_jax.load_model(tiny_folder, dtype="float32", mesh="data:1")
    config = epo_jax.EPOConfig(population=2, children=3, length=4, top_k=8)
    # No prefix and no suffix: neither has elements.
    algorithm = epo_jax.build(lm, epo_jax.parse_feature("L1.N5", lm), config)
    assert any(leaf.size == 0 for leaf in jax.tree.leaves(algorithm))
    state = algorithm.init(jax.random.key(0))
    program = jax.make_jaxpr(lambda algorithm, state: algorithm.advance(state, 1, 2))(algorithm, state)
    return list(equations_of(program.jaxpr))


def test_what_has_no_elements_is_no_argument_of_what_runs_on_each_device(equations):
    maps = [equation for equation in equations if equation.primitive.name == "shard_map"]
    assert maps
    assert all(argument.aval.size for one in maps for argument in one.invars)


def test_nothing_is_put_in_the_place_of_everything_whose_indices_would_become_such_an_argument(equations):
    scatters = [equation for equation in equations if equation.primitive.name.startswith("scatter")]
    assert scatters
    assert all(argument.aval.size for one in scatters for argument in one.invars)
