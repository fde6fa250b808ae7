"""What tells one layer from another in a config.json."""

from __future__ import annotations

from epo_jax.errors import EpoError
from epo_jax.models.families.base import LARGEST

FULL, SLIDING = "full_attention", "sliding_attention"


def windows_of(layer_types: object, window: object, layers: int, source: str) -> tuple[int, ...]:
    """The tokens that a token sees in each layer, as in `DecoderConfig.windows`.

    Args:
        layer_types: config.json's list of "full_attention" and "sliding_attention".
        window: tokens that a token of a sliding layer sees, itself included.
        layers: how many layers there are.
        source: the file or folder, for messages.

    Returns:
        For each layer its window, 0 where it sees all; nothing where all layers do.

    Raises:
        EpoError: another type of layer, a list of another length, or an impossible window.
    """
    if not isinstance(layer_types, (list, tuple)):
        raise EpoError(f"{source}: layer_types is no list, where one of {FULL} and {SLIDING} is read")
    for kind in layer_types:
        if kind not in (FULL, SLIDING):
            raise EpoError(f"{source}: layer_types has {kind!r}, where {FULL} or {SLIDING} is read")
    if len(layer_types) != layers:
        raise EpoError(f"{source}: {len(layer_types)} layer_types do not go with {layers} layers")
    if SLIDING not in layer_types:
        return ()
    if isinstance(window, bool) or not isinstance(window, int) or not 1 <= window <= LARGEST:
        raise EpoError(
            f"{source}: layers of {SLIDING} with sliding_window={window!r}, where a whole number from 1 to {LARGEST} "
            "is read"
        )
    return tuple(window if kind == SLIDING else 0 for kind in layer_types)
