"""Scores of candidates of which only the tokens from the first edit on are run.

A candidate equals its parent before its first edited token, and attention is causal, so keys, values, surprisals and
feature values of those tokens are the parent's. The remaining rows of many candidates are packed densely into blocks.
Whatever happens to each row by itself is done on packed rows; only attention, a hundredth of the work, puts them back
into a rectangle of candidates and tokens, in which parents' keys and values fill the places before the edit.

Rows whose next token is scored come first in a block, then the rows that only the feature needs (the last token, the
suffix), those of deeper features first: above the feature's layer nothing reads them, and the traced number of rows
leaves them out. The head runs on the first kind alone, unless the feature reads its output, and features look only at
those rows of it that they read, which stand together.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int32

from epo_jax.epo.scorer import Candidates, Scores
from epo_jax.features.base import LOGITS, NEXT, OUTSIDE, Feature, Kept
from epo_jax.models.decoder import PATTERN, Block, KeysValues, Layer, turns_at
from epo_jax.parallel.mesh import DATA
from epo_jax.scoring.forward import empty_kept, features_for, observer_of, rows_of_logits, surprisal
from epo_jax.scoring.packing import block_of, in_chunks, most_candidates
from epo_jax.scoring.parents import ParentRows

if TYPE_CHECKING:
    from epo_jax.scoring.scorer import LanguageModelScorer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Part:
    """Candidates of one block.

    Attributes:
        ids: int32[A, T].
        parent: int32[A].
        dream: int32[A].
        first: int32[A], the first token that is run.
        length: int32[A], optimized tokens; 0 for a place that holds no candidate.
    """

    ids: Int32[Array, "A T"]
    parent: Int32[Array, " A"]
    dream: Int32[Array, " A"]
    first: Int32[Array, " A"]
    length: Int32[Array, " A"]


def suffix_scores(
    scorer: LanguageModelScorer,
    parents: ParentRows,
    candidates: Candidates,
    first_edit: Int32[Array, " C"],
    length: Int32[Array, " C"],
) -> Scores:
    """Scores of candidates against their parents' rows, block after block; see `LanguageModelScorer.evaluate`."""
    count, capacity = candidates.ids.shape[0], scorer.blocks.rows
    width = candidates.ids.shape[1] + scorer.after
    first = jnp.clip(first_edit, 0, jnp.maximum(length - 1, 0))
    rows = jnp.where(length > 0, length + scorer.after - first, 0)
    block = block_of(rows, width, capacity)
    most = most_candidates(count, width, capacity)
    everything = Part(candidates.ids, candidates.parent, candidates.dream, first, length)
    # So that a slice of `most` candidates from any of them on stays inside.
    padded, block_padded = jax.tree.map(lambda a: jnp.concatenate([a, a[:most]]), (everything, block))

    def one(number: Array, scores: Scores) -> Scores:
        start = jnp.searchsorted(block, number).astype(jnp.int32)
        part, its_block = jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, most), (padded, block_padded))
        # Neighbours beyond the block are here without rows; what is written for them the next blocks write again.
        here = (its_block == number) & (start + jnp.arange(most) < count)
        part = dataclasses.replace(part, length=jnp.where(here, part.length, 0))
        new = _block_scores(scorer, parents, part)
        return jax.tree.map(lambda a, b: jax.lax.dynamic_update_slice_in_dim(a, b, start, 0), scores, new)

    nothing = jnp.zeros(count + most, jnp.float32)
    trips = block[-1] + 1
    if scorer.decoder.in_parts:
        # Devices put layers together with each other, so all run the blocks of the one that has most of them.
        trips = jax.lax.pmax(trips, DATA)
    scores = jax.lax.fori_loop(0, trips, one, Scores(nothing, nothing))
    return jax.tree.map(lambda a: a[:count], scores)


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Where the rows of a block stand: `source` [B] in the rectangle [A, W], and `rank` [A, W] in the block.

    Of the `scored` first rows the features read the last `read_scored`, and the `read_beyond` rows behind those.
    """

    source: Int32[Array, " B"]
    rank: Int32[Array, "A W"]
    scored: Int32[Array, ""]
    depth: Int32[Array, "A W"]
    read_scored: Int32[Array, ""]
    read_beyond: Int32[Array, ""]

    def needed(self, layer: Int32[Array, ""]) -> Int32[Array, ""]:
        """Rows that a layer has to run."""
        return self.scored + (self.depth >= layer).sum(dtype=jnp.int32)


def _block_scores(scorer: LanguageModelScorer, parents: ParentRows, part: Part) -> Scores:
    decoder, config = scorer.decoder, scorer.decoder.config
    chunks, before = scorer.blocks.chunks, len(scorer.prefix)
    tokens = scorer.after_prefix(part.ids, part.dream, part.length)
    many, width = tokens.shape
    rows = _rows(scorer, part, width)
    of_rows, axis = features_for(scorer.features, part.dream[rows.source // width])
    per_row = of_rows if axis == 0 else None
    positions = before + rows.source % width
    turns = turns_at(config.rotary, positions)
    column = jnp.arange(width)
    parental = (column < part.first[:, None])[..., None, None]

    def observed(per_row: Feature | None) -> Any:
        return observer_of(of_rows if per_row is None else per_row, axis)

    def advance(block: Block, layer: Layer, carry: Any, past: KeysValues | None) -> tuple[Any, None]:
        x, kept, queries, own = carry
        count = rows.needed(layer.number)

        def enter(inputs: Any, outputs: Any) -> Any:
            x, turns, per_row = inputs
            queries, own, kept = block.enter(x, turns, layer, observed(per_row).at(layer.number), outputs[2])
            return queries, own, kept

        queries, own, kept = in_chunks(enter, count, chunks, (x, turns, per_row), (queries, own, kept))
        everyone = jax.tree.map(
            lambda mine, theirs: jnp.where(parental, theirs[part.parent, layer.number], mine[rows.rank]),
            own,
            parents.keys_values,
        )
        z, pattern = block.attention.mix(queries[rows.rank], everyone, layer, past)
        z = z.reshape(many * width, *z.shape[2:])
        pattern = pattern.reshape(many * width, *pattern.shape[2:])

        def leave(inputs: Any, outputs: Any) -> Any:
            source, per_row = inputs
            x, kept = outputs
            tap = observed(per_row).at(layer.number)
            if PATTERN in scorer.features.sites:
                kept = tap(kept, PATTERN, pattern[source])
            return block.leave(x, z[source], tap, kept)

        x, kept = in_chunks(leave, count, chunks, (rows.source, per_row), (x, kept))
        return (x, kept, queries, own), None

    x = decoder.embed(tokens.reshape(-1)[rows.source], positions)
    size = x.shape[0]
    heads = jnp.zeros((size, config.heads, config.head_dim), x.dtype)
    kv = jnp.zeros((size, config.kv_heads, config.head_dim), x.dtype)
    kept = empty_kept(of_rows, axis, (size,))
    past = None if scorer.past is None else scorer.past.keys_values
    (x, kept, _, _), _ = decoder.scan(advance, (x, kept, heads, KeysValues(kv, kv)), past)
    nats, kept = _head(scorer, rows, tokens, x, kept, of_rows, axis)

    def whole(own: Array, theirs: Array) -> Array:
        mask = (column < part.first[:, None]).reshape(many, width, *(1,) * (own.ndim - 1))
        return jnp.where(mask, theirs[part.parent], own[rows.rank])

    values = jax.vmap(lambda feature, kept: feature.value(kept), (axis, 0))(of_rows, kept)
    feature = scorer.totals(jax.tree.map(whole, values, parents.values), part.dream, part.length)
    if not scorer.fluency:
        return Scores(feature, jnp.zeros_like(feature))
    return Scores(feature, _cross_entropy(scorer, parents, part, nats[rows.rank]))


def _rows(scorer: LanguageModelScorer, part: Part, width: int) -> _Rows:
    layers, column = scorer.decoder.config.layers, jnp.arange(width)
    ends = jnp.where(part.length > 0, part.length + scorer.after, 0)
    active = (column >= part.first[:, None]) & (column < ends[:, None])
    scored = active & (column < part.length[:, None] - 1) & scorer.fluency
    read = scorer.reading.places(part.length, len(scorer.prefix), scorer.after, width).of(scorer.features.reads)
    last_read = jnp.where(read, column, -1).max(axis=1, keepdims=True)
    # A row behind the scored ones serves the feature alone: up to its layer, and if it is read there or later.
    features, axis = features_for(scorer.features, part.dream)
    depth = jnp.broadcast_to(
        features.depth if axis is None else jax.vmap(lambda f: f.depth)(features), part.dream.shape
    )
    depth = jnp.clip(depth, -1, layers)[:, None]
    depth = jnp.where(active & ~scored & (column <= last_read), depth, -1)
    # Scored rows first, then the others by depth; where the two kinds meet stand those that are read.
    never = 2 * (layers + 3)
    order = jnp.where(scored, read, jnp.where(depth >= 0, 2 + 2 * (layers - depth) + ~read, never))
    size = max(scorer.blocks.rows, order.size)
    source = jnp.argsort(order.reshape(-1), stable=True).astype(jnp.int32)
    rank = jnp.zeros(order.size, jnp.int32).at[source].set(jnp.arange(order.size, dtype=jnp.int32))
    source = jnp.pad(source, (0, size - order.size))[: scorer.blocks.rows]
    return _Rows(
        source=source,
        rank=jnp.minimum(rank, scorer.blocks.rows - 1).reshape(order.shape),
        scored=scored.sum(dtype=jnp.int32),
        depth=depth,
        read_scored=(scored & read).sum(dtype=jnp.int32),
        read_beyond=((depth >= 0) & read).sum(dtype=jnp.int32),
    )


def _head(
    scorer: LanguageModelScorer,
    rows: _Rows,
    tokens: Int32[Array, "A W"],
    x: Float[Array, "B D"],
    kept: Kept,
    of_rows: Feature,
    axis: int | None,
) -> tuple[Array, Kept]:
    """Nats of each scored row's next token, and what is kept after rows that are read showed their logits."""
    decoder = scorer.decoder.with_whole_head()
    layers = jnp.int32(decoder.config.layers)
    next_tokens = jnp.pad(tokens[:, 1:], ((0, 0), (0, 1))).reshape(-1)[rows.source]
    limit = rows_of_logits(decoder.config.vocab_size)
    sizes = tuple(size for size in scorer.blocks.chunks if size <= limit)
    if not sizes and x.shape[0] > limit:
        sizes = (limit,)

    def score(inputs: Any, _: Any) -> Array:
        x, following = inputs
        return surprisal(decoder.unembed(decoder.norm(x)), following)[0]

    nats = jnp.zeros(x.shape[0], jnp.float32)
    if not set(scorer.features.sites) & set(OUTSIDE):
        return in_chunks(score, rows.scored, sizes, (x, next_tokens), nats), kept

    def score_and_show(inputs: Any, _: Any) -> tuple[Array, Kept]:
        x, following, kept, per_row = inputs
        logits = decoder.unembed(decoder.norm(x))
        observe = observer_of(of_rows if per_row is None else per_row, axis).at(layers)
        nats = surprisal(logits, following)[0]
        return nats, observe(observe(kept, LOGITS, logits), NEXT, -nats)

    per_row = of_rows if axis == 0 else None
    inputs = (x, next_tokens, kept, per_row)
    if not sizes:
        return score_and_show(inputs, None)
    unread = rows.scored - rows.read_scored
    nats = in_chunks(score, unread, sizes, (x, next_tokens), nats)
    return in_chunks(score_and_show, rows.read_scored + rows.read_beyond, sizes, inputs, (nats, kept), unread)


def _cross_entropy(scorer: LanguageModelScorer, parents: ParentRows, part: Part, nats: Array) -> Array:
    """Mean nats of scored tokens: the parent's before the edit, the edit's by the parent's row, then its own."""
    width = part.ids.shape[1]
    token = jnp.arange(width)
    edit = part.first[:, None]
    edited = jnp.take_along_axis(part.ids, edit, axis=1)[:, 0]
    logit = scorer.decoder.logit(parents.predictors[part.parent, part.first], edited)
    at_edit = parents.normalizer[part.parent, part.first] - logit
    own = jnp.pad(nats[:, : width - 1], ((0, 0), (1, 0)))
    theirs = parents.surprisal[part.parent]
    each = jnp.where(token < edit, theirs, jnp.where(token == edit, at_edit[:, None], own))
    scored = (token >= scorer.first_scored) & (token < part.length[:, None])
    return jnp.where(scored, each, 0).sum(axis=1) / jnp.maximum(scored.sum(axis=1), 1)
