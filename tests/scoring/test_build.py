"""What `build` makes: one compilation for a model and shape, memory within bounds, and refusals."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import epo_jax
from epo_jax.epo import State
from epo_jax.epo import algorithm as module
from epo_jax.scoring import forward
from epo_jax.scoring.packing import Blocks, block_of, default_blocks, least_share, most_candidates

CONFIG = epo_jax.EPOConfig(population=3, children=4, length=5, top_k=20)


@pytest.fixture
def compilations():
    """Names of events of compilations since the test began."""
    seen: list[str] = []

    def listen(event: str, _seconds: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.unregister_event_duration_listener(listen)


def test_fifty_neurons_in_ten_layers_and_two_builds_share_one_compilation(save_llama, tmp_path, compilations):
    save_llama(tmp_path, num_hidden_layers=10)
    lm = epo_jax.load_model(str(tmp_path), dtype="float32")
    template = epo_jax.Template(prefix="The", suffix=" ran")

    def dream(number: int, config: epo_jax.EPOConfig, read: int | str = "last") -> np.ndarray:
        feature = epo_jax.parse_feature(f"L{number % 10}.N{number}", lm)
        algorithm = epo_jax.build(lm, [feature], config, template, read=read)
        state = algorithm.init(jax.random.key(number)[None])
        state, infos = algorithm.advance(state, 1 + number % 3, 4)
        return np.asarray(infos.feature[0])

    first = dream(0, CONFIG)
    sizes = [f._cache_size() for f in (module._init, module._advance)]
    dream(1, CONFIG)  # what is compiled for odd numbers, such as a cast of a Python scalar, is compiled now
    compilations.clear()
    for number in range(2, 50):
        assert not np.array_equal(dream(number, CONFIG), first)
    other = dataclasses.replace(CONFIG, lambda_min=0.5, lambda_max=2.0, restart_every=2, restart_lambda_max=7.0)
    dream(3, other)
    dream(3, other, read=2)
    assert [f._cache_size() for f in (module._init, module._advance)] == sizes
    assert compilations == []
    dream(3, dataclasses.replace(CONFIG, children=5))
    assert len(compilations) >= 2, "a new shape compiles, so the count counts"


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A model that is nothing but its vocabulary of 262,144 tokens."""
    path = tmp_path_factory.mktemp("wide") / "config.json"
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": 262_144,
        "tie_word_embeddings": True,
    }
    path.write_text(json.dumps(config))
    return epo_jax.load_model(f"random:{path}", dtype="float32")


@pytest.mark.slow
@pytest.mark.parametrize("text", ["L1.N5", "logit:t77"])
def test_an_iteration_of_a_large_vocabulary_stays_below_a_gibibyte_over_the_weights(wide, text, monkeypatch):
    def bytes_over_weights(blocks: Blocks | None = None) -> int:
        algorithm = epo_jax.build(wide, [epo_jax.parse_feature(text, wide)], epo_jax.EPOConfig())
        if blocks is not None:
            algorithm = dataclasses.replace(algorithm, scorer=dataclasses.replace(algorithm.scorer, blocks=blocks))
        scores = jnp.zeros((1, 8), jnp.float32)
        ids = jnp.zeros((1, 8, 12), jnp.int32)
        state = State(ids, scores, scores, jnp.zeros(1, jnp.int32), jax.random.key(0)[None])
        # What `lower` tells of its arguments has their structure, but is no array.
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
        memory = module._advance.lower(algorithm, state, jnp.int32(1), 4).compile().memory_analysis()
        monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", False)
        return memory.temp_size_in_bytes + memory.output_size_in_bytes

    assert bytes_over_weights() < 2**30
    monkeypatch.setattr(forward, "LOGIT_BYTES", 2**40)
    assert bytes_over_weights(Blocks(3072, ())) > 2**30, "logits of all candidates at once would not fit"


def test_a_block_holds_whole_candidates_within_its_rows_whatever_their_lengths():
    rng = np.random.default_rng(0)
    for _ in range(200):
        width = int(rng.integers(1, 20))
        # Few numbers of candidates, since each takes a program of its own.
        count = int(rng.choice([1, 2, 13, 79]))
        capacity = int(rng.integers(width, 6 * width))
        rows = rng.integers(0, width + 1, count).astype(np.int32)
        block = np.asarray(block_of(jnp.asarray(rows), width, capacity))
        assert (np.diff(block) >= 0).all()
        most = most_candidates(count, width, capacity)
        for number in range(block[-1] + 1):
            assert rows[block == number].sum() <= capacity
            assert (block == number).sum() <= most
        assert least_share(width) >= 1


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_default_blocks_hold_a_candidate_and_follow_the_given_number(platform):
    for candidates, length, suffix in [(256, 12, 0), (1, 2, 0), (7, 3, 90), (128 * 256, 12, 4)]:
        width = length + suffix
        for micro_batch in (None, 1, 500):
            blocks = default_blocks(candidates, length, suffix, platform, micro_batch)
            assert blocks.rows >= width
            assert all(a % b == 0 for a, b in zip(blocks.chunks, blocks.chunks[1:], strict=False))
            assert not blocks.chunks or blocks.rows % blocks.chunks[-1] == 0
            assert all(size <= blocks.rows for size in blocks.chunks)
            if micro_batch is not None:
                assert blocks.rows <= max(width, micro_batch) + 64
    # The paper's settings: all of an iteration's rows fit one block on a GPU in 99 of 100 iterations.
    one = default_blocks(256, 12, 0, "gpu")
    rng = np.random.default_rng(0)
    edits = rng.integers(0, 12, (1000, 256))
    trips = [int(block_of(jnp.asarray(12 - row, jnp.int32), 12, one.rows)[-1]) + 1 for row in edits]
    assert np.mean(np.asarray(trips) == 1) > 0.98


def test_features_of_several_kinds_are_refused(tiny):
    features = [epo_jax.parse_feature(text, tiny) for text in ("L1.N1", "logit:A")]
    with pytest.raises(epo_jax.EpoError, match=r"--feature: L1.N1 and logit:A are of different kinds"):
        epo_jax.build(tiny, features, CONFIG)
    with pytest.raises(epo_jax.EpoError, match="--feature: none given"):
        epo_jax.build(tiny, [], CONFIG)


@pytest.mark.parametrize(
    ("read", "problem"),
    [
        ("first", "not last, max or a position"),
        (9, "positions 0 to 8, or -9 to -1"),
        (-10, "positions"),
        (1, "prefix of 2"),
        (-9, "prefix"),
    ],
)
def test_positions_that_cannot_be_read_are_refused(tiny, read, problem):
    template = epo_jax.Template(prefix="a", suffix="bc", bos="always")
    with pytest.raises(epo_jax.EpoError, match=f"--read={read}: .*{problem}"):
        epo_jax.build(tiny, epo_jax.parse_feature("L1.N1", tiny), CONFIG, template, read=read)


def test_one_feature_has_no_axis_of_dreams_and_equals_a_list_of_one(tiny):
    feature = epo_jax.parse_feature("L1.N1", tiny)
    one, listed = epo_jax.build(tiny, feature, CONFIG), epo_jax.build(tiny, [feature], CONFIG)
    key = jax.random.key(4)
    state, info = one.step(one.init(key))
    states, infos = listed.step(listed.init(key[None]))
    assert state.ids.shape == (3, 5)
    assert states.ids.shape == (1, 3, 5)
    assert np.array_equal(info.ids, infos.ids[0])
    np.testing.assert_allclose(info.feature, infos.feature[0], rtol=0, atol=1e-6)
