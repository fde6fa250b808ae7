"""`sae:FOLDER:123`: a latent of a sparse autoencoder, by its pre-activation, which has a gradient where it is off."""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Float32, Int32

from epo_jax.autoencoders import Autoencoder, Settings, open_autoencoder
from epo_jax.autoencoders.settings import CONSTANT_NORM, GATED, JUMPRELU, LAYER_NORM, LOADING, TOPK
from epo_jax.errors import EpoError
from epo_jax.features.base import Label, OneSite
from epo_jax.features.site_names import parse_site, site_width
from epo_jax.models import LanguageModel
from epo_jax.models.decoder import ATTN_OUT, MLP_OUT, RESID_MID, RESID_POST, RESID_PRE, Z

FORM = "sae:FOLDER_OR_RELEASE/SAE_ID:123"
_PREFIX = "sae:"
_STREAM = (RESID_PRE, RESID_MID, RESID_POST, MLP_OUT, ATTN_OUT)
# Added to the standard deviation by SAELens's layer_norm.
_EPSILON = 1e-5
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """The autoencoder and the latent's number, which ride along unseen by the compiler, as a `Label` does."""

    autoencoder: Autoencoder
    index: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source)

    def __hash__(self) -> int:
        return hash(Source)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Latent(OneSite):
    """A latent's pre-activation; see `autoencoders.LatentNumbers` for its numbers.

    What it gives is the larger, the nearer the latent is to being on, and the activation itself where it is on. Of a
    gated latent that is off it is the smaller of what the gate and the magnitude lack.

    Attributes:
        layer: the site's block.
        head: the head that it reads; without `by_head` of no meaning.
        encoder: float32[N].
        center: float32[N].
        bias: float32.
        gain: float32.
        threshold: float32.
        magnitude_gain: float32.
        magnitude_bias: float32.
        scale: float32, factor of the value.
        site: one of `models.decoder.SITES`; static.
        architecture: one of `autoencoders.settings.ARCHITECTURES`; static.
        normalization: one of `autoencoders.settings.NORMALIZATIONS`; static.
        centered: whether the value's mean is taken off first, which the model's processing would have done; static.
        by_head: whether one head is read; static.
        source: where its numbers came from.
        label: the feature string.
    """

    layer: Int32[Array, "*R"]
    head: Int32[Array, "*R"]
    encoder: Float32[Array, "*R N"]
    center: Float32[Array, "*R N"]
    bias: Float32[Array, "*R"]
    gain: Float32[Array, "*R"]
    threshold: Float32[Array, "*R"]
    magnitude_gain: Float32[Array, "*R"]
    magnitude_bias: Float32[Array, "*R"]
    scale: Float32[Array, "*R"]
    site: str = dataclasses.field(metadata={"static": True})
    architecture: str = dataclasses.field(metadata={"static": True})
    normalization: str = dataclasses.field(metadata={"static": True})
    centered: bool = dataclasses.field(metadata={"static": True})
    by_head: bool = dataclasses.field(metadata={"static": True})
    source: Source = dataclasses.field(metadata={"static": True})
    label: Label = dataclasses.field(metadata={"static": True})

    def observe(
        self, kept: Float32[Array, ""], site: str, layer: Int32[Array, ""], value: Float[Array, "*shape"]
    ) -> Float32[Array, ""]:
        """Keep the pre-activation at its own block."""
        return jnp.where(layer == self.layer, self.pre_activation(self.read(value)), kept)

    def read(self, value: Float[Array, "*shape"]) -> Float32[Array, " N"]:
        """What the autoencoder takes of a token's value at the site: processed, scaled and normalized."""
        x = (value[self.head] if self.by_head else value.reshape(-1)).astype(jnp.float32)
        if self.centered:
            x = x - x.mean()
        x = x * self.scale
        if self.normalization == LAYER_NORM:
            x = x - x.mean()
            return x / (_root((x**2).sum() / (x.shape[0] - 1)) + _EPSILON)
        if self.normalization == CONSTANT_NORM:
            norm = _root((x**2).sum())
            return x * (x.shape[0] ** 0.5 / jnp.where(norm > 0, norm, 1))
        return x

    def pre_activation(self, x: Float32[Array, " N"]) -> Float32[Array, ""]:
        """The latent's value for the search, of what `read` gives."""
        return self.of_product(jnp.dot(x - self.center, self.encoder, precision=jax.lax.Precision.HIGHEST))

    def of_product(self, product: Float32[Array, "*shape"]) -> Float32[Array, "*shape"]:
        """The value for the search, of the product with the encoder's column; of a stack, of products [..., R]."""
        pre = self.gain * (product + self.bias)
        if self.architecture != GATED:
            return pre
        magnitude = self.magnitude_gain * product + self.magnitude_bias
        return jnp.where((pre > 0) & (magnitude > 0), magnitude, jnp.minimum(pre, magnitude))

    def activations(self, x: Float32[np.ndarray, "n N"]) -> Float32[np.ndarray, " n"]:
        """What SAELens's `encode` gives for this latent, for n of what `read` gives.

        Of a top-k autoencoder the whole encoder is read from its file.
        """
        if self.architecture == TOPK:
            return self.source.autoencoder.top_k(x, self.source.index)
        pre = np.asarray(jax.vmap(self.pre_activation)(jnp.asarray(x)))
        threshold = np.float32(self.threshold) if self.architecture == JUMPRELU else np.float32(0)
        return np.where(pre > threshold, np.maximum(pre, 0), np.float32(0))


