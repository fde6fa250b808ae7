"""What attribution found, as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int32
from transformers import PreTrainedTokenizerFast

from epo_jax.epo.lengths import PAD, bare
from epo_jax.models.tokenizers import texts_by_id

Texts = tuple[tuple[str, ...], ...]


@dataclasses.dataclass(frozen=True)
class Attribution:
    """What becomes of a feature when one token of a prompt is replaced; values are the feature's own, not scaled.

    Attributes:
        feature: the feature string.
        ids: int32[B, T], the optimized tokens of each prompt; where it has fewer, -1 follows, with -1 as alternatives
            and NaN as values.
        baseline: float32[B], the feature on the prompts as they are.
        alternatives: int32[B, T, K], the tokens that were put in each token's place, greatest gradient first.
        values: float32[B, T, K], the feature with each of them.
        tokens: the text of each token of each prompt.
        alternative_tokens: the text of each alternative, prompt by prompt and position by position.
    """

    feature: str
    ids: Int32[np.ndarray, "B T"]
    baseline: Float32[np.ndarray, " B"]
    alternatives: Int32[np.ndarray, "B T K"]
    values: Float32[np.ndarray, "B T K"]
    tokens: Texts
    alternative_tokens: tuple[Texts, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def drop_to_worst(self) -> Float32[np.ndarray, "B T"]:
        """How far the feature falls with the worst alternative; negative where it rises with each of them."""
        return self.baseline[:, None] - self.values.min(axis=-1)

    @property
    def drop_to_best(self) -> Float32[np.ndarray, "B T"]:
        """How far the feature falls even with the best alternative; negative where some alternative does better."""
        return self.baseline[:, None] - self.values.max(axis=-1)

    def best_first(self, prompt: int, position: int) -> Int32[np.ndarray, " K"]:
        """Ranks of the alternatives at a position of a prompt, from the greatest value to the least."""
        return np.argsort(-self.values[prompt, position], kind="stable").astype(np.int32)

    def to_pandas(self) -> pd.DataFrame:
        """A row per token of each prompt.

        Columns: prompt, position, token, feature (the baseline), drop_to_worst, worst, worst_value, drop_to_best, best,
        best_value, and as lists alternatives (texts) and values, greatest gradient first.
        """
        rows = []
        for prompt, position in np.argwhere(self.ids != PAD).tolist():
            ranks = self.best_first(prompt, position)
            texts, values = self.alternative_tokens[prompt][position], self.values[prompt, position]
            rows.append(
                {
                    "prompt": prompt,
                    "position": position,
                    "token": self.tokens[prompt][position],
                    "feature": float(self.baseline[prompt]),
                    "drop_to_worst": float(self.drop_to_worst[prompt, position]),
                    "worst": texts[ranks[-1]],
                    "worst_value": float(values[ranks[-1]]),
                    "drop_to_best": float(self.drop_to_best[prompt, position]),
                    "best": texts[ranks[0]],
                    "best_value": float(values[ranks[0]]),
                    "alternatives": list(texts),
                    "values": values.tolist(),
                }
            )
        return pd.DataFrame(rows)

    def to_json(self) -> dict[str, Any]:
        """JSON values, of each prompt as many as it has tokens; what is not finite becomes null."""
        own = [slice(len(tokens)) for tokens in self.tokens]
        return {
            "feature": self.feature,
            "prompts": [
                {
                    "ids": self.ids[prompt, own[prompt]].tolist(),
                    "tokens": list(self.tokens[prompt]),
                    "feature": _numbers(self.baseline[prompt]),
                    "drop_to_worst": _numbers(self.drop_to_worst[prompt, own[prompt]]),
                    "drop_to_best": _numbers(self.drop_to_best[prompt, own[prompt]]),
                    "alternatives": self.alternatives[prompt, own[prompt]].tolist(),
                    "alternative_tokens": [list(texts) for texts in self.alternative_tokens[prompt]],
                    "values": _numbers(self.values[prompt, own[prompt]]),
                }
                for prompt in range(len(self))
            ],
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Attribution:
        """The attribution that `to_json` gave; null becomes NaN.

        Raises:
            KeyError, ValueError, TypeError: values that are not of that form.
        """
        prompts: Sequence[Mapping[str, Any]] = values["prompts"]
        return cls(
            feature=values["feature"],
            ids=_together([one["ids"] for one in prompts], np.int32(PAD)),
            baseline=np.asarray([one["feature"] for one in prompts], np.float32),
            alternatives=_together([one["alternatives"] for one in prompts], np.int32(PAD)),
            values=_together([one["values"] for one in prompts], np.float32(np.nan)),
            tokens=tuple(tuple(one["tokens"]) for one in prompts),
            alternative_tokens=tuple(tuple(map(tuple, one["alternative_tokens"])) for one in prompts),
        )


def with_texts(
    feature: str,
    ids: Int32[np.ndarray, "B T"],
    baseline: Float32[np.ndarray, " B"],
    alternatives: Int32[np.ndarray, "B T K"],
    values: Float32[np.ndarray, "B T K"],
    tokenizer: PreTrainedTokenizerFast,
) -> Attribution:
    """An attribution with the texts that a tokenizer gives its tokens."""
    text = texts_by_id(tokenizer, np.concatenate([bare(ids), bare(alternatives)]))

    def texts(row: Int32[np.ndarray, " n"]) -> tuple[str, ...]:
        return tuple(text[token] for token in row.tolist())

    return Attribution(
        feature=feature,
        ids=ids,
        baseline=baseline,
        alternatives=alternatives,
        values=values,
        tokens=tuple(texts(bare(prompt)) for prompt in ids),
        alternative_tokens=tuple(
            tuple(map(texts, of_prompt[prompt != PAD])) for prompt, of_prompt in zip(ids, alternatives, strict=True)
        ),
    )


def _together(prompts: Sequence[Any], fill: np.generic) -> np.ndarray:
    """Values of the tokens of each prompt as one array, filled up where a prompt has fewer tokens."""
    arrays = [np.asarray(prompt, fill.dtype) for prompt in prompts]
    longest = max(map(len, arrays), default=0)
    return np.stack(
        [
            np.pad(array, ((0, longest - len(array)), *[(0, 0)] * (array.ndim - 1)), constant_values=fill)
            for array in arrays
        ]
    )


def _numbers(values: Any) -> Any:
    numbers = np.asarray(values, np.float64)
    return np.where(np.isfinite(numbers), numbers.astype(object), np.array(None)).tolist()
