from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import commands
import numpy as np
import pytest

import epo_jax
from epo_jax.models.config import DecoderConfig, Rotary
from epo_jax.models.random_model import random_config
from epo_jax.models.rotary import frequencies_of

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from benchmarking import peers, results  # noqa: E402
from benchmarking.programs import edits_of, steps_for  # noqa: E402
from benchmarking.results import CEILING, DREAMY, GRADIENTS, ITERATION, PLAIN, SUFFIX, Line, Sample, Section, Spread  # noqa: E402
from benchmarking.settings import Settings, peer_source, whole_numbers  # noqa: E402

from epo_jax.planning import operations as flops  # noqa: E402

# A loop that is called as dreamy's is, and that records what it was given.
DREAMY_LOOP = """
import json, os, types
import torch

def evaluate_fitness(model, cache_run, input_ids, batch_size):
    assert not any(parameter.requires_grad for parameter in model.parameters())
    found = cache_run(input_ids=input_ids)
    losses = torch.nn.functional.cross_entropy(
        found["logits"][:, :-1].transpose(1, 2), input_ids[:, 1:], reduction="none"
    )
    return types.SimpleNamespace(target=found["target"], xentropy=losses.mean(dim=1))

@torch.no_grad()
def epo(cache_run, model, tokenizer, *, initial_ids, callback, **settings):
    assert tokenizer is None
    with open(os.path.join(os.path.dirname(__file__), "asked.jsonl"), "a") as file:
        file.write(json.dumps({**settings, "ids": initial_ids.tolist()}) + "\\n")
    print("chatter on standard output")
    embeddings = model.get_input_embeddings()(initial_ids)
    iteration = 0
    while not callback(iteration, None, 0.0, None):
        assert cache_run(inputs_embeds=embeddings)["logits"].shape[:2] == initial_ids.shape
        iteration += 1
    callback(iteration, None, 0.0, None, final=True)
"""
COUNTING_PEER = """
import sys
from gate import Gate, read_task
task = read_task()
if task["fail"]:
    sys.exit("first line\\nthe last line says why")
gate = Gate(sys.stdin, sys.stdout, lambda: None)
gate.answer(seconds=1.0, doubled=2 * task["number"])
made = 0
while gate.passes():
    made += 1
open(task["file"], "w").write(str(made))
"""


@pytest.fixture
def dreamy(tmp_path):
    folder = tmp_path / "checkout"
    (folder / "dreamy").mkdir(parents=True)
    (folder / "dreamy" / "epo.py").write_text(DREAMY_LOOP)
    return folder


def dreamy_calls(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "dreamy" / "asked.jsonl").read_text().splitlines()]


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    return commands.run([ROOT / "scripts" / "benchmark.py", *arguments], timeout=600)


@pytest.mark.slow
def test_everything_takes_turns_beside_a_peer_that_runs_the_same_search(tiny_folder, dreamy, tmp_path):
    output = tmp_path / "benchmark"
    search = [f"--model={tiny_folder}", "--population=2", "--children=3", "--length=4", "--top_k=30"]
    peer = [f"--dreamy={dreamy}", "--dreamy_batches=100,2"]
    ran = benchmark(*search, *peer, "--feature=L1.N5", "--repeats=2", "--steps=2", f"--output={output}")
    assert ran.returncode == 0, ran.stderr
    assert sum(line.startswith("round ") for line in ran.stderr.splitlines()) == 2
    text = output.with_suffix(".md").read_text()
    assert ran.stdout == text
    assert f"| {ITERATION} |" in text
    assert f"times as fast as {DREAMY}" in text
    report = json.loads(output.with_suffix(".json").read_text())
    assert report["settings"]["config"]["children"] == 3
    (section,) = report["sections"]
    assert [line["name"] for line in section["lines"]] == [CEILING, PLAIN, SUFFIX, GRADIENTS, ITERATION, DREAMY]
    assert all(len(line["samples"]) == 2 for line in section["lines"])
    # The peer ran the same weights on the same feature: its scores of the initial prompts are ours.
    assert set(section["differences"]) == {f"{SUFFIX} and {PLAIN}", "dreamy and epo_jax"}
    assert all(max(difference.values()) < 1e-4 for difference in section["differences"].values())
    asked = dreamy_calls(dreamy)
    assert [one["batch_size"] for one in asked[:4]] == [2, 6, 2, 6], "sizes take turns, none above the candidates"
    for name, value in (("seq_len", 4), ("population_size", 2), ("explore_per_pop", 3), ("topk", 30)):
        assert all(one[name] == value for one in asked)
    assert all(np.shape(one["ids"]) == (2, 4) for one in asked)


