"""Iterations whose children are looked at on the host before they are scored: what does not survive is drawn anew."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import jax
import numpy as np
from jax import Array
from jaxtyping import Int32, Integer, Key

from epo_jax.constraints.host_tables import HostTables
from epo_jax.constraints.survival import Survival
from epo_jax.epo import Algorithm, Info, State
from epo_jax.epo.step import ALTERNATIVES
from epo_jax.epo.work import UNSCORED
from epo_jax.errors import EpoError
from epo_jax.parallel.placing import fetched

# Times that alternatives are drawn before a child is given up.
ROUNDS = 8
# Tokens that are tried at a position of a random prompt, and prompts that are begun.
TRIES, BEGINNINGS = 200, 10


def checked_step(algorithm: Algorithm, survival: Survival, state: State) -> tuple[State, Info]:
    """One iteration in which only children that survive are scored.

    Each child is the first of its alternatives that survives; without one it is left out.

    Args:
        algorithm: a search that is checked.
        survival: says which prompts survive.
        state: where to start; its memory is given away.
    """
    proposed, drawn = algorithm.propose(state)
    operator, length = drawn.operator, algorithm.length
    children: Int32[np.ndarray, "C T"] | None = None
    for number in range(ROUNDS if algorithm.redraws else 1):
        if number:
            drawn = algorithm.redraw(state, proposed, number * ALTERNATIVES)
        ids = np.asarray(fetched(drawn.ids))
        offered = ids.reshape(-1, *ids.shape[-2:])
        if children is None:
            children = np.full((len(offered), length), UNSCORED, np.int32)
        # Those that nothing can be made for are never asked for again.
        open_ = (children[:, 0] == UNSCORED) & (offered[:, 0, 0] != UNSCORED)
        for alternative in range(offered.shape[1]):
            left = np.flatnonzero(open_ & (children[:, 0] == UNSCORED) & (offered[:, alternative, 0] != UNSCORED))
            if len(left):
                fine = left[survival.of(offered[left, alternative])]
                children[fine] = offered[fine, alternative]
        if not (open_ & (children[:, 0] == UNSCORED)).any():
            break
    assert children is not None
    shape = (*state.iteration.shape, -1, length)
    return algorithm.finish(state, proposed, children.reshape(shape), operator)


def surviving_prompts(algorithm: Algorithm, survival: Survival, key: Key[Array, "*R"]) -> Int32[np.ndarray, "*R P T"]:
    """Random initial prompts that survive: those that the search draws, with tokens replaced from left to right.

    Args:
        algorithm: the search.
        survival: says which prompts survive.
        key: what all of the run's randomness is a function of; one for each dream.

    Raises:
        EpoError: none was found.
    """
    ids = np.array(fetched(algorithm.random_ids(key)))
    prompts = ids.reshape(-1, algorithm.length)
    seeds = np.asarray(fetched(jax.random.key_data(key))).reshape(-1, 2).tolist()
    fails = ~survival.of(prompts)
    if fails.any():
        tables = HostTables(algorithm)
        for number in np.flatnonzero(fails):
            dream, slot = divmod(int(number), ids.shape[-2])
            rng = np.random.default_rng([*seeds[dream], slot])
            prompts[number] = _mended(prompts[number], tables, survival, rng)
    return ids


def _mended(
    prompt: Int32[np.ndarray, " T"], tables: HostTables, survival: Survival, rng: np.random.Generator
) -> Int32[np.ndarray, " T"]:
    length = len(prompt)
    for beginning in range(BEGINNINGS):
        made, state = np.zeros(length, np.int32), tables.start
        for position in range(length):
            usable = tables.usable(state, position)
            first = prompt[position : position + 1] if beginning == 0 else usable[:0]
            for token in _tried(first[np.isin(first, usable)], usable, rng):
                made[position] = token
                # Up to the last position what follows cannot be known.
                if survival.looked_up(made[None, : position + 1], whole=position == length - 1)[0]:
                    break
            else:
                break
            state = tables.after(state, int(made[position]))
        else:
            return made
    raise EpoError(
        f"--retokenize=reject: found no prompt of {length} tokens that is tokenized to the same tokens again, with the "
        "text around it; give --init_text, ban less, or use --retokenize=mark"
    )


def _tried(
    first: Integer[np.ndarray, " m"], usable: Integer[np.ndarray, " n"], rng: np.random.Generator
) -> Iterator[int]:
    return itertools.chain(map(int, first), map(int, rng.choice(usable, TRIES)))
