"""Meshes and numbers of dreams, tried one after the other: what fits, and what is fastest by estimate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping

import jax

from epo_jax.config import EPOConfig
from epo_jax.errors import EpoError
from epo_jax.features import parse_feature
from epo_jax.models import LanguageModel
from epo_jax.parallel.collectives import collectives
from epo_jax.parallel.mesh import make_mesh
from epo_jax.planning.devices import Machine, Peaks
from epo_jax.planning.model import laid_on
from epo_jax.planning.operations import Prompt, forward, gradients, shape_of
from epo_jax.planning.program import Program, abstract_search, bytes_on_each, cache_bytes, fitting_program
from epo_jax.planning.work import bytes_by_kind, expected_trips
from epo_jax.scoring.template import Template


@dataclasses.dataclass(frozen=True)
class Trial:
    """One mesh and number of dreams; bytes are of each device, and None or empty where nothing was compiled.

    Attributes:
        mesh: as `--mesh` takes it.
        fsdp: whether weights lie over `data` too.
        dreams: advanced together (R).
        refused: why it does not fit; empty where it does.
        weights: bytes of parameters.
        cache: bytes that gradients leave for evaluation.
        temporaries: bytes of temporaries, the cache among them.
        needed: bytes in all.
        rows: of a block of evaluation.
        collectives: bytes that a device gets in an iteration, by kind.
        operations: floating-point operations of matrix products in an iteration, of all devices, by count of shapes.
        counted: those of one device, as the compiler counts them: loops once.
        compiler_seconds: the compiler's estimate, loops once.
        seconds: estimate of an iteration from what devices do at most.
        candidates: scored in an iteration.
        compile_seconds: that the program took to compile.
    """

    mesh: str
    fsdp: bool
    dreams: int
    refused: str
    weights: int
    cache: int | None = None
    temporaries: int | None = None
    needed: float | None = None
    rows: int | None = None
    collectives: Mapping[str, float] = dataclasses.field(default_factory=dict)
    operations: float | None = None
    counted: float | None = None
    compiler_seconds: float | None = None
    seconds: float | None = None
    candidates: int = 0
    compile_seconds: float | None = None

    @property
    def rate(self) -> float:
        """Candidates per second by estimate; 0 where there is none."""
        return self.candidates / self.seconds if self.seconds else 0.0


def plan(
    lm: LanguageModel,
    machine: Machine,
    config: EPOConfig,
    feature: str,
    meshes: Iterable[tuple[str, bool]],
    dreams: Iterable[int],
    template: Template,
    micro_batch: int | None = None,
) -> Iterator[Trial]:
    """Try meshes and numbers of dreams.

    Args:
        lm: what `abstract_model` gave.
        machine: the devices.
        config: settings of the search.
        feature: its string; every dream has it.
        meshes: texts of meshes, each with whether weights are fully sharded.
        dreams: numbers of dreams.
        template: frozen text around the prompt.
        micro_batch: rows of a block; by default as many as fit.

    Raises:
        EpoError: what no mesh can change, such as a feature that the model does not have.
    """
    numbers = list(dreams)
    for text, fsdp in meshes:
        laid = laid_on(lm, make_mesh(text, machine.devices), fsdp)
        weights = bytes_on_each(laid.params)
        for count in numbers:
            blank = Trial(text, fsdp, count, "", weights, candidates=count * config.population * config.children)
            if machine.memory is not None and weights > machine.memory:
                yield dataclasses.replace(blank, refused="weights alone take more than there is")
                continue
            one = parse_feature(feature, laid)
            search = abstract_search(laid, [one] * count, config, template, micro_batch)
            try:
                program = fitting_program(*search, machine.memory, smaller=micro_batch is None)
            except EpoError as error:
                yield dataclasses.replace(blank, refused=str(error))
                continue
            yield _measured(blank, program, laid, machine.peaks)


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """The trial that fits and scores most candidates per second by estimate, or with least operations without one."""
    fitting = [one for one in trials if not one.refused]
    return max(fitting, key=lambda one: (one.rate, one.candidates, -(one.needed or 0)), default=None)


def meshes_of(count: int) -> list[tuple[str, bool]]:
    """Every way to split so many devices among the axes, fully sharded too where `data` has several."""
    sizes = [(count // model, model) for model in range(1, count + 1) if count % model == 0]
    # With all weights on each device first: what fits so needs nothing to travel.
    return [
        (f"data:{data},model:{model}", fsdp) for fsdp in (False, True) for data, model in sizes if data > 1 or not fsdp
    ]


def _measured(blank: Trial, program: Program, lm: LanguageModel, peaks: Peaks | None) -> Trial:
    algorithm = program.algorithm
    trips = expected_trips(algorithm)
    moved = bytes_by_kind(collectives(program.compiled.as_text() or ""), trips)
    counted: Mapping[str, float] = program.compiled.cost_analysis() or {}
    prefix = len(algorithm.scorer.prefix)  # type: ignore[attr-defined]
    prompt = Prompt(algorithm.length, prefix, algorithm.scorer.after)  # type: ignore[attr-defined]
    shape, sharing = shape_of(lm.config), algorithm.sharing
    parents = sharing.units * sharing.devices
    if algorithm.guide is None or algorithm.guide.reads_gradient:
        of_parents = gradients(shape, prompt, parents)
    else:
        of_parents = forward(shape, prompt.optimized() * parents)
    # Edits are taken to be drawn uniformly; those of a guided search begin later, so that it takes less.
    operations = of_parents + forward(shape, prompt.expected() * blank.candidates)
    devices = algorithm.mesh.size if algorithm.mesh is not None else 1
    trial = dataclasses.replace(
        blank,
        cache=cache_bytes(algorithm),
        temporaries=program.temporaries,
        needed=None if program.memory is None else program.memory.needed,
        rows=program.rows,
        collectives=moved,
        operations=operations,
        counted=counted.get("flops"),
        compiler_seconds=counted.get("optimal_seconds"),
        compile_seconds=program.seconds,
    )
    if peaks is None or lm.config.dtype == "float32":
        # What is published is for half precision.
        return trial
    # Weights are read once for each group of gradients on the way there, once on the way back, and for each product.
    groups = math.ceil(sharing.units / (algorithm.gradients_at_once or sharing.units))
    passes = 2 * groups + max(1.0, sum(trips.chunks.values()) if trips.chunks else trips.blocks)
    reading = passes * _read_weights(blank.weights, lm, algorithm.mesh) / peaks.memory
    computing = operations / devices / peaks.operations
    return dataclasses.replace(trial, seconds=max(computing, reading) + math.fsum(moved.values()) / peaks.links)


def _read_weights(held: int, lm: LanguageModel, mesh: jax.sharding.Mesh | None) -> int:
    """Bytes of weights that a device reads in one pass: those that it holds, and what it puts together of parts."""
    return held * mesh.shape["data"] if mesh is not None and lm.fsdp else held