@pytest.mark.slow
def test_every_feature_and_number_of_dreams_is_measured(tiny_folder, dreamy, tmp_path):
    output = tmp_path / "benchmark"
    search = [f"--model={tiny_folder}", "--population=2", "--children=3", "--length=4", "--top_k=30"]
    features = ["--feature=L1.N5", "--feature=logit:$"]
    ran = benchmark(*search, *features, "--repeats=1", "--dreams=1,2", f"--dreamy={dreamy}", f"--output={output}")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count(f"| {ITERATION} |") == 3, "in both features' tables and among the dreams"
    assert "| 1 dream in one program |" in ran.stdout
    assert "| 2 dreams in one program |" in ran.stdout
    found = json.loads(output.with_suffix(".json").read_text())["sections"]
    assert [section["feature"] for section in found] == ["L1.N5", "logit:$"]
    assert all(max(difference.values()) < 1e-4 for s in found for difference in s["differences"].values())
    asked = [one["batch_size"] for one in dreamy_calls(dreamy)]
    assert asked[-2:] == [found[0]["peers"][DREAMY]["batch"]] * 2, "what was fastest once is kept"


@pytest.mark.parametrize(
    ("arguments", "named", "right"),
    [
        (["--dreams=4,0"], "--dreams=4,0", "at least 1"),
        # The program's own check above, and that of flags in general.
        pytest.param(["--repeats=x"], "repeats", "--help", marks=pytest.mark.slow),
    ],
)
def test_bad_flags_are_one_line_and_exit_code_2(arguments, named, right):
    ran = benchmark(*arguments)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert named in ran.stderr
    assert right in ran.stderr


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"repeats": 0}, "--repeats=0"),
        ({"steps": 0}, "--steps=0"),
        ({"seed": -1}, "--seed=-1"),
        ({"features": ()}, "--feature"),
        ({"dreamy": "."}, "--dreamy=."),
        ({"output": "no such folder/name"}, "--output=no such folder/name"),
        ({"nanogcg": True, "peer_python": "no-such-python"}, "--peer_python=no-such-python"),
        ({"nanogcg": True, "peer_python": sys.executable, "prefix": "a"}, "--prefix=a"),
        ({"nanogcg": True, "peer_python": sys.executable, "suffix": "a"}, "--suffix=a"),
    ],
)
def test_settings_that_cannot_be_used_name_their_flag(values, named):
    with pytest.raises(epo_jax.EpoError, match="^" + named.replace("-", r"\-").replace(".", r"\.")):
        Settings(**values)


def test_a_feature_that_dreamy_is_not_timed_on_is_refused_before_anything_is_loaded(dreamy):
    with pytest.raises(epo_jax.EpoError, match="--feature=residual"):
        Settings(features=("residual:L1:random:0",), dreamy=str(dreamy), peer_python=sys.executable)


@pytest.mark.parametrize("texts", [["1", "0"], ["x"], [""], ["-1"]])
def test_numbers_of_a_list_are_whole_and_at_least_1(texts):
    assert whole_numbers("dreams", ["1", "32"]) == (1, 32)
    with pytest.raises(epo_jax.EpoError, match="--dreams="):
        whole_numbers("dreams", texts)


def test_peers_find_the_same_model(tiny_folder, tmp_path):
    config = tmp_path / "config.json"
    config.write_text("{}")
    assert peer_source(f"random:{config}") == {"config": str(config)}
    assert json.loads(Path(peer_source("random:pythia-70m")["config"]).read_text())["model_type"] == "gpt_neox"
    assert peer_source(str(tiny_folder)) == {"folder": str(tiny_folder)}
    assert peer_source("smollm2-135m")["gguf"].endswith(".gguf")


# Shapes.


def plain_count(shape: flops.Shape, tokens: range, scored: int) -> int:
    """Operations of rows at these positions, one at a time."""
    in_blocks = sum(2 * shape.block + 2 * 2 * shape.heads * (position + 1) for position in tokens)
    return shape.layers * in_blocks + 2 * shape.vocabulary * scored


def test_operations_of_the_embedded_shape_are_those_of_its_matrices():
    config = DecoderConfig(
        vocab_size=49152,
        width=576,
        layers=30,
        heads=9,
        kv_heads=3,
        head_dim=64,
        mlp_width=1536,
        max_positions=8192,
        norm_eps=1e-5,
        rotary=(Rotary(frequencies_of(1e5, 64)),),
        tied=True,
    )
    shape = flops.shape_of(config)
    attention = 2 * 576 * 576 + 2 * 576 * 192
    assert shape == flops.Shape(30, attention + 3 * 576 * 1536, 576, 576 * 49152)
    prompt = flops.Prompt(12)
    expected = prompt.expected() * 256
    assert (expected.blocks, expected.head) == (pytest.approx(1664), pytest.approx(1408))
    assert flops.iteration(shape, prompt, 8, expected) == pytest.approx(0.49e12, rel=0.01)


