"""The Pareto frontier of scored prompts between feature and fluency."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int32
from transformers import PreTrainedTokenizerFast

from epo_jax.constraints import Survival
from epo_jax.dream.history import History
from epo_jax.epo.lengths import bare
from epo_jax.hull import hull_rows
from epo_jax.models.tokenizers import token_texts

# Columns that not every frontier has.
OPTIONAL = ("scaled", "activation", "retokenizes", "continuation")
# How those of them that are no arrays are read out of JSON.
_TEXTUAL: Mapping[str, Callable[[Sequence[Any]], tuple[Any, ...]]] = {
    "retokenizes": tuple,
    "continuation": lambda values: tuple(map(tuple, values)),
}


@dataclasses.dataclass(frozen=True)
class Frontier:
    """Prompts that are best for some fluency penalty, the most fluent first.

    Attributes:
        ids: int32[N, T], of a prompt of fewer tokens with -1 behind its last; tables have its tokens alone.
        text: the prompts as text.
        tokens: the text of each token of each prompt.
        feature: float32[N], ascending.
        cross_entropy: float32[N], in nats/token, ascending.
        iteration: int32[N], when each was first scored.
        scaled: float32[N], features against the search's scale; None where it had none.
        activation: float32[N], the activation of a dictionary latent, whose feature is its pre-activation; None for
            other features.
        retokenizes: whether each prompt's text, with the text around it, is tokenized to the same tokens again; None
            where that was not asked for.
        continuation: the text of each token with which the model itself goes on after each prompt and the frozen text
            behind it, the likeliest one each time; None where that was not asked for.
    """

    ids: Int32[np.ndarray, "N T"]
    text: tuple[str, ...]
    tokens: tuple[tuple[str, ...], ...]
    feature: Float32[np.ndarray, " N"]
    cross_entropy: Float32[np.ndarray, " N"]
    iteration: Int32[np.ndarray, " N"]
    scaled: Float32[np.ndarray, " N"] | None = None
    activation: Float32[np.ndarray, " N"] | None = None
    retokenizes: tuple[bool, ...] | None = None
    continuation: tuple[tuple[str, ...], ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def to_pandas(self) -> pd.DataFrame:
        """A row per prompt: feature, cross_entropy, perplexity, iteration, text, tokens, ids and what else is known."""
        table = pd.DataFrame(
            {
                "feature": self.feature,
                "cross_entropy": self.cross_entropy,
                "perplexity": np.exp(self.cross_entropy),
                "iteration": self.iteration,
                "text": list(self.text),
                "tokens": [list(tokens) for tokens in self.tokens],
                "ids": [bare(prompt).tolist() for prompt in self.ids],
            }
        )
        columns = {name: list(values) for name, values in self.more.items()}
        if self.continuation is not None:
            columns["continuation"] = [list(tokens) for tokens in self.continuation]
        return table.assign(**columns)

    @property
    def more(self) -> dict[str, Any]:
        """The columns of numbers and truths that not every frontier has."""
        columns = {name: getattr(self, name) for name in OPTIONAL if name != "continuation"}
        return {name: values for name, values in columns.items() if values is not None}


def optional_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The columns that not every frontier has, out of a table's rows."""
    known = [name for name in OPTIONAL if rows and name in rows[0]]
    columns = {name: [row[name] for row in rows] for name in known}
    return {
        name: _TEXTUAL[name](values) if name in _TEXTUAL else np.asarray(values, np.float32)
        for name, values in columns.items()
    }


def frontier_rows(history: History) -> Int32[np.ndarray, " N"]:
    """Rows of the prompts that are best for some penalty in [0, infinity), by ascending cross-entropy.

    Of rows with one prompt the first is taken. What ties at penalty 0 or without end is decided by the other value,
    so that no prompt of the frontier is dominated by another. Rows that are not finite are left out.

    Returns:
        int32[N], indices into the history.
    """
    first: dict[bytes, int] = {}
    for row in hull_rows(history.feature, history.cross_entropy, np.arange(len(history))).tolist():
        first.setdefault(history.ids[row].tobytes(), row)
    return np.asarray(list(first.values()), np.int32)


def frontier_of(history: History, tokenizer: PreTrainedTokenizerFast, survival: Survival | None = None) -> Frontier:
    """The frontier over all prompts that a run scored, with their texts, and which of them survive if that is asked."""
    rows = frontier_rows(history)
    ids = history.ids[rows]
    return Frontier(
        ids=ids,
        text=tuple(decode(tokenizer, prompt) for prompt in ids),
        tokens=tuple(tuple(token_texts(tokenizer, bare(prompt).tolist())) for prompt in ids),
        feature=history.feature[rows],
        cross_entropy=history.cross_entropy[rows],
        iteration=history.iteration[rows],
        retokenizes=None if survival is None else tuple(survival.of(ids).tolist()),
    )


def decode(tokenizer: PreTrainedTokenizerFast, ids: Int32[np.ndarray, " T"]) -> str:
    """The text of a prompt, nothing cleaned up and nothing skipped."""
    return str(tokenizer.decode(bare(ids).tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False))


def merged(frontiers: Sequence[Frontier]) -> Frontier:
    """The frontier of the prompts of several frontiers of one feature; there must be at least one."""
    pool = History(
        np.concatenate([f.ids for f in frontiers]),
        np.concatenate([f.feature for f in frontiers]),
        np.concatenate([f.cross_entropy for f in frontiers]),
        np.concatenate([f.iteration for f in frontiers]),
    )
    rows = frontier_rows(pool)
    text = [text for f in frontiers for text in f.text]
    tokens = [tokens for f in frontiers for tokens in f.tokens]
    return Frontier(
        ids=pool.ids[rows],
        text=tuple(text[row] for row in rows),
        tokens=tuple(tokens[row] for row in rows),
        feature=pool.feature[rows],
        cross_entropy=pool.cross_entropy[rows],
        iteration=pool.iteration[rows],
        **{name: _column([getattr(f, name) for f in frontiers], rows) for name in OPTIONAL},
    )


def _column(parts: Sequence[Any], rows: Int32[np.ndarray, " n"]) -> Any:
    """Rows of a column that every frontier has, else None."""
    if any(part is None for part in parts):
        return None
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)[rows]
    together = [value for part in parts for value in part]
    return tuple(together[row] for row in rows)
