"""Settings of a search."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from epo_jax.errors import EpoError

SEARCHES = ("paper",)


@dataclasses.dataclass(frozen=True)
class EPOConfig:
    """Settings of Evolutionary Prompt Optimization; the defaults are the paper's (arXiv 2402.01702, section 2).

    Attributes:
        iterations: steps after the initial prompts.
        population: slots, one per fluency penalty (P).
        children: new prompts per slot in an iteration.
        length: optimized tokens (T).
        top_k: tokens kept per position by gradient (K); clipped to those that are allowed.
        lambda_min: least fluency penalty; the only one where the population is 1.
        lambda_max: greatest fluency penalty; the grid between is uniform in the logarithm.
        restart_every: iterations between restarts; 0 means never.
        restart_lambda_min: least penalty that a restart draws.
        restart_lambda_max: greatest penalty that a restart draws.
        search: the search's name.

    Raises:
        EpoError: a value that cannot be used, naming it.
    """

    iterations: int = 300
    population: int = 8
    children: int = 32
    length: int = 12
    top_k: int = 512
    lambda_min: float = 0.1
    lambda_max: float = 10.0
    restart_every: int = 30
    restart_lambda_min: float = 2 / 3
    restart_lambda_max: float = 6.0
    search: str = "paper"

    def __post_init__(self) -> None:
        for name in ("iterations", "population", "children", "length", "top_k"):
            _check_count(name, getattr(self, name), least=1)
        _check_count("restart_every", self.restart_every, least=0)
        for name in ("lambda_min", "lambda_max", "restart_lambda_min", "restart_lambda_max"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise EpoError(f"--{name}={value}: must be a finite number of at least 0")
        for kind in ("lambda", "restart_lambda"):
            low, high = getattr(self, f"{kind}_min"), getattr(self, f"{kind}_max")
            if low > high:
                raise EpoError(
                    f"--{kind}_min={low} is above --{kind}_max={high}: the least must not exceed the greatest"
                )
        if self.lambda_min == 0 and self.lambda_max > 0 and self.population > 1:
            raise EpoError(
                f"--lambda_min=0 with --lambda_max={self.lambda_max}: a grid uniform in the logarithm cannot start at "
                "0; give a least penalty above 0, or 0 for both"
            )
        if self.search not in SEARCHES:
            raise EpoError(f"--search={self.search}: not one of {', '.join(SEARCHES)}")

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EPOConfig:
        """The settings that `to_json` gave.

        Raises:
            EpoError: a field that does not exist, or a value that cannot be used.
        """
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise EpoError(f"config.json: unknown search settings {', '.join(unknown)}")
        return cls(**values)


def _check_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise EpoError(f"--{name}={value}: must be a whole number of at least {least}")


PRESETS = {
    "paper": EPOConfig(),
    "quick": EPOConfig(iterations=60, children=8),
}
