"""Evolutionary Prompt Optimization (arXiv 2402.01702) as data and pure functions.

An `Algorithm` is a pytree: parameters, features and settings are leaves, shapes are static. Its methods hand it to
jitted functions of this module, so that two algorithms of one shape share one compilation. It may run several dreams,
which share everything but their features and keys; inside, states always have the axis R of dreams.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Int32, Integer, Key
from numpy.typing import ArrayLike

from epo_jax.epo import step
from epo_jax.epo.beam import beam
from epo_jax.epo.search import DATA_AXIS, Search
from epo_jax.epo.state import Alternatives, Info, Proposed, State
from epo_jax.errors import EpoError
from epo_jax.parallel.placing import placed

WHOLE, SHARED = PartitionSpec(), PartitionSpec(DATA_AXIS)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Algorithm(Search):
    """A search and what can be done with it."""

    def random_ids(self, key: Key[Array, "*R"]) -> Int32[Array, "*R n T"]:
        """The random prompts that `init` starts from where it is given none."""
        return _random_ids(self, key)

    def init(self, key: Key[Array, "*R"], ids: Int32[Array, "*#R n T"] | None = None) -> State:
        """The scored initial population.

        Args:
            key: what all of the run's randomness is a function of; one for each dream.
            ids: int32[P, T] to start from, or one such array for each dream; by default uniformly drawn allowed tokens.
                More of them, n = 2 P, 3 P, ..., are those of the later beginnings of a guided search.

        Raises:
            EpoError: no ids, where the constraints ask for some.
        """
        if ids is None and self.movable is not None:
            raise EpoError("--freeze: these positions keep their initial tokens, which --init_text or others must give")
        if ids is None and self.checked:
            raise EpoError("--retokenize=reject: prompts are looked at on the host; give init some that survive")
        return _init(self, key, ids)

    def beam(self, key: Key[Array, "*R"]) -> Int32[Array, "*R n T"]:
        """Prompts to start from that a beam writes token by token, see `epo_jax.epo.beam`.

        Raises:
            EpoError: the search has no guide, or positions that keep their tokens.
        """
        if self.guide is None or self.movable is not None:
            raise EpoError("--beam: writes whole prompts for a search with --search=best, without --freeze")
        return _beam(self, key)

    def best_of(self, ids: Int32[Array, "*R N T"]) -> Int32[Array, "*R n T"]:
        """Of many prompts those that the slots of a guided search would take, to start from.

        Raises:
            EpoError: the search has no guide.
        """
        if self.guide is None:
            raise EpoError("--search=paper: starts from random prompts, not from the best of many")
        return _best_of(self, ids)

    def step(self, state: State) -> tuple[State, Info]:
        """One iteration: gradients, children, scores, selection.

        Raises:
            EpoError: children are to be looked at before they are scored.
        """
        self._check_unchecked()
        return _step(self, state)

    def advance(self, state: State, steps: int | Int32[Array, ""], capacity: int) -> tuple[State, Info]:
        """Several iterations on the device without a visit to the host.

        Args:
            state: where to start; its memory is given to the new state, so that it cannot be used again.
            steps: iterations to make, at most the capacity; traced, so that its value causes no compilation.
            capacity: rows of the returned infos, a leading axis; those from `steps` on are empty.

        Raises:
            EpoError: children are to be looked at before they are scored.
        """
        self._check_unchecked()
        return _advance(self, state, self._placed(steps), capacity)

    def propose(self, state: State) -> tuple[Proposed, Alternatives]:
        """The first half of an iteration whose children are looked at: gradients, and alternatives for each child."""
        return _propose(self, state)

    @property
    def redraws(self) -> bool:
        """Whether there are more alternatives than `propose` gives."""
        return self.guide is None

    def redraw(self, state: State, proposed: Proposed, first: int) -> Alternatives:
        """As many alternatives again, from the one of this number on, if the search `redraws`."""
        return _redraw(self, state, proposed, self._placed(first))

    def finish(
        self, state: State, proposed: Proposed, ids: ArrayLike, operator: Int32[Array, "*R C"] | None = None
    ) -> tuple[State, Info]:
        """The second half: the children that were chosen are scored and selected from.

        Args:
            state: that which was proposed from; its memory is given to the new state.
            proposed: what the first half left on the devices.
            ids: int32[C, T], or [R, C, T], the children; -1 in the place of one that is left out.
            operator: what the alternatives say made them; None where they say nothing.
        """
        return _finish(self, state, proposed, self._placed(ids), operator)

    def trace_advance(self, state: State, capacity: int) -> jax.stages.Traced:
        """What an iteration's scoring runs for these shapes, to be compiled ahead of time; nothing is given away.

        It is `advance`, or `finish` where children are looked at.
        """
        if self.checked:
            proposed, drawn = self.propose(state)
            ids = np.zeros((*state.iteration.shape, self.population * self.children, self.length), np.int32)
            return _finish.trace(self, state, proposed, self._placed(ids), drawn.operator)
        # Described, not made: these devices may be anywhere, or be planned for alone.
        steps = jax.ShapeDtypeStruct((), jnp.int32, sharding=self._everywhere)
        return _advance.trace(self, state, steps, capacity)

    def _placed(self, numbers: ArrayLike | Array) -> Integer[Array, "..."]:
        # Asked for here, since inside the jitted call it would be a transfer that nobody asked for.
        if isinstance(numbers, jax.Array):
            return numbers
        whole, everywhere = np.asarray(numbers, np.int32), self._everywhere
        if everywhere is None:
            return jax.device_put(whole)
        return cast("Array", placed(whole, everywhere))

    @property
    def _everywhere(self) -> NamedSharding | None:
        return None if self.mesh is None else NamedSharding(self.mesh, WHOLE)

    def _check_unchecked(self) -> None:
        if self.checked:
            raise EpoError(
                "--retokenize=reject: an iteration is propose, a look at the children on the host, and finish, as "
                "`dream` does it"
            )


def _everywhere(algorithm: Algorithm, function: Any, *arguments: Any, given: Any = WHOLE, made: Any = WHOLE) -> Any:
    """Call a function of (search, device, ...) on each device of the mesh.

    Args:
        algorithm: the search.
        function: to be called.
        arguments: its others.
        given: how these lie on the devices; whole copies by default.
        made: the same for the results.
    """
    if algorithm.mesh is None:
        return function(algorithm, 0, *arguments)

    # Leaves without elements, such as no prefix, are made inside: the compiler of jaxlib 0.11.2 dies of such arguments.
    leaves, structure = jax.tree.flatten(algorithm)
    specs = [spec for spec, leaf in zip(_specs(algorithm), leaves, strict=True) if leaf.size]

    def local(handed: list[Any], *arguments: Any) -> Any:
        rest = iter(handed)
        own = [next(rest) if leaf.size else jnp.zeros(leaf.shape, leaf.dtype) for leaf in leaves]
        return function(jax.tree.unflatten(structure, own), jax.lax.axis_index(DATA_AXIS), *arguments)

    given = given if isinstance(given, tuple) else (given,) * len(arguments)
    found = jax.shard_map(
        local,
        mesh=algorithm.mesh,
        in_specs=(specs, *given),
        out_specs=made,
        axis_names={DATA_AXIS},
        check_vma=False,
    )([leaf for leaf in leaves if leaf.size], *arguments)
    if algorithm.model_parts == 1:
        return found
    # Otherwise the compiler chooses how results lie over the other axis, and the next call is compiled for that.
    if made is WHOLE:
        return _pinned(algorithm, found)
    return tuple(_pinned(algorithm, one) if lies is WHOLE else one for one, lies in zip(found, made, strict=True))


def _specs(algorithm: Algorithm) -> list[PartitionSpec]:
    """How each leaf lies over the axis of the data."""
    count, of_scorer = len(jax.tree.leaves(algorithm)), len(jax.tree.leaves(algorithm.scorer))
    # The scorer is the first of the fields.
    return [*(algorithm.lies or (WHOLE,) * of_scorer), *(WHOLE,) * (count - of_scorer)]


def _pinned(algorithm: Algorithm, tree: Any) -> Any:
    everywhere = algorithm._everywhere
    return tree if everywhere is None else jax.lax.with_sharding_constraint(tree, everywhere)


def _stacked(algorithm: Algorithm, tree: Any) -> Any:
    return tree if algorithm.dreams is not None else jax.tree.map(lambda leaf: leaf[None], tree)


def _plain(algorithm: Algorithm, tree: Any, axis: int = 0) -> Any:
    return tree if algorithm.dreams is not None else jax.tree.map(lambda leaf: jnp.squeeze(leaf, axis), tree)


@jax.jit
def _random_ids(algorithm: Algorithm, key: Key[Array, "*R"]) -> Int32[Array, "*R n T"]:
    ids = _everywhere(algorithm, lambda search, _, keys: step.random_ids(search, keys), _stacked(algorithm, key))
    return _plain(algorithm, ids)


@jax.jit
def _beam(algorithm: Algorithm, key: Key[Array, "*R"]) -> Int32[Array, "*R n T"]:
    ids = _everywhere(algorithm, lambda search, _, keys: beam(search, keys), _stacked(algorithm, key))
    return _plain(algorithm, ids)


@jax.jit
def _best_of(algorithm: Algorithm, ids: Int32[Array, "*R N T"]) -> Int32[Array, "*R n T"]:
    return _plain(algorithm, _everywhere(algorithm, step.best_of, _stacked(algorithm, ids)))


@jax.jit
def _init(algorithm: Algorithm, key: Key[Array, "*R"], ids: Int32[Array, "*#R n T"] | None) -> State:
    keys = _stacked(algorithm, key)
    if ids is not None:
        ids = jnp.broadcast_to(ids, (keys.shape[0], *ids.shape[-2:]))
    state = _everywhere(algorithm, lambda search, _, *rest: step.initial(search, *rest), keys, ids)
    return _plain(algorithm, state)


@jax.jit
def _step(algorithm: Algorithm, state: State) -> tuple[State, Info]:
    return _plain(algorithm, _everywhere(algorithm, step.iterate, _stacked(algorithm, state)))


@functools.partial(jax.jit, static_argnames="capacity", donate_argnames="state")
def _advance(algorithm: Algorithm, state: State, steps: Int32[Array, ""], capacity: int) -> tuple[State, Info]:
    advance = functools.partial(step.advance, capacity=capacity)
    state, infos = _everywhere(algorithm, advance, _stacked(algorithm, state), steps)
    return _plain(algorithm, state), _plain(algorithm, infos, axis=1)


@jax.jit
def _propose(algorithm: Algorithm, state: State) -> tuple[Proposed, Alternatives]:
    proposed, drawn = _everywhere(algorithm, step.propose, _stacked(algorithm, state), made=(SHARED, WHOLE))
    return proposed, _plain(algorithm, drawn)


@jax.jit
def _redraw(algorithm: Algorithm, state: State, proposed: Proposed, first: Int32[Array, ""]) -> Alternatives:
    arguments = _stacked(algorithm, state), proposed, first
    return _plain(algorithm, _everywhere(algorithm, step.redraw, *arguments, given=(WHOLE, SHARED, WHOLE)))


@functools.partial(jax.jit, donate_argnames="state")
def _finish(
    algorithm: Algorithm,
    state: State,
    proposed: Proposed,
    ids: Int32[Array, "*R C T"],
    operator: Int32[Array, "*R C"] | None,
) -> tuple[State, Info]:
    arguments = _stacked(algorithm, state), proposed, _stacked(algorithm, ids), _stacked(algorithm, operator)
    return _plain(algorithm, _everywhere(algorithm, step.finish, *arguments, given=(WHOLE, SHARED, WHOLE, WHOLE)))
