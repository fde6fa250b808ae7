"""Floating-point operations that an iteration needs, counted from shapes.

Only matrix products count, two operations for each multiplication. What a program does beyond them (norms, softmax,
rows that fill a block) makes it slower and is not counted, so the share of the ceiling says how much of the time went
into what had to be done.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
from jaxtyping import Int

from epo_jax.models.config import DecoderConfig
from epo_jax.models.decoder import abstract_decoder


@dataclasses.dataclass(frozen=True)
class Shape:
    """What decides the operations of a decoder.

    Attributes:
        layers: number of blocks.
        block: entries of one block's matrices; each is one multiplication per row.
        heads: width of all query heads together.
        vocabulary: entries of the head, and of the embedding.
    """

    layers: int
    block: int
    heads: int
    vocabulary: int


def shape_of(config: DecoderConfig) -> Shape:
    """The shape of a model, whose blocks' matrices are told by the decoder itself, whatever its family."""
    stacked = sum(
        int(np.prod(leaf.shape))
        for path, leaf in jax.tree_util.tree_leaves_with_path(abstract_decoder(config)[1]["blocks"])
        if "kernel" in jax.tree_util.keystr(path)
    )
    return Shape(
        layers=config.layers,
        block=stacked // config.layers,
        heads=config.heads * config.head_dim,
        vocabulary=config.width * config.vocab_size,
    )


@dataclasses.dataclass(frozen=True)
class Rows:
    """Tokens that go through a model, possibly an expected number of them.

    Attributes:
        blocks: rows through the blocks.
        keys: positions that these rows attend to, in all.
        head: rows through the head.
    """

    blocks: float
    keys: float
    head: float

    def __add__(self, other: Rows) -> Rows:
        return Rows(self.blocks + other.blocks, self.keys + other.keys, self.head + other.head)

    def __mul__(self, times: float) -> Rows:
        return Rows(self.blocks * times, self.keys * times, self.head * times)


@dataclasses.dataclass(frozen=True)
class Prompt:
    """The tokens of a prompt.

    Attributes:
        length: optimized tokens (T).
        prefix: frozen tokens before them.
        suffix: frozen tokens after them.
        last_logits: whether the feature needs the logits of the last token, which fluency does not.
    """

    length: int
    prefix: int = 0
    suffix: int = 0
    last_logits: bool = False

    def whole(self) -> Rows:
        """Every token of one prompt."""
        tokens = self.prefix + self.length + self.suffix
        scored = self.length - (self.prefix == 0)
        return Rows(tokens, tokens * (tokens + 1) / 2, scored + self.last_logits)

    def optimized(self) -> Rows:
        """One prompt whose prefix's keys and values are there already."""
        whole, prefix = self.whole(), self.prefix
        return Rows(whole.blocks - prefix, whole.keys - prefix * (prefix + 1) / 2, whole.head)

    def after(self, edits: Int[np.ndarray, " C"]) -> Rows:
        """Candidates, each from its edit on.

        The token at the edit is scored by its parent's logits before it, so that the head has one row less than there
        are tokens to score.
        """
        starts = self.prefix + edits.astype(np.int64)
        tokens = self.prefix + self.length + self.suffix
        return Rows(
            float((tokens - starts).sum()),
            float((tokens * (tokens + 1) // 2 - starts * (starts + 1) // 2).sum()),
            float((self.length - 1 - edits + self.last_logits).sum()),
        )

    def expected(self) -> Rows:
        """One candidate whose edit is drawn uniformly."""
        return self.after(np.arange(self.length)) * (1 / self.length)


def forward(shape: Shape, rows: Rows) -> float:
    """Operations of a pass over rows."""
    products = shape.layers * (shape.block * rows.blocks + 2 * shape.heads * rows.keys) + shape.vocabulary * rows.head
    return 2 * products


def gradients(shape: Shape, prompt: Prompt, prompts: int) -> float:
    """Operations of token gradients: forward, back to the embeddings alone, and from there to the one-hot tokens.

    Going back costs as much as going forward, since no weight has a gradient.
    """
    return prompts * (2 * forward(shape, prompt.optimized()) + 2 * prompt.length * shape.vocabulary)


def iteration(shape: Shape, prompt: Prompt, prompts: int, rows: Rows) -> float:
    """Operations of an iteration that evaluates these rows of its candidates."""
    return gradients(shape, prompt, prompts) + forward(shape, rows)
