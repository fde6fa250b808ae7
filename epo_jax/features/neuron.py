"""`L10.N5`: an MLP neuron, the input of the down projection after the gate."""

from __future__ import annotations

import dataclasses
import re

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Float32, Int32

from epo_jax.errors import EpoError
from epo_jax.features.base import Label, OneNumber
from epo_jax.models import LanguageModel
from epo_jax.models.decoder import MLP_POST

FORM = "L10.N5"
_PATTERN = re.compile(r"L(\d+)\.N(\d+)")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Neuron(OneNumber):
    """Activation of one MLP neuron."""

    layer: Int32[Array, "*R"]
    index: Int32[Array, "*R"]
    label: Label = dataclasses.field(metadata={"static": True})

    @property
    def sites(self) -> tuple[str, ...]:
        """The neurons of every block."""
        return (MLP_POST,)

    @property
    def depth(self) -> Int32[Array, "*R"]:
        """The neuron's layer."""
        return self.layer

    def observe(
        self, kept: Float32[Array, ""], site: str, layer: Int32[Array, ""], value: Float[Array, " F"]
    ) -> Float32[Array, ""]:
        """Keep the neuron's activation at its own layer."""
        return jnp.where(layer == self.layer, value[self.index].astype(jnp.float32), kept)


def parse(text: str, lm: LanguageModel) -> Neuron | None:
    """The neuron that a feature string names, or None if it is not of this kind.

    Raises:
        EpoError: a layer or neuron that the model does not have.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        return None
    layer, index = int(match[1]), int(match[2])
    if layer >= lm.config.layers:
        raise EpoError(f"--feature={text}: the model has no layer {layer}; its layers are 0 to {lm.config.layers - 1}")
    if index >= lm.config.mlp_width:
        raise EpoError(
            f"--feature={text}: a layer has no neuron {index}; its neurons are 0 to {lm.config.mlp_width - 1}"
        )
    return Neuron(jnp.int32(layer), jnp.int32(index), Label(text))
