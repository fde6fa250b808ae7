"""The program of an iteration, made and compiled without numbers: the one that `dream` runs."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from epo_jax.config import EPOConfig
from epo_jax.dream.chunks import CAPACITY
from epo_jax.dream.memory import Memory, first_fitting, memory_needed, rows_of, scorer_of, shapes_unchecked
from epo_jax.epo import Algorithm, State
from epo_jax.errors import EpoError
from epo_jax.features import Feature
from epo_jax.models import LanguageModel
from epo_jax.scoring.api import build
from epo_jax.scoring.template import Template

# What a TPU's compiler says of a program that does not fit.
_REQUIRED = re.compile(r"\(([\d.]+)([KMGT]?)\) exceeds available")
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled iteration that fits.

    Attributes:
        algorithm: the search; its leaves are shapes.
        compiled: `Algorithm.advance` for it.
        memory: bytes that it needs on each device; None where its compiler does not tell.
        temporaries: bytes of that beside arguments and results.
        seconds: that the compiler took, for the blocks that fit alone.
    """

    algorithm: Algorithm
    compiled: jax.stages.Compiled
    memory: Memory | None
    temporaries: int
    seconds: float

    @property
    def rows(self) -> int:
        """Rows of tokens that evaluation runs as one block."""
        return rows_of(self.algorithm)


def abstract_search(
    lm: LanguageModel,
    features: Sequence[Feature],
    config: EPOConfig,
    template: Template,
    micro_batch: int | None = None,
) -> tuple[Algorithm, State]:
    """The search that `dream` would build, and a state of it, all of their leaves being shapes on the model's mesh.

    Args:
        lm: what `laid_on` gave.
        features: one for each dream.
        config: settings of the search.
        template: frozen text around the prompt.
        micro_batch: rows of a block; by default as many as there may be.

    Raises:
        EpoError: what `build` raises.
    """
    mesh = lm.mesh
    if mesh is None:
        raise EpoError(f"{lm.source}: lies on no mesh, and a plan needs one")
    with shapes_unchecked():
        built = build(lm, features, config, template, micro_batch=micro_batch, mesh=mesh)
        algorithm = _described(built, mesh)
        keys = jax.eval_shape(
            lambda: jax.vmap(lambda n: jax.random.key(n, impl="threefry2x32"))(jax.numpy.arange(len(features)))
        )
        state = jax.eval_shape(lambda search, keys: search.init(keys), algorithm, _described(keys, mesh))
        return algorithm, _described(state, mesh)


def fitting_program(algorithm: Algorithm, state: State, limit: float | None, smaller: bool = True) -> Program:
    """The program with the largest blocks that fits, compiled.

    Args:
        algorithm: of shapes.
        state: likewise.
        limit: bytes that there are on each device; None for no limit.
        smaller: whether blocks may be made smaller until they fit.

    Raises:
        EpoError: nothing fits.
    """
    last: list[Program] = []

    def needs(one: Algorithm) -> Memory | None:
        started = time.monotonic()
        try:
            compiled = one.trace_advance(state, CAPACITY).lower().compile()
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            found = _REQUIRED.search(str(error))
            needed = math.inf if found is None else float(found[1]) * _UNITS[found[2]]
            if not smaller:
                raise _too_large(needed, limit) from error
            return Memory(needed, 0)
        memory = memory_needed(compiled)
        analysis = compiled.memory_analysis()
        temporaries = 0 if analysis is None else analysis.temp_size_in_bytes
        last[:] = [Program(one, compiled, memory, temporaries, time.monotonic() - started)]
        if not smaller and memory is not None and limit is not None and memory.needed > limit:
            raise _too_large(memory.needed, limit)
        return memory

    with shapes_unchecked():
        first_fitting(algorithm, needs, lambda _: limit)
    return last[0]


def bytes_on_each(tree: Any) -> int:
    """Bytes of a pytree of shapes on each device."""
    return sum(_bytes(leaf) for leaf in jax.tree.leaves(tree))


def cache_bytes(algorithm: Algorithm) -> int:
    """Bytes on each device of what gradients leave for evaluation; less where heads are shared over `model`."""

    def rows(search: Algorithm, ids: Any, penalties: Any, dream: Any) -> Any:
        return search.scorer.gradients(ids, penalties, dream)[1]

    count = algorithm.sharing.units
    numbers = [
        jax.ShapeDtypeStruct((count, algorithm.length), jax.numpy.int32),
        jax.ShapeDtypeStruct((count,), jax.numpy.float32),
        jax.ShapeDtypeStruct((count,), jax.numpy.int32),
    ]
    with shapes_unchecked():
        whole = dataclasses.replace(algorithm, mesh=None, scorer=_whole(scorer_of(algorithm)))
        left = jax.eval_shape(rows, whole, *numbers)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(left))


def _whole(tree: Tree) -> Tree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def _described(tree: Tree, mesh: Mesh) -> Tree:
    """A pytree of arrays and shapes as shapes, each whole on every device unless it lies on the mesh already."""
    everywhere = NamedSharding(mesh, PartitionSpec())

    def one(leaf: Any) -> jax.ShapeDtypeStruct:
        here = isinstance(leaf, jax.ShapeDtypeStruct) and leaf.sharding is not None
        return leaf if here else jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere)

    return jax.tree.map(one, tree)


def _bytes(leaf: jax.ShapeDtypeStruct) -> int:
    if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return 0
    shape = leaf.shape if leaf.sharding is None else leaf.sharding.shard_shape(leaf.shape)
    return math.prod(shape) * leaf.dtype.itemsize


def _too_large(needed: float, limit: float | None) -> EpoError:
    told = f"{needed / 2**30:.1f} GiB of each device" if math.isfinite(needed) else "more than each device has"
    return EpoError(f"needs {told}" + ("" if limit is None else f"; {limit / 2**30:.1f} GiB are there"))
