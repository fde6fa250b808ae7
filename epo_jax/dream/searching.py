"""The search of a dream: chunk after chunk to the end or to a stop, recorded and kept on the way."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from epo_jax.config import EPOConfig
from epo_jax.constraints import Survival
from epo_jax.dream import history as histories
from epo_jax.dream.chunks import advanced, plain_state
from epo_jax.dream.preemption import end_if_asked
from epo_jax.dream.progress import Callback, Progress
from epo_jax.dream.record import Record
from epo_jax.dream.run_folder import RunFolder
from epo_jax.epo import Algorithm, State
from epo_jax.parallel.placing import fetched
from epo_jax.parallel.stopping import stop_wanted


def searched(
    algorithm: Algorithm,
    state: State,
    config: EPOConfig,
    callback: Callback | None,
    profile_dir: Path | None,
    rejects: Survival | None,
    place: RunFolder | None,
) -> tuple[Record, str]:
    """Search to the end or to a stop.

    Args:
        algorithm: of R dreams.
        state: where to start; its memory is given away.
        config: of which iterations, population and children count.
        callback: see `dream`.
        profile_dir: folder for a trace of one iteration.
        rejects: says which children may be scored; None for all.
        place: the run's folder, which may have something that goes before the state; None for none.

    Returns:
        All that was scored, and why the search stopped early ("" if it did not).

    Raises:
        EpoError: a checkpoint that could not be written.
    """
    if place is not None and place.kept is not None:
        record = Record(place.kept.chunks)
    else:
        record = Record([histories.of_state(state)])
        if place is not None:
            place.saving.add(record.initial, plain_state(state))
    stopped, penalties = "", _penalties(algorithm, record.initial.ids.shape[1])
    fresh = list(place.kept.chunks) if place is not None and place.kept is not None else [record.initial]
    if not record.alive or record.iteration >= config.iterations:
        return record, stopped
    steps = advanced(
        algorithm, state, config.iterations, profile_dir, rejects, start=record.iteration, kept=place is not None
    )
    # Closed at once when the search stops, so that nothing is held by what is still under way.
    with contextlib.closing(steps) as chunks:
        try:
            for chunk, pace, after in chunks:
                if place is not None and after is not None:
                    place.saving.add(chunk, after)
                record.add(chunk)
                fresh.append(chunk)
                end_if_asked()
                rate = pace.steps_per_second
                done = record.iteration
                told = Progress(
                    iteration=done,
                    iterations=config.iterations,
                    scored=record.scored,
                    best_feature=record.best.feature,
                    best_fluent_feature=record.best.fluent,
                    candidates_per_second=rate * record.alive * config.population * config.children,
                    seconds_left=(config.iterations - done) / rate,
                    chunks=tuple(fresh),
                    penalties=penalties,
                )
                fresh.clear()
                wanted = callback is not None and bool(callback(told))
                if stop_wanted(wanted) and done < config.iterations:
                    stopped = f"stopped by the callback after iteration {done}"
                    break
                if place is not None:
                    place.saving.save_if_due()
                if not record.alive:
                    break
        except KeyboardInterrupt:
            stopped = f"interrupted after iteration {record.iteration}"
    if place is not None and stopped:
        place.saving.save()
    return record, stopped


def _penalties(algorithm: Algorithm, dreams: int) -> Float32[np.ndarray, "R P"]:
    """What a nat/token costs each dream's slots, in units of its feature."""
    penalties, unit = fetched((algorithm.penalties, algorithm.scales(dreams)))
    return np.multiply.outer(unit, penalties).astype(np.float32)
