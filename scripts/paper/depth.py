"""The paper's layers in models of another depth."""

from __future__ import annotations

# Of Pythia-12B.
LAYERS = 36


def same_depth(layer: int, layers: int) -> int:
    """The layer that lies as deep in a model of so many layers as one of the paper's does in Pythia-12B."""
    return layer * layers // LAYERS
