"""What a method scored, in order, and what it had cost until then."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from epo_jax.errors import EpoError, one_line


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """All prompts that were scored, in order.

    Attributes:
        ids: int32[N, T], of a prompt of fewer tokens with -1 behind its last.
        feature: float32[N], the feature's own values.
        cross_entropy: float32[N], nats/token.
        rows: int64[N], rows of tokens that had been run when the prompt's score was known; never falls.
        seconds: float64[N], likewise, without compilation.
    """

    ids: Int32[np.ndarray, "N T"]
    feature: Float32[np.ndarray, " N"]
    cross_entropy: Float32[np.ndarray, " N"]
    rows: Int64[np.ndarray, " N"]
    seconds: Float64[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.ids)

    def until(self, budget: int) -> Trace:
        """The prompts whose scores were known within so many rows."""
        count = int(np.searchsorted(self.rows, budget, side="right"))
        return Trace(*(value[:count] for value in self._arrays()))

    def save(self, path: Path) -> None:
        """Write it as an .npz file.

        Raises:
            OSError: it cannot be written.
        """
        with path.open("wb") as file:
            np.savez_compressed(file, **vars(self))

    @classmethod
    def load(cls, path: Path) -> Trace:
        """Read what `save` wrote.

        Raises:
            EpoError: a file that cannot be read, or holds something else.
        """
        try:
            with np.load(path) as file:
                return cls(*(file[field.name] for field in dataclasses.fields(cls)))
        except (OSError, ValueError, KeyError) as error:
            raise EpoError(f"{path}: is no trace of a search ({one_line(error)})") from error

    @classmethod
    def joined(cls, parts: Sequence[Trace]) -> Trace:
        """Traces one after another, as one."""
        return cls(*(np.concatenate(values) for values in zip(*(part._arrays() for part in parts), strict=True)))

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))
