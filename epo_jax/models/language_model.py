"""A model ready to use, and its logits."""

from __future__ import annotations

import dataclasses
import functools
import typing

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Float32
from numpy.typing import ArrayLike
from transformers import PreTrainedTokenizerFast

from epo_jax.axes import Sequences
from epo_jax.errors import EpoError
from epo_jax.models.config import DecoderConfig
from epo_jax.models.decoder import Decoder
from epo_jax.parallel.mesh import AXES, DATA


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """A language model.

    Attributes:
        graphdef: the decoder's structure; hashable.
        params: its parameters, in the dtype of `config`.
        tokenizer: transformers' tokenizer.
        config: shape and switches.
        source: the name, file, folder or hub id that it was loaded from.
        revision: of a model of the hub, the branch, tag or commit that was asked for; None if none was.
        commit: of a model of the hub, the commit that was loaded; None for any other.
    """

    graphdef: nnx.GraphDef[Decoder]
    params: nnx.State
    tokenizer: PreTrainedTokenizerFast
    config: DecoderConfig
    source: str
    revision: str | None = None
    commit: str | None = None

    @property
    def mesh(self) -> Mesh | None:
        """The devices that its parameters lie on; None for a single one without a mesh."""
        sharding = jax.tree.leaves(self.params)[0].sharding
        if not isinstance(sharding, NamedSharding) or sharding.mesh.axis_names != AXES:
            return None
        # Of a model that was only laid out, for a plan, devices need not be here.
        return typing.cast(Mesh, sharding.mesh)

    @property
    def fsdp(self) -> bool:
        """Whether parameters lie over the mesh's axis `data` too."""
        return self.mesh is not None and any(DATA in leaf.sharding.spec for leaf in jax.tree.leaves(self.params))


def checked_ids(lm: LanguageModel, ids: ArrayLike) -> Sequences:
    """Token ids as int32[B, S], checked against the model.

    Raises:
        EpoError: not two-dimensional whole numbers, empty, outside the vocabulary, or longer than the model takes.
    """
    try:
        array = np.asarray(ids)
    except ValueError as error:
        raise EpoError("ids: rows of different lengths, where int[B, S] is read") from error
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer) or 0 in array.shape:
        raise EpoError(f"ids: have shape {array.shape} and dtype {array.dtype}, where int[B, S] is read, both above 0")
    if array.min() < 0 or array.max() >= lm.config.vocab_size:
        raise EpoError(
            f"ids: {array.min()} to {array.max()} are outside the vocabulary 0 to {lm.config.vocab_size - 1}"
        )
    if array.shape[1] > lm.config.max_positions:
        raise EpoError(f"ids: {array.shape[1]} tokens are more than the {lm.config.max_positions} that the model takes")
    return jnp.asarray(array, jnp.int32)


def logits(lm: LanguageModel, ids: ArrayLike) -> Float32[jax.Array, "B S V"]:
    """Next-token logits of whole sequences as they are; no BOS is added.

    Args:
        lm: the model.
        ids: int[B, S].

    Returns:
        float32[B, S, V].

    Raises:
        EpoError: ids that are not int[B, S] within the vocabulary and the model's length.
    """
    return _logits(lm.graphdef, lm.params, checked_ids(lm, ids))[..., : lm.config.vocab_size]


@functools.partial(jax.jit, static_argnums=0)
def _logits(graphdef: nnx.GraphDef[Decoder], params: nnx.State, ids: Sequences) -> Float32[jax.Array, "B S V"]:
    decoder = nnx.merge(graphdef, params)
    hidden, _, _ = decoder(decoder.embed(ids))
    return decoder.unembed(hidden)
