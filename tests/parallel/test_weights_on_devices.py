"""Eight devices that are pretended share the weights, and do what one does."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import commands
import pytest

LENGTH, TOP_K = 5, 40
SCRIPT = Path(__file__).with_name("weights_on_devices.py")
MESHES = [
    ["data:8", False],
    ["data:4,model:2", False],
    ["data:2,model:4", False],
    ["model:8", False],
    ["data:1", False],
]
# What lies on a mesh without the model's axis is the same in all families.
SPLIT = [case for case in MESHES if "model" in case[0]]
SPREAD = [["data:4", True], ["data:2,model:2", True]]
# A vocabulary of 307 and 53 neurons divide by no axis; of the heads only the first two models' do by 2, and none by 4.
MODELS = {
    "llama": {"num_attention_heads": 6, "num_key_value_heads": 2},
    "gpt_neox": {"hidden_size": 48, "num_attention_heads": 6},
    "gemma2": {},
}
NINE_HEADS = {"hidden_size": 36, "num_attention_heads": 9, "num_key_value_heads": 3}


def run(model: Path, cases: list, iterations: int = 30) -> dict:
    ran = commands.run([SCRIPT, model, json.dumps(cases), str(iterations)], devices=8, timeout=1800)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def check_same(case: list, found: dict) -> None:
    assert found["same_ids"], case
    assert found["difference"] < 1e-4, case
    assert all(found["shapes"].values()), case
    assert max(found["api"].values()) < 1e-4, case
    assert found["mesh"] == case[0]
    assert found["compilations"] == 0


def report(case: list, found: dict) -> None:
    """Print what travels in an iteration; shown by `pytest -s`, and where a test fails."""
    moved: Counter[str] = Counter()
    for kind, axes, _, size, times in found["collectives"]:
        moved[f"{kind} over {','.join(axes)}"] += size * times
    print(f"{case[0]}{', fsdp' if case[1] else ''}: bytes in an iteration {dict(moved)}; {found['told']}")


def check_no_weights_travel(found: dict) -> None:
    """Activations are summed over the model's axis; of gradients only the best of each part are brought together."""
    rows, parts = found["rows"], found["parts"]
    best = parts * min(TOP_K, rows // parts)
    for kind, axes, shape, _, _ in found["collectives"]:
        if axes == ["model"] and kind == "all-gather":
            assert shape[1:] == [LENGTH, best], shape
        elif axes == ["data"]:
            # Ids and scores of candidates.
            assert kind == "all-gather", (kind, shape)
            assert shape[1:] in ([], [LENGTH]), shape
        elif axes:
            assert (kind, axes) == ("all-reduce", ["model"]), (kind, axes, shape)
            assert not set(shape) & {rows, rows // parts, 307}, shape


def test_a_model_shared_by_two_devices_dreams_as_on_one_and_no_weights_or_logits_travel(tmp_path, save_model):
    save_model(tmp_path, "llama", **NINE_HEADS)
    case = ["data:2,model:2", False]
    found = run(tmp_path, [case], iterations=4)
    assert found["moved"]
    report(case, found["cases"][0])
    check_same(case, found["cases"][0])
    check_no_weights_travel(found["cases"][0])
    assert "3 KV heads do not divide" in found["cases"][0]["told"]
    assert "from 307 to 308" in found["cases"][0]["told"]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "cases"), [("llama", MESHES), ("gpt_neox", SPLIT[1:]), ("gemma2", SPLIT[:2])])
def test_meshes_give_the_ids_of_one_device_for_thirty_iterations(family, cases, tmp_path, save_model):
    save_model(tmp_path, family, **MODELS[family])
    for case, found in zip(cases, run(tmp_path, cases)["cases"], strict=True):
        report(case, found)
        check_same(case, found)
        check_no_weights_travel(found)
        if "model" not in case[0]:
            assert {kind for kind, *_ in found["collectives"]} <= {"all-gather"}


@pytest.mark.slow
def test_nine_heads_with_three_of_keys_and_values_lie_whole_on_two_devices_and_give_the_same_ids(tmp_path, save_model):
    save_model(tmp_path, "llama", **NINE_HEADS)
    cases = [["data:4,model:2", False], ["data:2,model:3", False]]
    found = run(tmp_path, cases)["cases"]
    for case, one in zip(cases, found, strict=True):
        report(case, one)
        check_same(case, one)
        check_no_weights_travel(one)
    assert ["KV heads" in one["told"] for one in found] == [True, False]


@pytest.mark.slow
def test_fully_sharded_weights_give_the_same_ids_and_travel_layer_by_layer(tmp_path, save_model):
    save_model(tmp_path, "llama", num_attention_heads=6, num_key_value_heads=2)
    for case, found in zip(SPREAD, run(tmp_path, SPREAD)["cases"], strict=True):
        report(case, found)
        check_same(case, found)
        gathered = [
            shape for kind, axes, shape, *_ in found["collectives"] if kind == "all-gather" and axes == ["data"]
        ]
        # One layer at a time, each device with its part of the model's axis, and never a stack of layers.
        assert any(found["width"] in shape for shape in gathered)
        assert all(len(shape) <= 2 for shape in gathered)
        assert found["whole_stacks"] == [], "kept on the way there for the way back, they are the whole model"
