"""What an autoencoder's configuration says of its latents: every key is read, known to change nothing, or refused."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from epo_jax.autoencoders.known_keys import HARMLESS, HARMLESS_LOADING
from epo_jax.errors import EpoError, listed

STANDARD, GATED, JUMPRELU, TOPK = "standard", "gated", "jumprelu", "topk"
ARCHITECTURES = (STANDARD, GATED, JUMPRELU, TOPK)
NO_NORM, LAYER_NORM, CONSTANT_NORM = "none", "layer_norm", "constant_norm_rescale"
NORMALIZATIONS = (NO_NORM, LAYER_NORM, CONSTANT_NORM)
AVERAGE = "expected_average_only_in"
HOOK_Z = "hook_z"
METADATA = "metadata"
LOADING = "model_from_pretrained_kwargs"

# Names that versions 1 and 2 of SAELens, and 3 to 5, had for the same.
_RENAMED = {
    "hook_point": "hook_name",
    "hook_point_layer": "hook_layer",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
_READ = frozenset(
    (
        *("architecture", "hook_name", "hook_layer", "hook_head_index", "model_name", "model_class_name"),
        *("activation_fn", "activation_fn_kwargs", "d_in", "d_sae", "k", "apply_b_dec_to_input"),
        *("normalize_activations", "reshape_activations", "rescale_acts_by_decoder_norm", "model_kwargs", LOADING),
    )
)
# SAELens before this version loaded models with TransformerLens's `from_pretrained`, and did not write that down.
_SAYS_PROCESSING = (3, 19, 2)
_NEWEST = "6"
# What that does of itself.
_BY_DEFAULT = {"center_writing_weights": True, "fold_value_biases": True}
_CHECKPOINT = ("checkpoint_index", "checkpoint_value", "checkpoint_label", "revision")

Kind = TypeVar("Kind", bool, int, str)


@dataclasses.dataclass(frozen=True)
class Processing:
    """What TransformerLens had done to the model whose values the autoencoder was trained on.

    Attributes:
        center_writing_weights: the means over D of all that is written to the residual stream were taken off.
        fold_value_biases: heads' outputs lack the biases of their values.
        refactor_factored_attn_matrices: heads' outputs are in another basis.
    """

    center_writing_weights: bool = False
    fold_value_biases: bool = False
    refactor_factored_attn_matrices: bool = False


@dataclasses.dataclass(frozen=True)
class Settings:
    """How latents are computed from a value, in this order: centering, scale, normalization, encoder.

    Attributes:
        architecture: one of `ARCHITECTURES`.
        hook_name: TransformerLens's name of what it reads, "blocks.5.hook_resid_post".
        head: the one head that it reads of that; None for all of it.
        subtract_center: whether the decoder's bias is taken off before the encoder.
        normalization: one of `NORMALIZATIONS`.
        scale: factor of the value.
        k: latents that are on together, of top-k ones.
        rescale: whether top-k ones are multiplied by the norms of their decoder rows.
        processing: of the model; None if the configuration does not say.
        model_name: the model's name, if it says.
        d_in: width that it says it reads.
        d_sae: latents that it says it has.
    """

    architecture: str
    hook_name: str
    head: int | None = None
    subtract_center: bool = True
    normalization: str = NO_NORM
    scale: float = 1.0
    k: int | None = None
    rescale: bool = False
    processing: Processing | None = None
    model_name: str | None = None
    d_in: int | None = None
    d_sae: int | None = None


def read_settings(config: Mapping[str, Any], scale: float | None, start: str) -> Settings:
    """Settings from a configuration as SAELens writes it, versions 1 to 6.

    Args:
        config: cfg.json.
        scale: factor of activations that were scaled to an expected norm; None if it is not known.
        start: what errors start with, flag and file.

    Raises:
        EpoError: a key that is not known, or one that asks for what is not done here.
    """
    old_names = "hook_point" in config
    modern = METADATA in config
    config = _flat(config, start)
    modern &= _says_processing(config.get("sae_lens_training_version", _NEWEST))
    unknown = set(config) - _READ - HARMLESS
    if unknown:
        raise EpoError(
            f"{start} has keys that are not known here and may change latents: {listed(unknown)}; take out those that "
            "do not"
        )
    if config.get("model_kwargs"):
        raise EpoError(f"{start}: model_kwargs={config['model_kwargs']!r} are not read; only none are")
    architecture, k = _architecture(config, start)
    hook_name, head = _site(config, start)
    normalization, factor = _normalization(config, scale, start)
    return Settings(
        architecture=architecture,
        hook_name=hook_name,
        head=head,
        subtract_center=_of(config, "apply_b_dec_to_input", bool, True, start),
        normalization=normalization,
        scale=factor,
        k=k,
        rescale=architecture == TOPK and _of(config, "rescale_acts_by_decoder_norm", bool, False, start),
        processing=_processing(config, old_names, modern, start),
        model_name=_of(config, "model_name", str, "", start) or None,
        d_in=_of(config, "d_in", int, 0, start) or None,
        d_sae=_of(config, "d_sae", int, 0, start) or None,
    )


def _flat(config: Mapping[str, Any], start: str) -> dict[str, Any]:
    """The keys of all versions under the newest names; version 6 has those about the model in `metadata`."""
    metadata = config.get(METADATA) or {}
    if not isinstance(metadata, Mapping):
        raise EpoError(f"{start}: metadata must be an object")
    flat: dict[str, Any] = {}
    for table in ({key: value for key, value in config.items() if key != METADATA}, metadata):
        for key, value in table.items():
            name = _RENAMED.get(key, key)
            if name in flat and flat[name] != value and name not in HARMLESS:
                raise EpoError(f"{start} says {name} twice: {flat[name]!r} and {value!r}; take out the wrong one")
            flat[name] = value
    return flat


def _of(config: Mapping[str, Any], key: str, kind: type[Kind], default: Kind, start: str) -> Kind:
    value = config.get(key)
    if value is None:
        return default
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise EpoError(f"{start}: {key}={value!r} is not a {kind.__name__}")
    return value


def _architecture(config: Mapping[str, Any], start: str) -> tuple[str, int | None]:
    architecture = _of(config, "architecture", str, STANDARD, start)
    activation = _of(config, "activation_fn", str, "", start)
    kwargs = config.get("activation_fn_kwargs") or {}
    if not isinstance(kwargs, Mapping) or set(kwargs) - {"k"}:
        raise EpoError(f"{start}: activation_fn_kwargs={kwargs!r} are not read; only k is")
    if architecture == STANDARD and activation == TOPK:
        architecture = TOPK
    if architecture not in ARCHITECTURES:
        trained = " (a training checkpoint; save it for inference)" if "batchtopk" in architecture else ""
        raise EpoError(
            f"{start}: architecture {architecture!r} is not known{trained}; known are {', '.join(ARCHITECTURES)}"
        )
    fitting = ("", TOPK, "relu") if architecture == TOPK else ("", "relu")
    if activation not in fitting:
        raise EpoError(f"{start}: activation_fn={activation!r} is not known with {architecture}; relu is")
    if architecture != TOPK:
        return architecture, None
    k = config["k"] if config.get("k") is not None else kwargs.get("k")
    if isinstance(k, bool) or not isinstance(k, int | float) or k != int(k) or k < 1:
        raise EpoError(f"{start}: a top-k autoencoder needs a whole k above 0, and it says {k!r}")
    return architecture, int(k)


def _site(config: Mapping[str, Any], start: str) -> tuple[str, int | None]:
    name = _of(config, "hook_name", str, "", start)
    model_class = _of(config, "model_class_name", str, "HookedTransformer", start)
    if not name or model_class != "HookedTransformer":
        found = f"names {name!r} of {model_class}" if name else "has no hook_name"
        raise EpoError(f"{start} {found}; it must name TransformerLens's site, such as blocks.5.hook_resid_post")
    layer = config.get("hook_layer")
    if layer is not None:
        # Early versions wrote the pattern.
        name = name.replace("{layer}", str(layer))
        said = re.match(r"blocks\.(\d+)\.", name)
        if said is not None and int(said[1]) != layer:
            raise EpoError(f"{start}: hook_name={name} and hook_layer={layer!r} disagree; take out the wrong one")
    reshape = _of(config, "reshape_activations", str, "none", start)
    if reshape not in ("none", HOOK_Z) or (reshape == HOOK_Z and not name.endswith("_z")):
        raise EpoError(f"{start}: reshape_activations={reshape!r} is not known for {name}")
    head = None if config.get("hook_head_index") is None else _of(config, "hook_head_index", int, 0, start)
    return name, head


def _normalization(config: Mapping[str, Any], scale: float | None, start: str) -> tuple[str, float]:
    said = config.get("normalize_activations")
    if said is None or isinstance(said, bool):
        said = AVERAGE if said else NO_NORM
    if said in NORMALIZATIONS:
        return said, 1.0
    if said != AVERAGE:
        raise EpoError(
            f"{start}: normalize_activations={said!r} is not known; known are {', '.join((*NORMALIZATIONS, AVERAGE))}"
        )
    if scale is None or not (math.isfinite(scale) and scale > 0):
        raise EpoError(
            f"{start}: normalize_activations={AVERAGE} needs the factor of the activations, which is not there; fold "
            "it in with SAELens's fold_activation_norm_scaling_factor and save again"
        )
    return NO_NORM, scale


def _says_processing(version: object) -> bool:
    """Whether the version that trained it wrote down how the model was processed; files of others are rewritten too."""
    found = re.match(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?", version) if isinstance(version, str) else None
    return found is not None and tuple(int(part or 0) for part in found.groups()) >= _SAYS_PROCESSING


def _processing(config: Mapping[str, Any], old_names: bool, modern: bool, start: str) -> Processing | None:
    given = config.get(LOADING)
    if given is None:
        # Version 6 leaves out what is nothing.
        return Processing() if modern else None
    if not isinstance(given, Mapping):
        raise EpoError(f"{start}: {LOADING} must be an object")
    names = [field.name for field in dataclasses.fields(Processing)]
    checkpoint = {key: given[key] for key in _CHECKPOINT if given.get(key) is not None}
    if checkpoint:
        raise EpoError(
            f"{start}: was trained on another checkpoint of the model ({LOADING}={checkpoint!r}); if the model that "
            "you load is this one, take that out"
        )
    unknown = set(given) - set(names) - HARMLESS_LOADING - set(_CHECKPOINT)
    if unknown:
        raise EpoError(f"{start}: {LOADING} has keys that are not known here: {listed(unknown)}")
    return Processing(**{name: bool(given.get(name, old_names and _BY_DEFAULT.get(name, False))) for name in names})
