"""The dream: chunks of steps on the device, history on the host."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict, Unpack, overload

import numpy as np
from jax.sharding import Mesh

from epo_jax.config import EPOConfig
from epo_jax.constraints import Constraints, Inspection
from epo_jax.corpus import Scan
from epo_jax.dream.attributions import SHARE, check_share, with_attributions
from epo_jax.dream.batch import is_several, pairs, run_folders
from epo_jax.dream.continuations import with_continuations
from epo_jax.dream.dataset import example_prompts, opened_scan, with_examples
from epo_jax.dream.folders import writable_folder
from epo_jax.dream.identity import fingerprints
from epo_jax.dream.memory import rows_alone, rows_of
from epo_jax.dream.outcome import checked, interrupted, result_of
from epo_jax.dream.preparation import first_state, guided_starts, kept_state, ran_on, tell_changes, with_room
from epo_jax.dream.progress import Callback
from epo_jax.dream.result import Result
from epo_jax.dream.run import MODEL_COMMIT, Run
from epo_jax.dream.run_folder import EVERY, KEEP, RunFolder, check_keeping
from epo_jax.dream.searching import searched
from epo_jax.dream.starts import RANDOM, initial_prompts
from epo_jax.dream.versions import versions
from epo_jax.errors import EpoError
from epo_jax.features import Feature, parse_feature
from epo_jax.models import LanguageModel
from epo_jax.models.on_mesh import on_mesh
from epo_jax.parallel import check_mesh, mesh_text
from epo_jax.scoring import Template, build
from epo_jax.scoring.api import feature_scales
from epo_jax.scoring.reading import LAST
from epo_jax.scoring.scale import NONE, Scale
from epo_jax.scoring.template import frozen_tokens


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
    attribution_share: float
    continuation: bool
    micro_batch: int | None
    mesh: Mesh | None
    output: str | Path | None
    overwrite: bool
    report: bool
    resume: bool
    checkpoint_every: float
    keep_checkpoints: int
    callback: Callback | None
    scan: Scan | str | Path | None
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
    attribution_share: float = SHARE,
    continuation: bool = True,
    micro_batch: int | None = None,
    mesh: Mesh | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    report: bool = True,
    resume: bool = False,
    checkpoint_every: float = EVERY,
    keep_checkpoints: int = KEEP,
    callback: Callback | None = None,
    scan: Scan | str | Path | None = None,
    profile_dir: str | Path | None = None,
) -> Result | list[Result]:
    """Search the Pareto frontier of prompts between a feature and fluency.

    A list of features, of seeds, or of both (one by one) makes a dream of each; all are advanced in one program, and
    each gives the result that it gives alone. Ctrl-C ends the run and keeps what it has. A run with an output folder
    that is stopped or killed, also by an exception of the callback, can be gone on with, and scores what it would have.

    Args:
        lm: the model.
        feature: what to maximize, or its string; or a list of such, of one kind.
        config: settings of the search; by default the paper's.
        seed: 0 to 2**32 - 1; the same seed gives the same history. Or a list or range of such.
        template: frozen text around the prompt; by default nothing but the BOS that the tokenizer adds.
        init: what slots start from: "random" tokens, samples from the "model" as they follow the template, or the
            feature's strongest examples of the "dataset" that `scan` is of.
        init_text: what every slot starts from instead, exactly `length` tokens.
        init_file: file of prompts to start from instead, or a run folder; see `starts.init_file_ids`.
        read: where the feature is read: "last", "max" (over the optimized tokens) or a position in the whole sequence.
        scale: what objectives take the feature against: "none" for its own values, "random" for standard deviations
            over 1,024 random prompts (section 3.5 of the paper), or a number to divide by; recorded values are its own.
        constraints: what prompts may be; by default everything but special and unused tokens.
        fluency_model: a model with the same tokens, whose cross-entropy counts (section 2 of the paper); by default the
            first one.
        attribution: whether results say which tokens of their prompts matter; of a run that was stopped they do not.
        attribution_share: what that may cost, as a share of the prompts that the search scored; where the frontier is
            longer, some of its prompts are left out.
        continuation: whether results say how the model itself goes on after their prompts; likewise.
        micro_batch: rows of tokens that evaluation runs as one block; by default as many as there is memory for.
        mesh: devices that share the work along its axis "data" and the weights along its axis "model"; by default those
            that the model lies on.
        output: run folder to write at the end, of several dreams a folder of run folders; by default none.
        overwrite: whether the run folder may hold files already.
        report: whether the run folder gets pictures and report.html.
        resume: whether to go on with the run that the folder holds, from its newest whole checkpoint, on this mesh; one
            that has ended is returned as it is, and without a checkpoint it starts anew.
        checkpoint_every: seconds between checkpoints.
        keep_checkpoints: how many of the newest stay.
        callback: called after each visit to the host; returning True stops the run and keeps it.
        scan: a scan of a corpus by the same model and length, or its folder, whose dataset examples of the feature
            results show beside the dream where it has them; by default none.
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
    check_share(attribution_share)
    mesh = mesh or lm.mesh
    if mesh is not None:
        check_mesh(mesh)
        lm = on_mesh(lm, mesh)
    opened = opened_scan(scan, lm.source, config.length)
    names = [one if isinstance(one, str) else one.name for one, _ in dreams]
    seeds = [number for _, number in dreams]
    check_keeping(output, overwrite, resume, checkpoint_every, keep_checkpoints)
    folders = run_folders(output, list(zip(names, seeds, strict=True)) if several else None, overwrite or resume)
    features = [parse_feature(one, lm) if isinstance(one, str) else one for one, _ in dreams]
    on, here = versions(), "" if mesh is None else mesh_text(mesh)
    runs = [
        Run(
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
            versions=on | ({MODEL_COMMIT: lm.commit} if lm.commit else {}),
            read=str(read),
            scale=str(scale),
            fluency_model=None if fluency_model is None else fluency_model.source,
            mesh=here,
            revision=lm.revision,
        )
        for one, its_seed in zip(features, seeds, strict=True)
    ]
    with contextlib.ExitStack() as held:
        place = None
        if output is not None:
            told = fingerprints(lm, features, fluency_model)
            runs = [dataclasses.replace(run, fingerprints=its) for run, its in zip(runs, told, strict=True)]
            place = held.enter_context(
                RunFolder(
                    output,
                    folders,
                    runs,
                    resume=resume,
                    overwrite=overwrite,
                    every=checkpoint_every,
                    keep=keep_checkpoints,
                )
            )
            if place.results is not None:
                return checked(lm, features, place.results, several)
        kept = None if place is None else place.kept
        # Always a list, so that one dream and several are one program's work.
        scales = (
            feature_scales(lm, features, config.length, template, read=read, scale=scale)
            if kept is None
            else [Scale(*numbers) for numbers in kept.told["scales"]]
        )
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
        if kept is None:
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
                examples=None if scan is None else functools.partial(example_prompts, opened, names, config.population),
            )
            if ids is not None and constraints is not None:
                inspection.check(ids)
            started = time.monotonic()
            if ids is None:
                ids = guided_starts(lm, algorithm, config, seeds, template, inspection.keeps)
            state = first_state(algorithm, seeds, ids, inspection.rejects)
        else:
            started = time.monotonic()
            state = kept_state(kept, algorithm.mesh)
        where = ran_on(on, here)
        if micro_batch is None:
            # What was asked for is not held against the memory there is: who asks may know better.
            algorithm = with_room(algorithm, state, kept, where)
        if kept is not None:
            tell_changes(kept, where, rows_of(algorithm))
        if place is not None:
            numbers = [[its.offset, its.unit] for its in scales]
            place.begin({"ran_on": where, "rows": rows_of(algorithm), "scales": numbers}, started)
        trace = None if profile_dir is None else writable_folder(profile_dir, "profile_dir")
        record, stopped = searched(algorithm, state, config, callback, trace, inspection.rejects, place)
        seconds = round(time.monotonic() - started if place is None else place.saving.seconds, 3)
        rows = rows_alone(algorithm, micro_batch)
        runs = [dataclasses.replace(run, seconds=seconds, stopped=stopped, micro_batch=rows) for run in runs]
        results = [
            result_of(
                lm,
                one,
                record.history(number),
                runs[number],
                template=template,
                read=read,
                scale=its_scale,
                survival=inspection.survival,
            )
            for number, (one, its_scale) in enumerate(zip(features, scales, strict=True))
        ]
        try:
            if continuation and not stopped:
                results = with_continuations(lm, results, frozen)
            if attribution and not stopped:
                results = with_attributions(algorithm, results, lm.tokenizer, attribution_share)
        except KeyboardInterrupt:
            results = interrupted(results)
        if opened is not None:
            results = with_examples(opened, results, lm.tokenizer)
        if place is not None:
            place.finish(results, stopped, report)
    return checked(lm, features, results, several)
