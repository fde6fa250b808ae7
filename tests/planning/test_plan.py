"""Plans, held against arithmetic on this machine's CPU, and, where libtpu is installed, made for TPUs."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math

import jax
import numpy as np
import pytest

import epo_jax
from epo_jax import EPOConfig, EpoError
from epo_jax.parallel.collectives import Collective, collectives
from epo_jax.planning import abstract_model, best_of, machine_of, plan
from epo_jax.planning.devices import Machine
from epo_jax.planning.plan import Trial, meshes_of
from epo_jax.planning.work import Trips, bytes_by_kind, times_of
from epo_jax.scoring.template import Template

TINY = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "rope_theta": 10000.0,
    "attention_bias": False,
    "mlp_bias": False,
}
# Projections of a layer, its two norms; the last norm, the embedding and the head.
LAYER = 2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32
PARAMETERS = 2 * LAYER + 32 + 2 * 64 * 32
SMALL = EPOConfig(iterations=2, population=2, children=3, length=5, top_k=8)


@pytest.fixture(scope="module")
def config_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("plan") / "config.json"
    path.write_text(json.dumps(TINY))
    return str(path)


@pytest.fixture(scope="module")
def trial(config_path):
    lm = abstract_model(config_path, "float32")
    machine = Machine("cpu", tuple(jax.devices()[:1]), 2.0**34)
    (found,) = plan(lm, machine, SMALL, "L1.N5", [("data:1,model:1", False)], [2], Template())
    return found


def test_a_plan_holds_no_numbers_and_counts_weights_and_cache_exactly(config_path, trial):
    lm = abstract_model(config_path, "float32")
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(lm.params))
    assert trial.weights == 4 * PARAMETERS
    # Of 2 dreams with 2 slots: keys and values of 2 layers, rows that predict, two numbers and one of the feature.
    assert trial.cache == 4 * 4 * 5 * (2 * 2 * 2 * 8 + 32 + 3)
    assert trial.needed is not None
    assert trial.needed > trial.weights + trial.temporaries


def test_guided_searches_are_planned_and_take_less_without_gradients(config_path, trial):
    lm = abstract_model(config_path, "float32")
    machine = Machine("cpu", tuple(jax.devices()[:1]), 2.0**34)
    operations = []
    for operators in ("model_swap,insertion", None):
        config = dataclasses.replace(SMALL, search="best", operators=operators)
        (found,) = plan(lm, machine, config, "L1.N5", [("data:1,model:1", False)], [2], Template())
        assert (found.refused, found.cache, found.rows) == ("", trial.cache, trial.rows)
        operations.append(found.operations)
    assert operations[0] < operations[1] == trial.operations


def test_one_device_exchanges_nothing(trial):
    assert trial.refused == ""
    assert sum(trial.collectives.values()) == 0


def test_a_plan_takes_the_blocks_that_a_dream_takes(config_path, trial):
    lm = epo_jax.load_model(f"random:{config_path}", "float32")
    algorithm = epo_jax.build(lm, [epo_jax.parse_feature("L1.N5", lm)] * 2, SMALL)
    assert algorithm.scorer.blocks.rows == trial.rows
    assert trial.candidates == 2 * algorithm.population * algorithm.children


def test_weights_that_are_too_large_are_refused_before_anything_is_compiled(config_path):
    lm = abstract_model(config_path, "float32")
    machine = Machine("cpu", tuple(jax.devices()[:1]), 4.0 * PARAMETERS - 1)
    (found,) = plan(lm, machine, SMALL, "L1.N5", [("data:1,model:1", False)], [1], Template())
    assert found.refused == "weights alone take more than there is"
    assert found.compile_seconds is None
    assert best_of([found]) is None


def test_a_program_that_does_not_fit_says_how_much_it_needs(config_path):
    lm = abstract_model(config_path, "float32")
    machine = Machine("cpu", tuple(jax.devices()[:1]), 4.0 * PARAMETERS + 1)
    (found,) = plan(lm, machine, SMALL, "L1.N5", [("data:1,model:1", False)], [1], Template())
    assert found.refused.startswith("--micro_batch=64: even blocks of so few rows need ")


def test_the_best_trial_is_the_fastest_that_fits():
    def made(mesh: str, seconds: float, refused: str = "") -> Trial:
        return Trial(mesh, False, 1, refused, 1, needed=1.0, seconds=seconds, candidates=10)

    trials = [made("data:1", 2.0), made("data:2", 1.0), made("data:4", 0.1, "too large")]
    assert best_of(trials) == trials[1]


def test_every_way_to_split_devices_is_tried_once():
    assert meshes_of(4) == [
        ("data:4,model:1", False),
        ("data:2,model:2", False),
        ("data:1,model:4", False),
        ("data:4,model:1", True),
        ("data:2,model:2", True),
    ]


def test_collectives_count_as_often_as_their_loops_run():
    trips = Trips(blocks=1.5, chunks={256: 4.0, 64: 2.5})
    over = ((0, 1),)
    layer, block, chunk = (
        Collective("all-reduce", "f32", (64, 8), over, (16, *rest)) for rest in ((6,), (None, 6), (None, 6, None))
    )
    assert [times_of(one, trips) for one in (layer, block, chunk)] == [6, 9.0, 15.0]
    alone = Collective("all-gather", "s32", (4,), ((0,), (1,)), (16,))
    assert bytes_by_kind([layer, block, chunk, alone], trips) == {"all-reduce": 64 * 8 * 4 * 30.0}


TPU_TEXT = """HloModule jit_f

