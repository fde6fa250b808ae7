"""What a site holds at the tokens of sequences of any lengths, for directions and probes of one's own."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float, Float32, Int32
from numpy.typing import ArrayLike

from epo_jax.axes import Sequences
from epo_jax.errors import EpoError
from epo_jax.features.site_names import parse_site, site_shape
from epo_jax.models import LanguageModel
from epo_jax.models.decoder import PATTERN, Decoder, Observer
from epo_jax.models.language_model import checked_ids
from epo_jax.parallel.placing import fetched

# Sequences are filled up to a multiple of this, so that few programs serve all lengths.
STEP = 16
AT_ONCE = 32


def activations(lm: LanguageModel, site: str, ids: ArrayLike) -> list[Float32[np.ndarray, "S ..."]]:
    """What a site holds at every token, of whole sequences as they are; no BOS is added.

    Args:
        lm: the model.
        site: its full name, such as "blocks.12.hook_resid_pre".
        ids: int[B, S], or B sequences of different lengths, as tokenizers give them.

    Returns:
        For each sequence float32[S, ...]: [S, D] of a residual stream or of what attention or MLP add to it, [S, F] of
        "mlp.hook_post", [S, H, head_dim] of "attn.hook_z", [S, H, S] of "attn.hook_pattern", from query to key.

    Raises:
        EpoError: a name that is no site of this model, no sequences, or tokens that the model cannot take.
    """
    name, layer = parse_site(site, lm, "activations")
    sequences = [np.asarray(checked_ids(lm, [one]))[0] for one in _rows(ids)]
    longest = max(map(len, sequences))
    width = min(-(-longest // STEP) * STEP, lm.config.max_positions)
    # Tokens behind a sequence's own change nothing at them, since attention looks back alone.
    filled = np.zeros((len(sequences), width), np.int32)
    for row, own in zip(filled, sequences, strict=True):
        row[: len(own)] = own
    at_once = min(AT_ONCE, len(sequences))
    found: list[np.ndarray] = []
    for start in range(0, len(sequences), at_once):
        part = filled[start : start + at_once]
        whole = np.pad(part, ((0, at_once - len(part)), (0, 0)))
        values = fetched(_values(lm.graphdef, lm.params, jnp.int32(layer), jnp.asarray(whole), name))
        found.extend(values[: len(part)])
    return [
        values[: len(own), :, : len(own)] if name == PATTERN else values[: len(own)]
        for own, values in zip(sequences, found, strict=True)
    ]


def _rows(ids: ArrayLike) -> Sequence[ArrayLike]:
    try:
        rows = list(ids)  # type: ignore[arg-type]
    except TypeError as error:
        raise EpoError(f"ids: are of type {type(ids).__name__}, where sequences of tokens are read") from error
    if not rows:
        raise EpoError("ids: hold no sequence; give at least one")
    return rows


@functools.partial(jax.jit, static_argnums=(0, 4))
def _values(
    graphdef: nnx.GraphDef[Decoder], params: nnx.State, layer: Int32[Array, ""], ids: Sequences, name: str
) -> Float32[Array, "B S ..."]:
    decoder = nnx.merge(graphdef, params)
    config = decoder.config
    shape = (config.heads, ids.shape[1]) if name == PATTERN else site_shape(name, config)

    def observe(kept: Array, _site: str, here: Int32[Array, ""], value: Float[Array, "B S ..."]) -> Array:
        return jnp.where(here == layer, value.astype(jnp.float32), kept)

    nothing = jnp.zeros((*ids.shape, *shape), jnp.float32)
    _, values, _ = decoder(decoder.embed(ids), Observer((name,), observe), nothing)
    return values
