"""The loop around the search: chunks of steps on the device, history on the host."""

from __future__ import annotations

import dataclasses
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from epo_jax.axes import Prompts
from epo_jax.config import EPOConfig
from epo_jax.dream import history as histories
from epo_jax.dream.frontier import decode, frontier_of
from epo_jax.dream.history import History
from epo_jax.dream.progress import Best, Callback, Progress
from epo_jax.dream.result import Result, Run, check_folder, prepare_folder
from epo_jax.dream.versions import versions
from epo_jax.errors import EpoError
from epo_jax.features import Feature, parse_feature
from epo_jax.models import LanguageModel
from epo_jax.models.tokenizers import token_texts
from epo_jax.scoring import Template, build

# Rows of infos that one call to the device can bring back; how many of them are used follows the speed.
CAPACITY = 16
SECONDS_PER_VISIT = 1.0


class NonFiniteError(EpoError):
    """A score that is not a finite number; `.result` holds all that was scored until then."""

    def __init__(self, message: str, result: Result):
        super().__init__(message)
        self.result = result


def dream(
    lm: LanguageModel,
    feature: Feature | str,
    config: EPOConfig | None = None,
    *,
    seed: int = 0,
    template: Template | None = None,
    init_text: str | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    callback: Callback | None = None,
) -> Result:
    """Search the Pareto frontier of prompts between a feature and fluency.

    Ctrl-C ends the run and keeps what it has.

    Args:
        lm: the model.
        feature: what to maximize, or its string.
        config: settings of the search; by default the paper's.
        seed: 0 to 2**32 - 1; the same seed gives the same history.
        template: frozen text around the prompt; by default nothing but the BOS that the tokenizer adds.
        init_text: what every slot starts from, exactly `length` tokens; by default random tokens.
        output: run folder to write at the end; by default none.
        overwrite: whether the run folder may hold files already.
        callback: called after each visit to the host; returning True stops the run and keeps it.

    Returns:
        Frontier, history and settings.

    Raises:
        EpoError: input that cannot be used.
        NonFiniteError: a feature or cross-entropy that turned NaN or infinite; what was scored is kept and written.
    """
    config, template = config or EPOConfig(), template or Template()
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**32:
        raise EpoError(f"--seed={seed}: must be a whole number from 0 to {2**32 - 1}")
    if output is not None:
        check_folder(output, overwrite)
    feature = parse_feature(feature, lm) if isinstance(feature, str) else feature
    algorithm = build(lm, feature, config, template)
    ids = None if init_text is None else initial_ids(lm, init_text, config)
    run = Run(
        model=lm.source,
        feature=feature.name,
        search=config,
        seed=int(seed),
        dtype=lm.config.dtype,
        prefix=template.prefix,
        suffix=template.suffix,
        bos=template.bos,
        init_text=init_text,
        versions=versions(),
    )
    if output is not None:
        prepare_folder(output, overwrite)
    parts: list[History] = []
    stopped, started = "", time.monotonic()
    try:
        # The implementation is named, so that a session's own default cannot change what a seed means.
        state = algorithm.init(jax.random.key(seed, impl="threefry2x32"), ids)
        parts.append(histories.of_state(state))
        best, done, pace = Best().after(parts[0]), 0, Pace()
        while done < config.iterations and _all_finite(parts[-1]):
            steps = min(pace.steps, config.iterations - done)
            begun = time.monotonic()
            state, infos = algorithm.advance(state, steps, CAPACITY)
            parts.append(histories.of_infos(infos, steps))
            done += steps
            best, pace = best.after(parts[-1]), pace.after(steps, time.monotonic() - begun)
            rate = pace.steps_per_second * config.population * config.children
            scored = sum(map(len, parts))
            left = (config.iterations - done) / pace.steps_per_second
            told = Progress(done, config.iterations, scored, best.feature, best.fluent, rate, left)
            if callback is not None and callback(told) and done < config.iterations:
                stopped = f"stopped by the callback after iteration {done}"
                break
    except KeyboardInterrupt:
        if not parts:
            raise
        stopped = f"interrupted after iteration {int(parts[-1].iteration[-1])}"
    history = histories.joined(parts)
    failure = _first_failure(lm, feature, history)
    run = dataclasses.replace(run, seconds=round(time.monotonic() - started, 3), stopped=failure or stopped)
    result = Result(frontier_of(history, lm.tokenizer), history, run)
    if output is not None:
        result.save(output, overwrite=True)
    if failure:
        raise NonFiniteError(failure, result)
    return result


def initial_ids(lm: LanguageModel, text: str, config: EPOConfig) -> Prompts:
    """A text's tokens in every slot.

    Raises:
        EpoError: their number is not the search's length.
    """
    ids = lm.tokenizer.encode(text, add_special_tokens=False)
    if len(ids) != config.length:
        shown = ", ".join(map(repr, token_texts(lm.tokenizer, ids)))
        raise EpoError(f"--init_text={text}: has {len(ids)} tokens ({shown}), and --length is {config.length}")
    return jnp.tile(jnp.asarray(ids, jnp.int32), (config.population, 1))


@dataclasses.dataclass(frozen=True)
class Pace:
    """How many steps one visit to the device makes.

    The first visit compiles and makes a single step, and its time says nothing; then visits last about a second, so
    that progress is seen and Ctrl-C is heard.
    """

    visits: int = 0
    timed_steps: int = 0
    timed_seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Steps of the next visit."""
        if math.isnan(self.steps_per_second):
            return 1
        return int(np.clip(self.steps_per_second * SECONDS_PER_VISIT, 1, CAPACITY))

    @property
    def steps_per_second(self) -> float:
        """Over the visits that did not compile; NaN until there is one."""
        return self.timed_steps / self.timed_seconds if self.timed_seconds else math.nan

    def after(self, steps: int, seconds: float) -> Pace:
        """The pace after a visit."""
        if self.visits == 0:
            return Pace(visits=1)
        return Pace(self.visits + 1, self.timed_steps + steps, self.timed_seconds + seconds)


def _finite(part: History) -> np.ndarray:
    return np.isfinite(part.feature) & np.isfinite(part.cross_entropy)


def _all_finite(part: History) -> bool:
    return bool(_finite(part).all())


def _first_failure(lm: LanguageModel, feature: Feature, history: History) -> str:
    rows = np.flatnonzero(~_finite(history))
    if not len(rows):
        return ""
    row = rows[0]
    return (
        f"--feature={feature.name}: not finite at iteration {history.iteration[row]} (feature {history.feature[row]}, "
        f"cross-entropy {history.cross_entropy[row]}) on the prompt {decode(lm.tokenizer, history.ids[row])!r}; "
        f"the run stopped and its {len(history)} scored prompts are kept; --dtype=float32 may help"
    )
