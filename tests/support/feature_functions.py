"""Functions that tests name as features; each is written once for JAX's arrays and PyTorch's tensors."""

from __future__ import annotations

from epo_jax.features import reads

EARLY, LATE, HEADS = "blocks.0.hook_mlp_out", "blocks.2.hook_resid_post", "blocks.1.attn.hook_z"
PATTERN = "blocks.1.attn.hook_pattern"


@reads(EARLY, LATE, HEADS)
def mixed(values):
    # Every token counts, the first ones most; [S, D], [S, D] and [S, H, head_dim].
    return (values[EARLY] * values[LATE]).sum() / 40 + values[HEADS][0, 1, 2] + values[HEADS][-1].mean()


@reads(PATTERN)
def attended(values):
    # [S, H, S]: what the tokens give to the second one, and the last to the first.
    return values[PATTERN][:, 2, 1].sum() + 3 * values[PATTERN][-1, 0, 0]
