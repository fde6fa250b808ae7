"""`residual:L12:FILE.npy`: the standardized residual stream along a direction, of a file or drawn from a seed."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float32, Int32

from epo_jax.errors import EpoError
from epo_jax.features.array_files import read_npy, vector
from epo_jax.features.base import Label, OneSite
from epo_jax.features.site_names import check_layer, check_middle
from epo_jax.models import LanguageModel
from epo_jax.models.decoder import RESID_MID, RESID_POST, RESID_PRE

FORM = "residual:L12:FILE.npy, residual:L12.mid:FILE.npy, residual:L12:random:SEED"
_PREFIX = "residual:"
_PATTERN = re.compile(r"residual:L([0-9]{1,9})(?:\.(pre|mid|post))?:(.+)", re.DOTALL)
_RANDOM = "random:"
_SITES = {"pre": RESID_PRE, "mid": RESID_MID, "post": RESID_POST}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ResidualDirection(OneSite):
    """The residual stream, with zero mean and unit sample standard deviation, dot a vector (section 3.2 of the paper).

    Attributes:
        layer: the block.
        vector: float32[D].
        site: the stream before, in the middle of or after the block; static.
        label: the feature string.
    """

    layer: Int32[Array, "*R"]
    vector: Float32[Array, "*R D"]
    site: str = dataclasses.field(metadata={"static": True})
    label: Label = dataclasses.field(metadata={"static": True})

    def observe(
        self, kept: Float32[Array, ""], site: str, layer: Int32[Array, ""], value: Float[Array, " D"]
    ) -> Float32[Array, ""]:
        """Keep the product at the feature's own block."""
        found = jnp.dot(standardized(value), self.vector, precision=jax.lax.Precision.HIGHEST)
        return jnp.where(layer == self.layer, found, kept)


def standardized(stream: Float[Array, " D"]) -> Float32[Array, " D"]:
    """Numbers less their mean, over their sample standard deviation; zeros where they are all the same."""
    centered = stream.astype(jnp.float32)
    centered -= centered.mean()
    variance = (centered**2).sum() / (centered.shape[0] - 1)
    # Gradients of all blocks are taken, also where the stream is constant and the root of nothing has none.
    return centered / jnp.sqrt(jnp.where(variance > 0, variance, 1))


def parse(text: str, lm: LanguageModel) -> ResidualDirection | None:
    """The direction that a feature string names, or None if it is not of this kind.

    Raises:
        EpoError: a layer or a stream that the model does not have, or a file that is no vector of its width.
    """
    if not text.startswith(_PREFIX):
        return None
    flag = f"--feature={text}"
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise EpoError(f"{flag}: not a residual direction; the forms are {FORM}, with .pre, .mid or .post")
    layer, site = check_layer(int(match[1]), lm, flag), _SITES[match[2] or "pre"]
    if site == RESID_MID:
        check_middle(lm, flag)
    width = lm.config.width
    if match[3].startswith(_RANDOM):
        direction = jnp.asarray(_drawn(match[3].removeprefix(_RANDOM), width, flag))
    else:
        what = "the width of the model's residual stream"
        direction = vector(read_npy(match[3], flag), width, what, match[3], flag)
    return ResidualDirection(jnp.int32(layer), direction, site, Label(text))


def _drawn(seed: str, width: int, flag: str) -> np.ndarray:
    if not re.fullmatch(r"[0-9]{1,38}", seed):
        raise EpoError(f"{flag}: {seed!r} is no seed; a seed is a whole number from 0 on")
    return np.random.default_rng(int(seed)).standard_normal(width).astype(np.float32)
