"""`probe:SITE:FILE.npz`: a linear probe, a weighted sum of all numbers of a site."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32, Int32

from epo_jax.errors import EpoError
from epo_jax.features.array_files import check_names, number, read_npz, vector
from epo_jax.features.base import Label, OneSite
from epo_jax.features.site_names import parse_site, site_width
from epo_jax.models import LanguageModel
from epo_jax.models.decoder import PATTERN

FORM = "probe:blocks.5.hook_resid_post:FILE.npz"
_PREFIX = "probe:"
WEIGHTS, BIAS = "weights", "bias"


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Probe(OneSite):
    """A site's numbers dot weights, plus a bias.

    Attributes:
        layer: the site's block.
        weights: float32[N], of heads one after the other where the site has heads.
        bias: float32.
        site: one of `models.decoder.SITES`; static.
        label: the feature string.
    """

    layer: Int32[Array, "*R"]
    weights: Float32[Array, "*R N"]
    bias: Float32[Array, "*R"]
    site: str = dataclasses.field(metadata={"static": True})
    label: Label = dataclasses.field(metadata={"static": True})

    def observe(
        self, kept: Float32[Array, ""], site: str, layer: Int32[Array, ""], value: Float[Array, "*N"]
    ) -> Float32[Array, ""]:
        """Keep the probe's number at its own block."""
        numbers = value.reshape(-1).astype(jnp.float32)
        found = jnp.dot(numbers, self.weights, precision=jax.lax.Precision.HIGHEST) + self.bias
        return jnp.where(layer == self.layer, found, kept)


def parse(text: str, lm: LanguageModel) -> Probe | None:
    """The probe that a feature string names, or None if it is not of this kind.

    The file holds `weights`, as many as the site has numbers (of `attn.hook_z`, heads one after the other), and may
    hold `bias`, one number, 0 without it.

    Raises:
        EpoError: no site with numbers of its own, or a file that is no probe of it.
    """
    if not text.startswith(_PREFIX):
        return None
    flag = f"--feature={text}"
    name, colon, path = text.removeprefix(_PREFIX).partition(":")
    if not colon or not path:
        raise EpoError(f"{flag}: not a probe; the form is {FORM}")
    site, layer = parse_site(name, lm, flag)
    if site == PATTERN:
        raise EpoError(f"{flag}: no probe reads {name}, which is as wide as the prompt is long; use attention:L5.H3:0")
    arrays = read_npz(path, flag)
    check_names(arrays, (WEIGHTS,), (WEIGHTS, BIAS), f"{flag}: {path}")
    width = site_width(site, lm.config)
    weights = vector(arrays[WEIGHTS], width, f"the width of {name}", f"{WEIGHTS} of {path}", flag)
    bias = number(arrays[BIAS], f"{BIAS} of {path}", flag) if BIAS in arrays else jnp.float32(0)
    return Probe(jnp.int32(layer), weights, bias, site, Label(text))
