"""Settings of a search."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from epo_jax.errors import EpoError

PAPER, BEST = "paper", "best"
SEARCHES = (PAPER, BEST)
# What positions of edits are chosen by, and what fluency penalties are in units of.
POSITIONS = ("uniform", "success", "gradient")
PENALTIES = ("given", "frontier")


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """How a search goes about it, beyond the paper's.

    Attributes:
        operators: mutation operators with their shares of the children to begin with, "name:share,name:share".
        adaptation: the power of an operator's success that its share follows; 0 for fixed shares.
        oversample: edits that are drawn for each child, of which one is run.
        noise: nats/token by which changes of an objective scatter beside the part that is known before running; the
            greater, the less that part chooses.
        positions: "uniform", by "success" (children taken per row run) or by the norm of the "gradient".
        penalties: "given", or in units of the slope of the "frontier" found so far.
        distinct: whether slots hold different prompts.
        archive: whether prompts that were scored are left out.
        fragments: whether tokens may be used that hold parts of characters alone, such as single bytes of an emoji.
        repetition: the share of a prompt's tokens that may stand in it before, rounded down to whole tokens; 1 for any.
        least_length: the fewest tokens that a prompt may have, where `length` is the most; 0 for as many as `length`.
        kept_first: tokens of the greatest gradient that are drawn from in the first iteration.
        kept_last: in the last iteration; between them it changes by equal factors.
        momentum: the share of each slot's gradient that is added to the one of the next iteration; 0 for none. It
            costs no rows, and the memory of a gradient for each slot.
        model_starts: samples of the model among which the initial prompts are chosen.
        random_starts: prompts of uniformly drawn tokens among which they are chosen.
        beam: whether a beam through the model writes the initial prompts instead, token by token.
        beginnings: how often the search begins anew, the first time included, each time with other initial prompts.
        merging: the share of iterations at the end that goes on from the best prompts of all beginnings.
        diversity: of several dreams of one feature that are advanced together, what a prompt loses if all of its tokens
            stand in prompts of the dreams before, as a share of the frontier's height; 0 for dreams that know nothing
            of each other.
    """

    operators: str
    adaptation: float
    oversample: int
    noise: float
    positions: str
    penalties: str
    distinct: bool
    archive: bool
    fragments: bool
    repetition: float
    least_length: int
    kept_first: int
    kept_last: int
    momentum: float
    model_starts: int
    random_starts: int
    beam: bool
    beginnings: int
    merging: float
    diversity: float

    def shares(self) -> dict[str, float]:
        """The share of each operator.

        Raises:
            EpoError: not such a list, or shares of which none is above 0.
        """
        shares: dict[str, float] = {}
        for part in self.operators.split(","):
            name, _, share = (piece.strip() for piece in part.partition(":"))
            if name in shares:
                raise EpoError(f"--operators={self.operators}: {name} is named twice")
            try:
                shares[name] = float(share or 1)
            except ValueError as error:
                raise EpoError(
                    f"--operators={self.operators}: {share!r} is no number; name:share,name:share"
                ) from error
            if not 0 < shares[name] < math.inf:
                raise EpoError(f"--operators={self.operators}: the share of {name} must be a finite number above 0")
        return shares


OPTIONS = {
    BEST: SearchOptions(
        operators="model_swap:0.35,gradient_swap:0.2,mixed_swap:0.15,pair_swap:0.1,crossover:0.1,insertion:0.05,"
        "deletion:0.05",
        adaptation=0.8,
        oversample=4,
        noise=0.5,
        positions="success",
        penalties="frontier",
        distinct=True,
        archive=True,
        fragments=False,
        repetition=0.05,
        least_length=0,
        kept_first=64,
        kept_last=64,
        momentum=0.0,
        model_starts=64,
        random_starts=32,
        beam=True,
        beginnings=2,
        merging=0.5,
        diversity=0.0,
    )
}


@dataclasses.dataclass(frozen=True)
class EPOConfig:
    """Settings of Evolutionary Prompt Optimization; the defaults are the paper's (arXiv 2402.01702, section 2).

    Attributes:
        iterations: steps after the initial prompts.
        population: slots, one per fluency penalty (P).
        children: new prompts per slot in an iteration.
        length: optimized tokens (T), or the most of them, see `least_length`.
        top_k: tokens kept per position by gradient (K); clipped to those that are allowed.
        lambda_min: least fluency penalty; the only one where the population is 1.
        lambda_max: greatest fluency penalty; the grid between is uniform in the logarithm.
        restart_every: iterations between restarts of the search "paper"; 0 means never.
        restart_lambda_min: least penalty that a restart draws.
        restart_lambda_max: greatest penalty that a restart draws.
        search: "paper", exactly that, or "best": with more operators and other choices.
        operators: of `SearchOptions`, as all fields that follow; None for what the search "best" has. The search
            "paper" has none of them.

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
    search: str = PAPER
    operators: str | None = None
    adaptation: float | None = None
    oversample: int | None = None
    noise: float | None = None
    positions: str | None = None
    penalties: str | None = None
    distinct: bool | None = None
    archive: bool | None = None
    fragments: bool | None = None
    repetition: float | None = None
    least_length: int | None = None
    kept_first: int | None = None
    kept_last: int | None = None
    momentum: float | None = None
    model_starts: int | None = None
    random_starts: int | None = None
    beam: bool | None = None
    beginnings: int | None = None
    merging: float | None = None
    diversity: float | None = None

    @property
    def options(self) -> SearchOptions | None:
        """How the search goes about it; None for the paper's."""
        own = OPTIONS.get(self.search)
        return None if own is None else dataclasses.replace(own, **self._given)

    @property
    def shortest(self) -> int:
        """The fewest tokens that a prompt may have; `length` where all have as many."""
        return self.length if self.options is None else self.options.least_length or self.length

    @property
    def _given(self) -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(SearchOptions)]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

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
        if self.search == PAPER and self._given:
            names = ", ".join(f"--{name}" for name in self._given)
            raise EpoError(
                f"--search={PAPER}: is exactly the paper's, and {names} would change it; use --search={BEST}"
            )
        if self.options is not None:
            _check_options(self.options, self.population, self.length)

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values, without those that are None."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

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


