"""Rounds in which everything takes its turn, so that a machine that slows down slows everything down alike."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import types
from collections.abc import Callable

import jax
import numpy as np

import epo_jax
from benchmarking.peers import FOLDER, Peer, dreamy_task, nanogcg_task, started
from benchmarking.programs import Ceiling, Pieces, Search, calls_for, difference, steps_for
from benchmarking.results import (
    CEILING,
    DREAMY,
    GRADIENTS,
    ITERATION,
    NANOGCG,
    PLAIN,
    SUFFIX,
    Line,
    Report,
    Sample,
    Section,
)
from benchmarking.settings import LOGIT, Settings
from epo_jax.dream.versions import versions
from epo_jax.epo import State
from epo_jax.models.random_model import RANDOM
from epo_jax.planning import operations as flops
from epo_jax.scoring.template import frozen_tokens

Tell = Callable[[str], None]
Samples = dict[str, Sample]


@dataclasses.dataclass(frozen=True)
class Bench:
    """Everything that takes turns for one feature.

    Attributes:
        ceiling: the matrix product.
        pieces: one dream of the feature.
        peers: other implementations, by name.
        crowds: several dreams in one program, by name.
    """

    ceiling: Ceiling
    pieces: Pieces
    peers: dict[str, Peer]
    crowds: dict[str, Search]

    def first_calls(self) -> dict[str, int]:
        """How often each is called while nothing is known of its speed; the peers know theirs."""
        ours = [CEILING, PLAIN, SUFFIX, GRADIENTS, ITERATION, *self.crowds]
        theirs = {name: calls_for(peer.ready["seconds"]) for name, peer in self.peers.items()}
        return {**dict.fromkeys(ours, 1), **theirs}

    def round(self, states: dict[str, State], calls: dict[str, int]) -> tuple[dict[str, State], Samples]:
        """One turn of each; states by the name of what they are the state of."""
        samples = {CEILING: self.ceiling.measure(calls[CEILING])}
        for name, peer in self.peers.items():
            samples[name] = Sample(peer.seconds(calls[name]))
        # The iteration comes first of ours, right after those that it is compared with.
        mine, pieces = self.pieces.measure(states[ITERATION], calls)
        moved, samples = {ITERATION: mine}, samples | pieces
        expected = self.pieces.prompt.expected()
        for name, crowd in self.crowds.items():
            population, children = crowd.algorithm.population, crowd.algorithm.children
            moved[name], _, seconds = crowd.measure(states[name], calls[name])
            dreams = states[name].ids.shape[0]
            rows = expected * (population * children)
            samples[name] = Sample(
                seconds, dreams * flops.iteration(self.pieces.shape, self.pieces.prompt, population, rows)
            )
        return moved, samples


def measure(settings: Settings, tell: Tell) -> Report:
    """Load the model and measure every feature.

    Raises:
        EpoError: settings that the model or a peer cannot serve.
    """
    load = os.getloadavg()[0]
    lm = epo_jax.load_model(settings.model, settings.dtype)
    # All of them first, so that the last one's mistake does not wait for the others' measurements.
    features = [epo_jax.parse_feature(text, lm) for text in settings.features]
    sections: list[Section] = []
    rest = settings
    for feature in features:
        sections.append(_section(lm, rest, feature, tell))
        # What was fastest for the first feature is for the others, and numbers of dreams are measured once.
        batches = (sections[-1].peers[DREAMY]["batch"],) if settings.dreamy is not None else ()
        rest = dataclasses.replace(rest, dreams=(), dreamy_batches=batches)
    config = lm.config
    stats = jax.devices()[0].memory_stats()
    environment: dict[str, object] = {
        **versions(),
        "dtype": config.dtype,
        "model": dataclasses.asdict(config),
        # Programs of others take time from both sides, and not the same share of it.
        "load_before": load,
        "cores": os.cpu_count(),
        "weights_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(lm.params)),
        # Of the whole process until now; not every kind of device tells it.
        "device_peak_bytes": stats["peak_bytes_in_use"] if stats else None,
    }
    return Report(settings.to_json() | {"dtype": config.dtype}, environment, tuple(sections))


def _section(lm: epo_jax.LanguageModel, settings: Settings, feature: epo_jax.Feature, tell: Tell) -> Section:
    text = feature.name
    # No BOS, so that the sequences are the same as the peers'.
    template = epo_jax.Template(settings.prefix, settings.suffix, "never")
    frozen = frozen_tokens(lm, template)
    prompt = flops.Prompt(settings.config.length, len(frozen.prefix), len(frozen.suffix), text.startswith(LOGIT))
    expected, shape = prompt.expected(), flops.shape_of(lm.config)
    floor = flops.iteration(shape, prompt, settings.config.population, expected * settings.candidates)
    tell(f"{text}: compiling")
    ceiling = Ceiling.of(lm.config, 2048 if jax.default_backend() == "cpu" else 8192, settings.seed)
    ceiling.measure(1)
    speed = ceiling.measure(3)
    key = jax.random.key(settings.seed, impl="threefry2x32")
    algorithm = epo_jax.build(lm, feature, settings.config, template, micro_batch=settings.micro_batch)
    pieces, state = Pieces.of(algorithm, shape, prompt, key, settings.steps or steps_for(floor, speed))
    states, crowds = {ITERATION: state}, {}
    for dreams in settings.dreams:
        several = epo_jax.build(
            lm,
            drawn_features(lm, dreams, settings.seed),
            settings.config,
            template,
            micro_batch=settings.micro_batch,
        )
        name = f"{dreams} dream{'s' * (dreams > 1)} in one program"
        steps = settings.steps or steps_for(dreams * floor, speed)
        crowds[name], states[name] = Search.of(several, jax.random.split(key, dreams), steps)
    with contextlib.ExitStack() as stack:
        peers = _peers(stack, lm, settings, text, np.asarray(state.ids), tell)
        bench = Bench(ceiling, pieces, peers, crowds)
        differences = {f"{SUFFIX} and {PLAIN}": pieces.difference(state)}
        if DREAMY in peers and not settings.model.startswith(RANDOM):
            differences["dreamy and epo_jax"] = difference(state, types.SimpleNamespace(**peers[DREAMY].ready))
        rounds = _rounds(bench, states, settings.repeats, tell)
    count = settings.candidates
    lines = [
        ceiling.program.line(CEILING, [r[CEILING] for r in rounds]),
        pieces.plain.line(PLAIN, [r[PLAIN] for r in rounds], count),
        pieces.suffix.line(SUFFIX, [r[SUFFIX] for r in rounds], count),
        pieces.gradients.line(GRADIENTS, [r[GRADIENTS] for r in rounds]),
        pieces.search.advance.line(ITERATION, [r[ITERATION] for r in rounds], count, 1),
        *(Line(name, tuple(r[name] for r in rounds), count, dreams=int(name == DREAMY)) for name in peers),
        *(
            crowds[name].advance.line(name, [r[name] for r in rounds], count * dreams, dreams)
            for name, dreams in zip(crowds, settings.dreams, strict=True)
        ),
    ]
    said = {name: peer.ready for name, peer in peers.items()}
    return Section(text, tuple(lines), floor, (expected.blocks, expected.head), differences, said)


def drawn_features(lm: epo_jax.LanguageModel, count: int, seed: int) -> list[epo_jax.Feature]:
    """Neurons drawn by a seed."""
    rng = np.random.default_rng(seed)
    layers, neurons = rng.integers(lm.config.layers, size=count), rng.integers(lm.config.mlp_width, size=count)
    return [epo_jax.parse_feature(f"L{layer}.N{neuron}", lm) for layer, neuron in zip(layers, neurons, strict=True)]


def _rounds(bench: Bench, states: dict[str, State], repeats: int, tell: Tell) -> list[Samples]:
    calls = bench.first_calls()
    states, warm = bench.round(states, calls)
    if warm[ITERATION].seconds < 1:
        # A first call loads what later ones find loaded, which would hide how short they are.
        states, warm = bench.round(states, calls)
    ours = {name: calls_for(sample.seconds) for name, sample in warm.items() if name not in bench.peers}
    for name, search in {ITERATION: bench.pieces.search, **bench.crowds}.items():
        ours[name] = calls_for(warm[name].seconds * search.steps)
    rounds = []
    for number in range(repeats):
        states, samples = bench.round(states, calls | ours)
        rounds.append(samples)
        seconds = "; ".join(f"{name} {sample.seconds:.3g} s" for name, sample in samples.items())
        tell(f"round {number + 1} of {repeats}: {seconds}")
    return rounds


def _peers(
    stack: contextlib.ExitStack, lm: epo_jax.LanguageModel, settings: Settings, text: str, ids: np.ndarray, tell: Tell
) -> dict[str, Peer]:
    peers = {}
    if settings.nanogcg:
        tell("nanoGCG: loading the model")
        task = nanogcg_task(lm, settings, stack.enter_context(tempfile.TemporaryDirectory()))
        peers[NANOGCG] = stack.enter_context(
            started("--nanogcg", FOLDER / "time_nanogcg.py", settings.peer_python, task)
        )
    if settings.dreamy is not None:
        tell("dreamy: loading the model and choosing a batch size")
        task, flag = dreamy_task(lm, settings, text, ids), f"--dreamy={settings.dreamy}"
        peers[DREAMY] = stack.enter_context(started(flag, FOLDER / "time_dreamy.py", settings.peer_python, task))
    return peers
