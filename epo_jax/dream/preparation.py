"""What a search starts with: its first state, or the one that an earlier part of the run left."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jaxtyping import Int32, Key

from epo_jax.config import EPOConfig
from epo_jax.constraints import Survival, surviving_prompts
from epo_jax.dream.chunks import CAPACITY, GENERATOR, state_of
from epo_jax.dream.memory import fitted, rows_of, with_rows
from epo_jax.dream.resuming import Kept
from epo_jax.dream.start_pool import start_pool
from epo_jax.dream.starts import Keep
from epo_jax.epo import Algorithm, State
from epo_jax.errors import EpoError
from epo_jax.models import LanguageModel
from epo_jax.parallel import replicated
from epo_jax.parallel.placing import fetched
from epo_jax.scoring import Template

_LOG = logging.getLogger(__name__)


def first_state(
    algorithm: Algorithm, seeds: Sequence[int], prompts: Int32[np.ndarray, "*R P T"] | None, rejects: Survival | None
) -> State:
    """The scored initial prompts of dreams.

    Args:
        algorithm: of R dreams.
        seeds: of each.
        prompts: to start from; None for random ones.
        rejects: says which random ones may stay; None for all.
    """
    keys = _keys(algorithm, seeds)
    if prompts is None and rejects is not None and algorithm.movable is None:
        prompts = surviving_prompts(algorithm, rejects, keys)
    ids = None if prompts is None else jnp.asarray(prompts)
    if algorithm.mesh is not None:
        ids = replicated(ids, algorithm.mesh)
    return algorithm.init(keys, ids)


def guided_starts(
    lm: LanguageModel,
    algorithm: Algorithm,
    config: EPOConfig,
    seeds: Sequence[int],
    template: Template = Template(),  # noqa: B008 (a frozen dataclass)
    keep: Keep | None = None,
) -> Int32[np.ndarray, "R n T"] | None:
    """What dreams of a guided search start from: a beam's prompts, or the best of many; None for random ones.

    Where constraints look at whole prompts, which a beam does not have before its end, samples stand in its place.

    Args:
        lm: the model.
        algorithm: the search.
        config: its settings.
        seeds: of the dreams.
        template: frozen text.
        keep: which prompts may stay.

    Raises:
        EpoError: a beam was asked for where there can be none, or too few samples may stay.
    """
    if config.options is None:
        return None
    looked_at = algorithm.automaton is not None or algorithm.movable is not None or algorithm.checked
    if config.beam and looked_at:
        raise EpoError(
            "--beam: writes prompts token by token, and --ban_text, --freeze and --retokenize=reject look at whole "
            "ones; give --nobeam, and samples of the model are taken"
        )
    if algorithm.movable is not None:
        # Tokens that stay are never to be drawn ones; the search asks for its own.
        return None
    if config.options.beam and not looked_at:
        return np.asarray(fetched(algorithm.beam(_keys(algorithm, seeds))))
    pool = start_pool(lm, config, seeds, template, np.asarray(algorithm.allowed), keep)
    if pool is None:
        return None
    ids = jnp.asarray(pool)
    return np.asarray(fetched(algorithm.best_of(ids if algorithm.mesh is None else replicated(ids, algorithm.mesh))))


def _keys(algorithm: Algorithm, seeds: Sequence[int]) -> Key[Array, " R"]:
    keys = jax.vmap(lambda seed: jax.random.key(seed, impl=GENERATOR))(jnp.asarray(seeds, jnp.uint32))
    return keys if algorithm.mesh is None else replicated(keys, algorithm.mesh)


def kept_state(kept: Kept, mesh: Mesh | None) -> State:
    """The state that an earlier part of a run left, on the devices of this one."""
    # Copies, since a state's memory is given away.
    state = state_of({name: jnp.array(array, copy=True) for name, array in kept.state.items()})
    return state if mesh is None else replicated(state, mesh)


def with_room(algorithm: Algorithm, state: State, kept: Kept | None, here: Mapping[str, Any]) -> Algorithm:
    """The algorithm with blocks that there is memory for; with those of a run's earlier part where they still fit.

    Args:
        algorithm: with as large blocks as it may have.
        state: where it will start.
        kept: what the earlier part left.
        here: `ran_on` of this part.
    """
    if kept is not None and kept.told["ran_on"] == here and kept.told["rows"] <= rows_of(algorithm):
        algorithm = with_rows(algorithm, kept.told["rows"])
    return fitted(algorithm, state, CAPACITY)


def ran_on(versions: Mapping[str, str], mesh: str) -> dict[str, str]:
    """What decides a run's last digits beside what was asked for, as checkpoints keep it."""
    return {**versions, "mesh": mesh or "none"}


def tell_changes(kept: Kept, here: Mapping[str, str], rows: int) -> None:
    """Say in a line what is not as in a run's earlier part."""
    before = {**kept.told["ran_on"], "rows of a block": kept.told["rows"]}
    now = {**here, "rows of a block": rows}
    changed = [f"{name} {before.get(name)} (now {value})" for name, value in now.items() if before.get(name) != value]
    if changed:
        _LOG.warning(
            "the run goes on after iteration %d with %s: values may differ in their last digits from those of a run "
            "that was never stopped",
            kept.iteration,
            ", ".join(changed),
        )