def _check_options(options: SearchOptions, population: int, length: int) -> None:
    options.shares()
    for name, least in (("oversample", 1), ("kept_first", 1), ("kept_last", 1), ("beginnings", 1)):
        _check_count(name, getattr(options, name), least)
    for name in ("model_starts", "random_starts", "least_length"):
        _check_count(name, getattr(options, name), 0)
    if options.least_length > length:
        raise EpoError(
            f"--least_length={options.least_length}: is above --length={length}, the most tokens that a prompt may have"
        )
    for name in ("adaptation", "noise", "merging", "diversity", "repetition", "momentum"):
        value = getattr(options, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise EpoError(f"--{name}={value}: must be a finite number of at least 0")
    starts = options.model_starts // options.beginnings + options.random_starts // options.beginnings
    if options.model_starts + options.random_starts and starts < population:
        raise EpoError(
            f"--model_starts={options.model_starts} and --random_starts={options.random_starts}: give each of "
            f"{options.beginnings} beginnings {starts} prompts to choose from, and there are {population} slots; give "
            "more, or 0 of both for random prompts without a choice"
        )
    for name, of in (("merging", "the iterations"), ("momentum", "the gradient")):
        if getattr(options, name) >= 1:
            raise EpoError(f"--{name}={getattr(options, name)}: must be below 1, a share of {of}")
    if options.noise == 0:
        raise EpoError("--noise=0: must be above 0; nothing is ever known exactly before it is run")
    for name, known in (("positions", POSITIONS), ("penalties", PENALTIES)):
        if getattr(options, name) not in known:
            raise EpoError(f"--{name}={getattr(options, name)}: not one of {', '.join(known)}")
    for name in ("distinct", "archive", "fragments", "beam"):
        if not isinstance(getattr(options, name), bool):
            raise EpoError(f"--{name}={getattr(options, name)}: must be true or false")


def _check_count(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise EpoError(f"--{name}={value}: must be a whole number of at least {least}")


PRESETS = {
    "paper": EPOConfig(),
    "best": EPOConfig(search=BEST),
    "quick": EPOConfig(iterations=60, children=8, search=BEST),
}
