"""Sites: the named values that pass through a block, and observers that look at them.

An observer sees the values instead of hooking into the block: at each site that it names, the block hands over the
value and carries on what the observer keeps of it. Sites have TransformerLens's names. Sites that nobody reads cost
nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jax import Array

from epo_jax.errors import EpoError

RESID_PRE = "blocks.{l}.hook_resid_pre"  # [B, S, D]
PATTERN = "blocks.{l}.attn.hook_pattern"  # [B, S, H, S], from query to key
Z = "blocks.{l}.attn.hook_z"  # [B, S, H, head_dim]
ATTN_OUT = "blocks.{l}.hook_attn_out"  # [B, S, D]
RESID_MID = "blocks.{l}.hook_resid_mid"  # [B, S, D], what the MLP's norm reads; none where the residual is parallel
MLP_POST = "blocks.{l}.mlp.hook_post"  # [B, S, F], the input of the down projection, after the gate if there is one
MLP_OUT = "blocks.{l}.hook_mlp_out"  # [B, S, D]
RESID_POST = "blocks.{l}.hook_resid_post"  # [B, S, D]
SITES = (RESID_PRE, PATTERN, Z, ATTN_OUT, RESID_MID, MLP_POST, MLP_OUT, RESID_POST)

Kept = Any
# (kept, site, value) -> kept; a block whose model has no such site gives None in the value's place.
Tap = Callable[[Kept, str, Array | None], Kept]


@dataclasses.dataclass(frozen=True)
class Observer:
    """What to look at on the way through the blocks.

    Attributes:
        sites: names out of `SITES`; at others `observe` is not called.
        observe: (kept, site, layer, value) -> kept, where layer is a traced int32 and kept a pytree of fixed shapes.
    """

    sites: tuple[str, ...]
    observe: Callable[[Kept, str, Array, Array], Kept]

    def at(self, layer: Array) -> Tap:
        """The observer as one layer sees it: (kept, site, value) -> kept.

        Raises (when called):
            EpoError: a site that is looked at and that the model does not have.
        """

        def tap(kept: Kept, site: str, value: Array | None) -> Kept:
            if site not in self.sites:
                return kept
            if value is None:
                raise EpoError(
                    f"{site}: this model has no such site, since its attention and MLP both read the block's input "
                    "(parallel residual)"
                )
            return self.observe(kept, site, layer, value)

        return tap


NOBODY = Observer((), lambda kept, _site, _layer, _value: kept)
