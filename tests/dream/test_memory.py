"""The size of blocks follows the memory that there is."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest

import epo_jax
from epo_jax import EPOConfig, EpoError
from epo_jax.dream import memory
from epo_jax.dream.chunks import CAPACITY
from epo_jax.epo import algorithm as algorithms

# More rows than a test's model would take, so that there is something to halve: 40 candidates of 8 tokens.
WIDE = EPOConfig(iterations=3, population=2, children=20, length=8, top_k=40)
EVENT = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def limit(monkeypatch):
    """Sets the memory of a pretended device, as a share of what the default program needs."""

    def set_limit(size: float) -> None:
        monkeypatch.setattr(memory, "memory_limit", lambda *_: size)

    return set_limit


@pytest.fixture(scope="module")
def whole(tiny):
    return epo_jax.dream(tiny, "L1.N5", WIDE)


def needed(tiny, config: EPOConfig) -> float:
    algorithm = epo_jax.build(tiny, [epo_jax.parse_feature("L1.N5", tiny)], config)
    state = algorithm.init(jax.random.key(0)[None])
    return memory.memory_of(algorithm, state, CAPACITY).needed


def test_a_small_limit_gives_smaller_blocks_and_the_same_prompts_and_is_recorded(
    tiny, tiny_folder, whole, limit, tmp_path
):
    assert whole.run.micro_batch == 320
    limit(needed(tiny, WIDE) - 1)
    made = epo_jax.dream(tiny, "L1.N5", WIDE, output=tmp_path / "run")
    assert made.run.micro_batch < 320
    assert made.run.micro_batch % 64 == 0
    np.testing.assert_array_equal(made.history.ids, whole.history.ids)
    np.testing.assert_allclose(made.history.feature, whole.history.feature, rtol=0, atol=1e-4)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["micro_batch"] == made.run.micro_batch
    assert f"--micro_batch={made.run.micro_batch}" in shlex.split(config["command"])
    # What was chosen once is taken as it is: the limit is not asked again.
    limit(0)
    again = epo_jax.dream(tiny, "L1.N5", WIDE, micro_batch=made.run.micro_batch)
    # Fingerprints are made for run folders.
    assert again.run == dataclasses.replace(made.run, seconds=again.run.seconds, fingerprints={})
    assert again.history.feature.tobytes() == made.history.feature.tobytes()


def test_a_limit_that_is_too_small_for_anything_is_refused_before_a_folder_is_made(tiny, limit, tmp_path, monkeypatch):
    tried = []

    def memory_of(algorithm: algorithms.Algorithm, *_: object) -> memory.Memory:
        tried.append(memory.rows_of(algorithm))
        return memory.Memory(2**30 * (1 + tried[-1]), 0)

    monkeypatch.setattr(memory, "memory_of", memory_of)
    limit(2.0**31)
    with pytest.raises(EpoError, match=r"^--micro_batch=64: .* need 65.0 GiB, and 2.0 GiB are available") as caught:
        epo_jax.dream(tiny, "L1.N5", WIDE, output=tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    assert tried == [320, 192, 128, 64]


def test_what_a_compiler_refuses_for_want_of_memory_does_not_fit(tiny, monkeypatch):
    def refuse(*_, **__):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm")

    monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)
    with pytest.raises(EpoError, match=r"--micro_batch=64: .*more than the device has"):
        epo_jax.dream(tiny, "L1.N5", WIDE)


def test_the_program_that_is_analysed_is_the_one_that_runs(tiny, whole):
    compiled = []

    def listen(event: str, *_: object, **__: object) -> None:
        if event == EVENT:
            compiled.append(event)

    epo_jax.dream(tiny, "L0.N1", WIDE)
    programs = algorithms._advance._cache_size()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        epo_jax.dream(tiny, "L2.N7", WIDE, seed=5)
        assert compiled == []
        # A shape that was not seen before: the initial prompts' program and the steps' one, each once.
        changed = dataclasses.replace(WIDE, length=6)
        algorithm = epo_jax.build(tiny, [epo_jax.parse_feature("L1.N5", tiny)], changed)
        state = algorithm.init(jax.random.key(0)[None])
        compiled.clear()
        assert memory.fitted(algorithm, state, CAPACITY) is algorithm
        assert len(compiled) == 1
        jax.block_until_ready(algorithm.advance(state, 2, CAPACITY))
        assert len(compiled) == 1
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert algorithms._advance._cache_size() == programs + 1


@pytest.mark.parametrize(("asked", "recorded"), [(1, 64), (64, 64), (100, 128), (10**6, 320)])
def test_blocks_that_are_asked_for_are_taken_and_recorded(tiny, whole, asked, recorded, monkeypatch):
    seen = []
    monkeypatch.setattr("epo_jax.epo.algorithm.Algorithm.advance", lambda self, *_: seen.append(self) or stop())

    def stop() -> None:
        raise RuntimeError("seen")

    with pytest.raises(RuntimeError, match="seen"):
        epo_jax.dream(tiny, "L1.N5", WIDE, micro_batch=asked)
    assert seen[0].scorer.blocks.rows == memory.rows_alone(seen[0], asked) == recorded
    assert max(seen[0].scorer.blocks.chunks) <= recorded


@pytest.mark.parametrize("asked", [0, -1, True])
def test_blocks_of_no_rows_are_refused(tiny, asked):
    with pytest.raises(EpoError, match=f"^--micro_batch={asked}: "):
        epo_jax.dream(tiny, "L1.N5", WIDE, micro_batch=asked)


def test_several_dreams_record_what_each_takes_alone(tiny):
    features = [epo_jax.parse_feature(f"L1.N{index}", tiny) for index in range(8)]
    together, alone = (epo_jax.build(tiny, part, WIDE) for part in (features, features[:1]))
    assert memory.rows_of(together) > memory.rows_of(alone)
    assert memory.rows_alone(together, None) == memory.rows_alone(alone, None) == 320
    # Where memory made the blocks of all smaller than that, one alone takes those.
    assert memory.rows_alone(memory.with_rows(together, 192), None) == 192


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:  900 kB\nMemFree: 1 kB\nMemAvailable:  500 kB\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (MEMINFO, 500 * 1024),
        # The second version of control groups: the least that is left on the way up.
        (
            MEMINFO
            | {
                "proc/self/cgroup": "0::/user/mine\n",
                "sys/fs/cgroup/user/memory.max": "9000\n",
                "sys/fs/cgroup/user/memory.current": "6000\n",
                "sys/fs/cgroup/user/memory.stat": "anon 5000\ninactive_file 700\n",
                "sys/fs/cgroup/user/mine/memory.max": "max\n",
                "sys/fs/cgroup/user/mine/memory.current": "6000\n",
            },
            3700,
        ),
        # In a container the group's own path is not there, but the topmost is.
        (
            MEMINFO
            | {
                "proc/self/cgroup": "0::/docker/abc\n",
                "sys/fs/cgroup/memory.max": "800\n",
                "sys/fs/cgroup/memory.current": "900\n",
            },
            0,
        ),
        # The first version.
        (
            MEMINFO
            | {
                "proc/self/cgroup": "5:cpu:/a\n4:memory:/a\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "5000\n",
                "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "1000\n",
            },
            4000,
        ),
    ],
)
def test_memory_of_the_host_is_what_the_system_and_its_control_groups_leave(tmp_path, files, expected):
    assert memory.host_memory(write(tmp_path, files)) == expected


def test_accelerators_lend_most_of_the_least_limit_among_them():
    assert memory.accelerator_limit([{"bytes_limit": 1000, "bytes_in_use": 1}, {"bytes_limit": 800}]) == 760
    assert memory.accelerator_limit([{}, None]) is None


def test_devices_of_a_cpu_share_its_memory_beyond_what_they_hold(monkeypatch):
    monkeypatch.setattr(memory, "host_memory", lambda: 1000)
    assert memory.memory_limit(jax.devices()[:1], 70) == 1070
    monkeypatch.setattr(memory, "host_memory", lambda: None)
    assert memory.memory_limit(jax.devices()[:1], 70) is None