%body (p: (s32[], bf16[256,8])) -> (s32[], bf16[256,8]) {
  %g = bf16[256,4096]{1,0:T(8,128)(2,1)} all-gather(%x), replica_groups=mesh['axis_0'=2,'axis_1'=2] {'axis_0'}
}

%condition (p: (s32[], bf16[256,8])) -> pred[] {
  %constant.3 = s32[]{:T(128)} constant(6)
  ROOT %lt = pred[]{:T(512)} compare(%get-tuple-element, %constant.3), direction=LT
}

ENTRY %main (x: bf16[256,8]) -> bf16[256,8] {
  %while.1 = (s32[], bf16[256,8]) while(%tuple), condition=%condition, body=%body
}
"""


def test_groups_of_devices_that_are_counted_in_another_order_are_read():
    swapped = "mesh['axis_0'=3,'axis_1'=2], device_ids=([2,3]T(1,0)) {'axis_1'}"
    (found,) = collectives(TPU_TEXT.replace("mesh['axis_0'=2,'axis_1'=2] {'axis_0'}", swapped))
    assert found.groups == ((0, 3), (1, 4), (2, 5))


def test_the_trips_and_groups_that_a_tpus_compiler_writes_are_read():
    (found,) = collectives(TPU_TEXT)
    assert found.loops == (6,)
    assert found.groups == ((0, 2), (1, 3))
    assert found.bytes == 256 * 4096 * 2


@pytest.mark.parametrize("topology", ["v5e", "v5e:2by4", "tpu", ""])
def test_a_topology_of_another_form_is_one_clear_line(topology):
    with pytest.raises(EpoError, match=rf"^--topology={topology}: .*v5e:2x4") as caught:
        machine_of(topology)
    assert "\n" not in str(caught.value)


def test_without_the_tpu_compiler_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(EpoError, match=r'^--topology=v5e:2x4: needs .*pip install "epo-jax\[tpu\]"'):
        machine_of("v5e:2x4")


def test_a_model_without_a_configuration_is_one_clear_line():
    with pytest.raises(EpoError, match=r"^--model=no such model: no configuration without weights"):
        abstract_model("no such model", "float32")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs libtpu: pip install epo-jax[tpu]")
def test_a_tiny_model_is_planned_for_tpus_that_are_not_here(config_path, monkeypatch):
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    machine = machine_of("v5e:2x2")
    assert len(machine.devices) == 4
    assert 14 * 2**30 < machine.memory < 16 * 2**30
    lm = abstract_model(config_path, "bfloat16")
    shared, split = plan(
        lm, machine, SMALL, "L1.N5", [("data:4,model:1", False), ("data:2,model:2", False)], [1], Template()
    )
    assert not shared.refused
    assert not split.refused
    # Norms have float32 in every dtype.
    assert shared.weights == 2 * PARAMETERS + 2 * 5 * 32
    assert math.isclose(split.weights, shared.weights / 2, rel_tol=0.1)
    # Ids and two scores of each child, with room for what does not divide.
    places = 4 * math.ceil(3 / 2)
    assert shared.collectives.get("all-gather", 0) + shared.collectives.get("all-reduce", 0) >= places * (4 * 5 + 8)
    assert sum(split.collectives.values()) > sum(shared.collectives.values())
    assert np.isfinite(shared.seconds)
