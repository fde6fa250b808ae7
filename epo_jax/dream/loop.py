"""The dream: chunks of steps on the device, history on the host."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int32

from epo_jax.config import EPOConfig
from epo_jax.constraints import Constraints, Inspection, Survival, surviving_prompts
from epo_jax.dream import history as histories
from epo_jax.dream.attributions import with_attributions
from epo_jax.dream.batch import check_folders, folder_names, is_several, pairs
from epo_jax.dream.chunks import CAPACITY, advanced
from epo_jax.dream.memory import fitted, rows_alone
from epo_jax.dream.outcome import failure, full_frontier
from epo_jax.dream.progress import Callback, Progress
from epo_jax.dream.record import Record
from epo_jax.dream.result import MODEL_COMMIT, Result, Run, check_folder, prepare_folder, writable_folder
from epo_jax.dream.starts import RANDOM, initial_prompts
from epo_jax.dream.versions import versions
from epo_jax.epo import Algorithm, State
from epo_jax.errors import EpoError
from epo_jax.features import Feature, parse_feature
from epo_jax.models import LanguageModel
from epo_jax.parallel import check_mesh, mesh_text, replicated
from epo_jax.scoring import Template, build
from epo_jax.scoring.api import feature_scales
from epo_jax.scoring.reading import LAST
from epo_jax.scoring.scale import NONE
from epo_jax.scoring.template import frozen_tokens


class NonFiniteError(EpoError):
    """A score that is not a finite number.

    Attributes:
        result: all that was scored until then; of several dreams, of the first that met one.
        results: those of all dreams.
    """

    def __init__(self, message: str, result: Result, results: Sequence[Result]):
        super().__init__(message)
        self.result = result
        self.results = list(results)


class _Options(TypedDict, total=False):
    template: Template | None
    init: str
    init_text: str | None
    init_file: str | Path | None
    read: str | int
    scale: str | float
    constraints: Constraints | None
    fluency_model: LanguageModel | None
    attribution: bool
    micro_batch: int | None
    mesh: Mesh | None
    output: str | Path | None
    overwrite: bool
    callback: Callback | None
    profile_dir: str | Path | None


# A str is a sequence of str to type checkers, but here it is one feature: of the overloads the first one counts.
@overload
def dream(  # type: ignore[overload-overlap]
    lm: LanguageModel,
    feature: Feature | str,
    config: EPOConfig | None = None,
    *,
    seed: int = 0,
    **options: Unpack[_Options],
) -> Result: ...


@overload
def dream(
    lm: LanguageModel,
    feature: Sequence[Feature | str],
    config: EPOConfig | None = None,
    *,
    seed: int | Sequence[int] = 0,
    **options: Unpack[_Options],
) -> list[Result]: ...


@overload
def dream(
    lm: LanguageModel,
    feature: Feature | str,
    config: EPOConfig | None = None,
    *,
    seed: Sequence[int],
    **options: Unpack[_Options],
) -> list[Result]: ...


def dream(
    lm: LanguageModel,
    feature: Feature | str | Sequence[Feature | str],
    config: EPOConfig | None = None,
    *,
    seed: int | Sequence[int] = 0,
    template: Template | None = None,
    init: str = RANDOM,
    init_text: str | None = None,
    init_file: str | Path | None = None,
    read: str | int = LAST,
    scale: str | float = NONE,
    constraints: Constraints | None = None,
    fluency_model: LanguageModel | None = None,
    attribution: bool = True,
    micro_batch: int | None = None,
    mesh: Mesh | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    callback: Callback | None = None,
    profile_dir: str | Path | None = None,
) -> Result | list[Result]:
    """Search the Pareto frontier of prompts between a feature and fluency.

    A list of features, of seeds, or of both (one by one) makes a dream of each; all are advanced in one program, and
    each gives the result that it gives alone. Ctrl-C ends the run and keeps what it has.

    Args:
        lm: the model.
        feature: what to maximize, or its string; or a list of such, of one kind.
        config: settings of the search; by default the paper's.
        seed: 0 to 2**32 - 1; the same seed gives the same history. Or a list or range of such.
        template: frozen text around the prompt; by default nothing but the BOS that the tokenizer adds.
        init: what slots start from: "random" tokens, or samples from the "model" as they follow the template.
        init_text: what every slot starts from instead, exactly `length` tokens.
        init_file: file of prompts to start from instead, or a run folder; see `starts.init_file_ids`.
        read: where the feature is read: "last", "max" (over the optimized tokens) or a position in the whole sequence.
        scale: what objectives take the feature against: "none" for its own values, "random" for standard deviations
            over 1,024 random prompts (section 3.5 of the paper), or a number to divide by; recorded values are its own.
        constraints: what prompts may be; by default everything but special and unused tokens.
        fluency_model: a model with the same tokens, whose cross-entropy counts (section 2 of the paper); by default the
            first one.
        attribution: whether results say which tokens of their prompts matter; of a run that was stopped they do not.
        micro_batch: rows of tokens that evaluation runs as one block; by default as many as there is memory for.
        mesh: devices that share the work along its axis "data"; by default the model's device alone.
        output: run folder to write at the end, of several dreams a folder of run folders; by default none.
        overwrite: whether the run folder may hold files already.
        callback: called after each visit to the host; returning True stops the run and keeps it.
        profile_dir: folder for jax.profiler's trace of one iteration; by default none.

    Returns:
        Frontier, history and settings; a list of such if a list was given.

    Raises:
        EpoError: input that cannot be used.
        NonFiniteError: a feature or cross-entropy that turned NaN or infinite. What was scored is kept and written, and
            of several dreams the others went on.
    """
    config, template = config or EPOConfig(), template or Template()
    dreams, several = pairs(feature, seed), is_several(feature, seed)
    if micro_batch is not None and (isinstance(micro_batch, bool) or micro_batch < 1):
        raise EpoError(f"--micro_batch={micro_batch}: must be a whole number of at least 1")
    if mesh is not None:
        check_mesh(mesh)
    names = [one if isinstance(one, str) else one.name for one, _ in dreams]
    seeds = [number for _, number in dreams]
    folders: list[Path] = []
    if output is not None and several:
        folders = check_folders(output, folder_names(list(zip(names, seeds, strict=True))), overwrite)
    elif output is not None:
        folders = [check_folder(output, overwrite)]
    features = [parse_feature(one, lm) if isinstance(one, str) else one for one, _ in dreams]
    # Always a list, so that one dream and several are one program's work.
    scales = feature_scales(lm, features, config.length, template, read=read, scale=scale)
    algorithm = build(
        lm,
        features,
        config,
        template,
        read=read,
        scale=scales,
        constraints=constraints,
        fluency_model=fluency_model,
        micro_batch=micro_batch,
        mesh=mesh,
    )
    frozen = frozen_tokens(lm, template)
    inspection = Inspection(
        constraints or Constraints(), lm.tokenizer, algorithm, frozen.prefix.tolist(), frozen.suffix.tolist()
    )
    ids = initial_prompts(
        lm,
        config,
        seeds,
        template,
        init=init,
        init_text=init_text,
        init_file=init_file,
        allowed=np.asarray(algorithm.allowed),
        keep=inspection.keeps,
    )
    if ids is not None and constraints is not None:
        inspection.check(ids)
    started = time.monotonic()
    state = _start(algorithm, seeds, ids, inspection.rejects)
    if micro_batch is None:
        # What was asked for is not held against the memory there is: who asks may know better.
        algorithm = fitted(algorithm, state, CAPACITY)
    for folder in folders:
        prepare_folder(folder, overwrite)
    trace = None if profile_dir is None else writable_folder(profile_dir, "profile_dir")
    record, stopped = _search(algorithm, state, config, callback, trace, inspection.rejects)
    seconds = round(time.monotonic() - started, 3)
    results = []
    for number, (one, its_seed, its_scale) in enumerate(zip(features, seeds, scales, strict=True)):
        history = record.history(number)
        run = Run(
            model=lm.source,
            feature=one.name,
            search=config,
            seed=its_seed,
            dtype=lm.config.dtype,
            prefix=template.prefix,
            suffix=template.suffix,
            bos=template.bos,
            init_text=init_text,
            constraints=constraints or Constraints(),
            init=init,
            init_file=None if init_file is None else str(init_file),
            versions=versions() | ({MODEL_COMMIT: lm.commit} if lm.commit else {}),
            seconds=seconds,
            stopped=failure(lm, one, history) or stopped,
            read=str(read),
            scale=str(scale),
            scale_offset=its_scale.offset,
            scale_unit=its_scale.unit,
            fluency_model=None if fluency_model is None else fluency_model.source,
            micro_batch=rows_alone(algorithm, micro_batch),
            mesh="" if mesh is None else mesh_text(mesh),
            revision=lm.revision,
        )
        frontier = full_frontier(
            lm,
            one,
            history,
            template=template,
            read=read,
            scale=None if run.scale == NONE else its_scale,
            survival=inspection.survival,
        )
        results.append(Result(frontier, history, run))
    if attribution and not stopped:
        results = with_attributions(algorithm, results, lm.tokenizer)
    for folder, result in zip(folders, results, strict=bool(folders)):
        result.save(folder, overwrite=True)
    for one, result in zip(features, results, strict=True):
        wrong = failure(lm, one, result.history)
        if wrong:
            raise NonFiniteError(wrong, result, results)
    return results if several else results[0]


def _start(
    algorithm: Algorithm, seeds: Sequence[int], prompts: Int32[np.ndarray, "*R P T"] | None, rejects: Survival | None
) -> State:
    # The implementation is named, so that a session's own default cannot change what a seed means.
    keys = jax.vmap(lambda seed: jax.random.key(seed, impl="threefry2x32"))(jnp.asarray(seeds, jnp.uint32))
    if algorithm.mesh is not None:
        keys = replicated(keys, algorithm.mesh)
    if prompts is None and rejects is not None and algorithm.movable is None:
        prompts = surviving_prompts(algorithm, rejects, keys)
    ids = None if prompts is None else jnp.asarray(prompts)
    if algorithm.mesh is not None:
        ids = replicated(ids, algorithm.mesh)
    return algorithm.init(keys, ids)


def _search(
    algorithm: Algorithm,
    state: State,
    config: EPOConfig,
    callback: Callback | None,
    profile_dir: Path | None,
    rejects: Survival | None,
) -> tuple[Record, str]:
    """Search to the end or to a stop; all that was scored, and why it stopped early ("" if it did not)."""
    record = Record(histories.of_state(state))
    if not record.alive:
        return record, ""
    stopped = ""
    # Closed at once when the search stops, so that nothing is held by what is still under way.
    with contextlib.closing(advanced(algorithm, state, config.iterations, profile_dir, rejects)) as chunks:
        try:
            for chunk, pace in chunks:
                record.add(chunk)
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
                )
                if callback is not None and callback(told) and done < config.iterations:
                    stopped = f"stopped by the callback after iteration {done}"
                    break
                if not record.alive:
                    break
        except KeyboardInterrupt:
            stopped = f"interrupted after iteration {record.iteration}"
    return record, stopped
