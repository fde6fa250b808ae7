"""How parameters lie on meshes, by sizes alone."""

from __future__ import annotations

import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from epo_jax.models.decoder import abstract_decoder
from epo_jax.models.on_mesh import weight_bytes
from epo_jax.models.random_model import random_config, shipped_configs
from epo_jax.parallel import describe, layout
from epo_jax.parallel.mesh import shape_of_mesh
from epo_jax.parallel.sharding import rule_of


def shapes_of(config) -> dict[str, tuple[int, ...]]:
    flat = nnx.to_flat_state(abstract_decoder(config)[1])
    return {".".join(map(str, path)): variable.get_value().shape for path, variable in flat}


@pytest.fixture(scope="module")
def config():
    # 36 layers of 5,120, 64 heads, 8 of keys and values, 25,600 neurons, 151,936 tokens.
    return random_config("random:qwen3-32b", "bfloat16")[0]


def test_projections_lie_over_the_model_by_columns_in_and_by_rows_out(config):
    lies = layout(config, shape_of_mesh(4, 8))
    specs = {name: lies.spec(name, shape) for name, shape in shapes_of(lies.config).items()}
    for name in ("attention.query", "attention.key", "attention.value", "mlp.gate", "mlp.up"):
        assert specs[f"blocks.{name}.kernel"] == PartitionSpec(None, None, "model")
    for name in ("attention.output", "mlp.down"):
        assert specs[f"blocks.{name}.kernel"] == PartitionSpec(None, "model")
    assert specs["embedding.embedding"] == PartitionSpec("model")
    assert specs["head.kernel"] == PartitionSpec(None, "model")
    assert all(spec == PartitionSpec() for name, spec in specs.items() if "norm" in name)
    assert lies.config == config


def test_fully_sharded_weights_lie_over_both_axes_and_each_device_holds_its_share(config):
    mesh = shape_of_mesh(4, 8)
    lies = layout(config, mesh, fsdp=True)
    assert lies.spec("blocks.mlp.up.kernel", (64, 5120, 25600)) == PartitionSpec(None, "data", "model")
    assert lies.part("blocks.mlp.up.kernel", (64, 5120, 25600)) == (64, 1280, 3200)
    whole, spread = weight_bytes(config, shape_of_mesh(1, 1)), weight_bytes(config, mesh, fsdp=True)
    assert whole / 32 < spread < whole / 31
    assert whole / 8 < weight_bytes(config, mesh) < whole / 7.9


def test_what_does_not_divide_is_padded_or_stays_whole_and_is_said(config):
    lies = layout(config, shape_of_mesh(1, 3))
    assert (lies.config.room_for_tokens, lies.config.room_for_neurons) == (151_938, 25_602)
    assert (lies.config.vocab_size, lies.config.mlp_width) == (config.vocab_size, config.mlp_width)
    assert lies.spec("blocks.attention.query.kernel", (64, 5120, 8190)) == PartitionSpec()
    told = describe(lies)
    assert "\n" not in told
    for part in ("8 KV heads do not divide", "from 151,936 to 151,938", "from 25,600 to 25,602"):
        assert part in told
    assert describe(layout(config, shape_of_mesh(8, 1))) == ""


def test_a_width_that_does_not_divide_leaves_the_other_dimension_to_the_data(config):
    lies = layout(config, shape_of_mesh(3, 1), fsdp=True)
    assert lies.spec("blocks.mlp.up.kernel", (64, 5120, 25602)) == PartitionSpec(None, None, "data")
    assert lies.spec("blocks.mlp.up.kernel", (64, 5120, 25600)) == PartitionSpec()
    assert "5,120" in describe(lies)


@pytest.mark.parametrize("name", shipped_configs())
def test_every_matrix_of_every_shipped_model_has_a_rule(name):
    config, _ = random_config(f"random:{name}", "bfloat16")
    matrices = [name for name in shapes_of(config) if name.endswith(("kernel", "embedding.embedding"))]
    assert {"embedding.embedding", "blocks.mlp.down.kernel", "blocks.attention.query.kernel"} <= set(matrices)
    for parameter in matrices:
        rule = rule_of(parameter)
        assert {rule.model, rule.data} == {-1, -2}, parameter