def test_an_mlp_without_a_gate_has_two_matrices():
    config, _ = random_config("random:pythia-70m", "float32")
    assert flops.shape_of(config) == flops.Shape(6, 4 * 512 * 512 + 2 * 512 * 2048, 512, 512 * 50304)


@pytest.mark.parametrize("prefix", [0, 3])
@pytest.mark.parametrize("suffix", [0, 2])
@pytest.mark.parametrize("last", [False, True])
def test_operations_of_candidates_are_those_of_their_tokens_after_the_edit(prefix, suffix, last):
    shape, prompt = flops.Shape(3, 1000, 20, 5000), flops.Prompt(5, prefix, suffix, last)
    end = prefix + 5 + suffix
    whole = plain_count(shape, range(end), 5 - (prefix == 0) + last)
    assert flops.forward(shape, prompt.whole()) == whole
    edits = np.array([0, 2, 4, 4])
    counts = [plain_count(shape, range(prefix + edit, end), 4 - edit + last) for edit in edits]
    assert flops.forward(shape, prompt.after(edits)) == sum(counts)
    every = [plain_count(shape, range(prefix + edit, end), 4 - edit + last) for edit in range(5)]
    assert flops.forward(shape, prompt.expected()) == pytest.approx(np.mean(every))
    optimized = plain_count(shape, range(prefix, end), 5 - (prefix == 0) + last)
    assert flops.gradients(shape, prompt, 2) == 2 * (2 * optimized + 2 * 5 * 5000)


def test_edits_are_found_through_iterations_whose_parents_changed():
    members = np.array([[1, 2, 3], [4, 5, 6]])
    first = np.array([[1, 9, 3], [1, 2, 9], [9, 5, 6], [4, 5, 6]])
    # Slot 0 takes its first child, slot 1 stays.
    second = np.array([[1, 9, 7], [7, 9, 3], [4, 7, 6], [4, 5, 7]])
    edits = edits_of(members, np.stack([first, second]), np.array([[2, 1], [0, 0]]))
    assert edits.tolist() == [[1, 2, 0, 0], [2, 0, 1, 2]]


@pytest.mark.parametrize(("operations", "steps"), [(1e9, 16), (1e11, 3), (1e13, 1)])
def test_short_iterations_are_made_many_at_a_time(operations, steps):
    assert steps_for(operations, Sample(1.0, 1e12)) == steps


# Results.


def test_ratios_are_taken_within_rounds_and_shares_are_of_the_ceiling():
    mine = Line(ITERATION, (Sample(1.0, 6.0), Sample(2.0, 12.0), Sample(4.0, 8.0)), 8)
    theirs = Line(DREAMY, (Sample(3.0), Sample(4.0), Sample(12.0)))
    ceiling = Line(CEILING, (Sample(1.0, 12.0), Sample(2.0, 24.0), Sample(1.0, 10.0)))
    section = Section("L1.N5", (ceiling, mine, theirs), 6.0, (6.5, 5.5))
    assert mine.times_as_fast_as(theirs) == Spread(3.0, 2.0, 3.0)
    assert section.share(mine) == 0.5
    assert section.share(theirs) is None
    assert section.line(results.NANOGCG) is None


# Peers.


def test_a_peer_works_only_when_asked_and_ends_with_its_block(tmp_path):
    script, file = tmp_path / "peer.py", tmp_path / "made"
    gate = str(ROOT / "scripts" / "peers")
    script.write_text(f"import sys\nsys.path.insert(0, {gate!r})\n{COUNTING_PEER}")
    task = {"fail": False, "number": 21, "file": str(file)}
    with peers.started("--dreamy=x", script, sys.executable, task) as peer:
        assert peer.ready == {"seconds": 1.0, "doubled": 42}
        assert 0 < peer.seconds(3) < 1
        assert 0 < peer.seconds(2) < 1
    assert peer.process.returncode == 0
    assert file.read_text() == "5"


def test_a_peer_that_ends_says_its_last_line(tmp_path):
    script = tmp_path / "peer.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT / 'scripts' / 'peers')!r})\n{COUNTING_PEER}")
    with (
        pytest.raises(epo_jax.EpoError, match=r"^--dreamy=x: the peer ended with code 1: the last line says why$"),
        peers.started("--dreamy=x", script, sys.executable, {"fail": True}),
    ):
        pass
