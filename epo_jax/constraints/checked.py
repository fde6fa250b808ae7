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
    ids = np.asarray(fetched(state.ids))
    parents = np.repeat(ids.reshape(-1, algorithm.length), algorithm.children, axis=0)
    choice = np.full(len(parents), -1, np.int32)
    for number in range(ROUNDS):
        first = number * ALTERNATIVES
        if number:
            drawn = algorithm.redraw(state, proposed, first)
        positions, tokens = (
            np.asarray(edits).reshape(-1, ALTERNATIVES) for edits in fetched((drawn.positions, drawn.tokens))
        )
        for alternative in range(ALTERNATIVES):
            left = np.flatnonzero((choice < 0) & (positions[:, 0] >= 0))
            if not len(left):
                break
            children = parents[left]
            children[np.arange(len(left)), positions[left, alternative]] = tokens[left, alternative]
            choice[left[survival.of(children)]] = first + alternative
        if not ((choice < 0) & (positions[:, 0] >= 0)).any():
            break
    return algorithm.finish(state, proposed, choice.reshape(*ids.shape[:-2], -1))


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
            dream, slot = divmod(int(number), algorithm.population)
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
