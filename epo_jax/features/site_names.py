"""Full names of sites, such as `blocks.5.hook_resid_post`: the site, its layer, and how wide it is."""

from __future__ import annotations

import math
import re

from epo_jax.errors import EpoError
from epo_jax.models import LanguageModel
from epo_jax.models.config import DecoderConfig
from epo_jax.models.decoder import MLP_POST, PATTERN, RESID_MID, SITES, Z

_NAME = re.compile(r"blocks\.([0-9]{1,9})\.(.+)")


def parse_site(text: str, lm: LanguageModel, flag_text: str) -> tuple[str, int]:
    """The site and the layer that a full name means.

    Args:
        text: the name, "blocks.5.hook_resid_post".
        lm: the model.
        flag_text: what an error starts with, such as "--feature=probe:blocks.5.hook_resid_post:probe.npz".

    Returns:
        One of `models.decoder.SITES`, and the layer.

    Raises:
        EpoError: a name that is no site of this model.
    """
    match = _NAME.fullmatch(text)
    site = "" if match is None else f"blocks.{{l}}.{match[2]}"
    if match is None or site not in SITES:
        known = ", ".join(name.replace("{l}", "L") for name in SITES)
        raise EpoError(f"{flag_text}: {text!r} is no site; with a layer's number for L, sites are {known}")
    layer = check_layer(int(match[1]), lm, flag_text)
    if site == RESID_MID:
        check_middle(lm, flag_text)
    return site, layer


def check_layer(layer: int, lm: LanguageModel, flag_text: str) -> int:
    """The layer, if the model has it.

    Raises:
        EpoError: it has not.
    """
    if layer >= lm.config.layers:
        raise EpoError(f"{flag_text}: the model has no layer {layer}; its layers are 0 to {lm.config.layers - 1}")
    return layer


def check_middle(lm: LanguageModel, flag_text: str) -> None:
    """Check that the model has a residual stream between attention and MLP.

    Raises:
        EpoError: its residual is parallel.
    """
    if lm.config.parallel_residual:
        raise EpoError(
            f"{flag_text}: this model has no residual stream between attention and MLP, since both read the block's "
            "input (parallel residual); use hook_resid_pre or hook_resid_post"
        )


def site_shape(site: str, config: DecoderConfig) -> tuple[int, ...]:
    """Shape of a token's value at a site whose values do not depend on the prompt's length.

    Raises:
        ValueError: the attention pattern.
    """
    if site == PATTERN:
        raise ValueError(f"{site}: its values are as wide as the prompt is long")
    if site == Z:
        return (config.heads, config.head_dim)
    return (config.mlp_width if site == MLP_POST else config.width,)


def site_width(site: str, config: DecoderConfig) -> int:
    """Numbers in a token's value at a site, heads one after the other.

    Raises:
        ValueError: the attention pattern, whose values are as wide as the prompt is long.
    """
    return math.prod(site_shape(site, config))