def parse(text: str, lm: LanguageModel) -> Latent | None:
    """The latent that a feature string names, or None if it is not of this kind.

    Raises:
        EpoError: no such autoencoder or latent, or one of another model.
    """
    if not text.startswith(_PREFIX):
        return None
    flag = f"--feature={text}"
    name, colon, number = text.removeprefix(_PREFIX).rpartition(":")
    if not colon or not name or re.fullmatch("[0-9]{1,9}", number) is None:
        raise EpoError(f"{flag}: not a latent; the form is {FORM}")
    index = int(number)
    autoencoder = open_autoencoder(name, flag)
    settings = autoencoder.settings
    site, layer = parse_site(settings.hook_name, lm, flag)
    if site not in (*_STREAM, Z):
        known = ", ".join(one.replace("{l}", "L") for one in (*_STREAM, Z))
        raise EpoError(f"{flag}: latents of {settings.hook_name} are not read; sites of autoencoders are {known}")
    _check_width(autoencoder, site, lm, flag)
    centered = _centered(settings, site, lm, flag)
    numbers = autoencoder.latent(index, flag)
    _tell_of_other_models(settings, lm)
    return Latent(
        layer=jnp.int32(layer),
        head=jnp.int32(settings.head or 0),
        encoder=jnp.asarray(numbers.encoder),
        center=jnp.asarray(numbers.center),
        bias=jnp.float32(numbers.bias),
        gain=jnp.float32(numbers.gain),
        threshold=jnp.float32(numbers.threshold),
        magnitude_gain=jnp.float32(numbers.magnitude_gain),
        magnitude_bias=jnp.float32(numbers.magnitude_bias),
        scale=jnp.float32(settings.scale),
        site=site,
        architecture=settings.architecture,
        normalization=settings.normalization,
        centered=centered,
        by_head=settings.head is not None,
        source=Source(autoencoder, index),
        label=Label(text),
    )


def _check_width(autoencoder: Autoencoder, site: str, lm: LanguageModel, flag: str) -> None:
    settings, width = autoencoder.settings, site_width(site, lm.config)
    if settings.head is not None:
        if site != Z:
            raise EpoError(f"{flag}: hook_head_index={settings.head} means nothing at {settings.hook_name}")
        if not 0 <= settings.head < lm.config.heads:
            raise EpoError(f"{flag}: the model has no head {settings.head}; its heads are 0 to {lm.config.heads - 1}")
        width = lm.config.head_dim
    if autoencoder.d_in != width:
        raise EpoError(
            f"{flag}: the autoencoder reads {autoencoder.d_in} numbers, and {settings.hook_name} of {lm.source} has "
            f"{width}; it belongs to {settings.model_name or 'another model'}"
        )


def _centered(settings: Settings, site: str, lm: LanguageModel, flag: str) -> bool:
    """Whether the mean is to be taken off: TransformerLens centers what models with LayerNorm write, and no others."""
    differs = {
        # A normalization that takes the mean off does so anyway.
        "center_writing_weights": site in _STREAM
        and lm.config.norm == "layer"
        and settings.normalization != LAYER_NORM,
        # Folding LayerNorm makes value biases of its own bias.
        "fold_value_biases": site == Z and (lm.config.attention_bias or lm.config.norm == "layer"),
        "refactor_factored_attn_matrices": site == Z,
    }
    done = settings.processing
    if done is None:
        unknown = [name for name in ("center_writing_weights", "fold_value_biases") if differs[name]]
        if unknown:
            raise EpoError(
                f"{flag}: its configuration does not say how the model was processed ({LOADING}), and values at "
                f'{settings.hook_name} depend on it; put "{LOADING}": {{"{unknown[0]}": true}} into it if '
                "TransformerLens's from_pretrained loaded the model, as SAELens before 3.19.2 had it, or false if "
                "from_pretrained_no_processing did"
            )
        return False
    for name in ("fold_value_biases", "refactor_factored_attn_matrices"):
        if getattr(done, name) and differs[name]:
            raise EpoError(
                f"{flag}: was trained on {settings.hook_name} of a model that was processed by {name}, which is not "
                "done here"
            )
    return done.center_writing_weights and differs["center_writing_weights"]


def _tell_of_other_models(settings: Settings, lm: LanguageModel) -> None:
    """Warn where names differ; that they do is no proof, since models have many names, and files any."""

    def simple(name: str) -> str:
        return re.sub("[^a-z0-9]", "", name.rpartition("/")[2].lower()).removesuffix("small")

    said = settings.model_name
    if said and simple(said) != simple(lm.source) and not Path(lm.source).exists():
        _LOG.warning(
            "the autoencoder of %s was trained on %s, and the model is %s", settings.hook_name, said, lm.source
        )


def _root(x: Float32[Array, ""]) -> Float32[Array, ""]:
    """The square root, with a gradient of 0 at 0 (rows that stand for nothing may be zeros)."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
