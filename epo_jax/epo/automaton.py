"""Texts that no prompt may hold, as a table of states on the device: what may stand where is known before it is drawn.

It knows numbers of tokens alone; who makes the table knows their texts.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Int32, Integer

from epo_jax.axes import PRNGKey, Prompts, Vocabulary


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Automaton:
    """States that tokens lead through, Q of them.

    Attributes:
        table: uint8 or uint16[Q, V], the state after each token.
        start: int32[], the state before the first optimized token.
        bad: bool[Q], states that no prompt may end in; one that stands for a text found is never left again.
        open: bool[T + 1, Q], before each position, and after the last one, the states that allowed tokens can lead
            from to a good end.
    """

    table: Integer[Array, "Q V"]
    start: Int32[Array, ""]
    bad: Bool[Array, " Q"]
    open: Bool[Array, "positions Q"]

    def after(self, state: Int32[Array, "*N"], tokens: Int32[Array, "*N"]) -> Int32[Array, "*N"]:
        """The states after tokens."""
        return self.table[state, tokens].astype(jnp.int32)

    def breaks(self, ids: Int32[Array, "N T"], lengths: Int32[Array, " N"] | None = None) -> Bool[Array, " N"]:
        """Which prompts hold a text that they may not hold; of those of fewer tokens than T, with their lengths."""

        def read(state: Int32[Array, " N"], at: tuple[Int32[Array, " N"], Int32[Array, ""]]) -> tuple[Array, None]:
            tokens, position = at
            after = self.after(state, tokens)
            return after if lengths is None else jnp.where(position < lengths, after, state), None

        start = jnp.broadcast_to(self.start, ids.shape[:1])
        last, _ = jax.lax.scan(read, start, (ids.T, jnp.arange(ids.shape[1], dtype=jnp.int32)))
        return self.bad[last]

    def usable(self, ids: Int32[Array, "N T"]) -> Bool[Array, "N T V"]:
        """Which tokens may stand at each position while all others stay: those that leave the prompt without a text."""
        start = jnp.broadcast_to(self.start, ids.shape[:1])
        _, before = jax.lax.scan(lambda state, tokens: (self.after(state, tokens), state), start, ids.T)

        def earlier(good: Bool[Array, "N Q"], tokens: Int32[Array, " N"]) -> tuple[Array, Array]:
            return jnp.take_along_axis(good, self.table[:, tokens].T.astype(jnp.int32), axis=1), good

        # From which states the tokens after each position lead to a good end.
        end = jnp.broadcast_to(~self.bad, (ids.shape[0], self.bad.shape[0]))
        _, good = jax.lax.scan(earlier, end, ids.T, reverse=True)

        def position(both: tuple[Int32[Array, " N"], Bool[Array, "N Q"]]) -> Bool[Array, "N V"]:
            state, good = both
            return jnp.take_along_axis(good, self.table[state].astype(jnp.int32), axis=1)

        return jnp.moveaxis(jax.lax.map(position, (before, good)), 0, 1)

    def random_prompts(self, key: PRNGKey, allowed: Vocabulary, population: int, length: int) -> Prompts:
        """Prompts of tokens drawn one after the other, uniformly from those that can still lead to a good end."""

        def prompt(slot: Int32[Array, ""]) -> Int32[Array, " T"]:
            slot_key = jax.random.fold_in(key, slot)

            def token(state: Int32[Array, ""], position: Int32[Array, ""]) -> tuple[Array, Array]:
                ranks = jnp.cumsum(allowed & self.open[position + 1][self.table[state]])
                draw = jax.random.randint(jax.random.fold_in(slot_key, position), (), 0, jnp.maximum(ranks[-1], 1))
                drawn = jnp.searchsorted(ranks, draw, side="right").astype(jnp.int32)
                return self.after(state, drawn), drawn

            return jax.lax.scan(token, self.start, jnp.arange(length, dtype=jnp.int32))[1]

        return jax.vmap(prompt)(jnp.arange(population))
