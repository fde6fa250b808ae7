"""Suffix-only evaluation against plain evaluation of the same candidates."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import epo_jax
from epo_jax.epo import Candidates, Scores
from epo_jax.scoring.assemble import scorer_for, stack_features
from epo_jax.scoring.packing import CHUNKS, Blocks
from epo_jax.scoring.scorer import LanguageModelScorer
from epo_jax.scoring.template import FrozenTokens

PARENTS, LENGTH = 5, 6
FROZEN = {
    "nothing": ([], []),
    "a BOS": ([0], []),
    "a suffix": ([], [7, 33, 120]),
    "a BOS, prefix and suffix": ([0, 5, 9], [7, 33]),
}
NEURONS = ("L0.N1", "L1.N7", "L2.N3")
LOGITS = ("logit:A", "logit:b")
# One block and many, in chunks and whole; 9 rows are the least that hold a candidate of 6 tokens and a suffix of 3.
BLOCKS = {
    "one block": Blocks(1024, ()),
    "one block in chunks": Blocks(1024, (128, 64, 32)),
    "many blocks": Blocks(40, ()),
    "many blocks in chunks": Blocks(64, (32, 16, 8)),
    "one candidate at a time": Blocks(9, ()),
}


def scorer_of(lm, names, frozen: str, read: str | int = "last", blocks: Blocks = BLOCKS["one block"]):
    tokens = FrozenTokens(*(np.asarray(part, np.int32) for part in FROZEN[frozen]))
    features = stack_features([epo_jax.parse_feature(name, lm) for name in names])
    return scorer_for(lm, features, tokens, read, LENGTH, blocks)


@dataclasses.dataclass(frozen=True)
class Drawn:
    """Random parents, and candidates that differ from them from a random position on."""

    parents: np.ndarray
    dreams: np.ndarray
    candidates: Candidates
    first_edit: jnp.ndarray
    length: jnp.ndarray


def draw(count: int, dreams: int, seed: int = 0, parents: int = PARENTS, length: int = LENGTH, vocabulary: int = 300):
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, vocabulary, (parents, length), np.int32)
    dream = rng.integers(0, dreams, parents).astype(np.int32)
    parent = rng.integers(0, parents, count).astype(np.int32)
    first = rng.integers(0, length, count).astype(np.int32)
    other = rng.integers(1, vocabulary, (count, length), np.int32)
    # Half of the candidates change one token, the others all from the first edit on.
    changed = np.arange(length) >= first[:, None]
    changed[::2] = np.arange(length) == first[::2, None]
    new = np.where(changed, other, ids[parent])
    whole = np.full(count, length, np.int32)
    arrays = [jnp.asarray(a) for a in (new, parent, dream[parent])]
    return Drawn(ids, dream, Candidates(*arrays), jnp.asarray(first), jnp.asarray(whole))


@jax.jit
def plain(scorer: LanguageModelScorer, candidates: Candidates, length: jax.Array) -> Scores:
    return scorer.evaluate(None, candidates, jnp.zeros_like(length), length)


@jax.jit
def suffix_only(
    scorer: LanguageModelScorer,
    ids: jax.Array,
    dream: jax.Array,
    candidates: Candidates,
    first: jax.Array,
    length: jax.Array,
) -> Scores:
    _, parents = scorer.gradients(ids, jnp.ones(len(ids)), dream)
    return scorer.evaluate(parents, candidates, first, length)


def assert_agree(scorer: LanguageModelScorer, drawn: Drawn, length: jax.Array | None = None) -> Scores:
    length = drawn.length if length is None else length
    expected = plain(scorer, drawn.candidates, length)
    dreams = jnp.asarray(drawn.dreams)
    found = suffix_only(scorer, jnp.asarray(drawn.parents), dreams, drawn.candidates, drawn.first_edit, length)
    real = np.asarray(length) > 0
    found, expected = (jax.tree.map(lambda a: a[real], scores) for scores in (found, expected))
    np.testing.assert_allclose(found.cross_entropy, expected.cross_entropy, rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.feature, expected.feature, rtol=1e-4, atol=1e-5)
    assert np.ptp(expected.feature) > 0.05
    return found


@pytest.mark.parametrize(
    ("frozen", "names", "blocks"),
    [
        ("nothing", NEURONS, "one block"),
        ("nothing", NEURONS[1:2], "one block in chunks"),
        ("a suffix", LOGITS, "many blocks"),
        ("a BOS, prefix and suffix", NEURONS, "many blocks in chunks"),
        pytest.param("nothing", LOGITS, "many blocks in chunks", marks=pytest.mark.slow),
        pytest.param("a BOS", NEURONS, "many blocks", marks=pytest.mark.slow),
        pytest.param("a BOS", LOGITS[:1], "one block in chunks", marks=pytest.mark.slow),
        pytest.param("a suffix", NEURONS, "one candidate at a time", marks=pytest.mark.slow),
        pytest.param("a BOS, prefix and suffix", LOGITS, "one block", marks=pytest.mark.slow),
    ],
)
def test_candidates_score_as_when_run_whole(tiny, frozen, names, blocks):
    assert_agree(scorer_of(tiny, names, frozen, blocks=BLOCKS[blocks]), draw(60, len(names)))


def test_candidates_of_a_model_with_tied_head_and_biases_score_as_when_run_whole(save_llama, tmp_path):
    save_llama(tmp_path, seed=1, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, head_dim=16)
    lm = epo_jax.load_model(str(tmp_path), dtype="float32")
    for names in (NEURONS, LOGITS):
        scorer = scorer_of(lm, names, "a BOS, prefix and suffix", blocks=BLOCKS["many blocks in chunks"])
        assert_agree(scorer, draw(60, len(names)))


@pytest.mark.parametrize("parallel", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_candidates_of_a_gpt_neox_score_as_when_run_whole(save_neox, tmp_path, parallel):
    save_neox(tmp_path, use_parallel_residual=parallel)
    lm = epo_jax.load_model(str(tmp_path), dtype="float32")
    for names in (NEURONS, LOGITS):
        scorer = scorer_of(lm, names, "a BOS, prefix and suffix", blocks=BLOCKS["many blocks in chunks"])
        assert_agree(scorer, draw(60, len(names)))


@pytest.mark.parametrize(
    ("frozen", "names", "read"),
    [
        ("nothing", NEURONS, "max"),
        ("a BOS, prefix and suffix", LOGITS, 5),
        pytest.param("a BOS, prefix and suffix", LOGITS, "max", marks=pytest.mark.slow),
        pytest.param("a BOS, prefix and suffix", LOGITS, -2, marks=pytest.mark.slow),
    ],
)
def test_features_are_read_at_any_position_and_as_a_maximum(tiny, frozen, names, read):
    drawn = draw(60, len(names), seed=1)
    found = assert_agree(scorer_of(tiny, names, frozen, read, BLOCKS["many blocks in chunks"]), drawn)
    last = plain(scorer_of(tiny, names, frozen), drawn.candidates, drawn.length)
    assert np.abs(np.asarray(last.feature) - found.feature).max() > 0.05


def test_positions_are_traced(tiny):
    drawn = draw(60, 3, seed=1)
    for read in (3, 6, -1, -7, "last"):
        assert_agree(scorer_of(tiny, NEURONS, "a BOS, prefix and suffix", read, BLOCKS["many blocks"]), drawn)
        compiled = (plain._cache_size(), suffix_only._cache_size())
    assert_agree(scorer_of(tiny, NEURONS, "a BOS, prefix and suffix", -5, BLOCKS["many blocks"]), drawn)
    assert (plain._cache_size(), suffix_only._cache_size()) == compiled


@pytest.mark.parametrize(
    ("frozen", "read", "names"),
    [
        ("nothing", "last", NEURONS),
        ("a BOS, prefix and suffix", "max", NEURONS),
        pytest.param("a suffix", "last", LOGITS, marks=pytest.mark.slow),
        pytest.param("a BOS", "max", LOGITS, marks=pytest.mark.slow),
    ],
)
def test_candidates_have_lengths_of_their_own_and_places_may_be_empty(tiny, frozen, read, names):
    drawn = draw(60, len(names), seed=2)
    rng = np.random.default_rng(0)
    # Shorter than the edit's place, too: then the suffix alone has moved.
    least = 1 if FROZEN[frozen][0] else 2
    length = rng.integers(least, LENGTH + 1, 60).astype(np.int32)
    length[rng.random(60) < 0.2] = 0
    assert_agree(scorer_of(tiny, names, frozen, read, BLOCKS["many blocks in chunks"]), drawn, jnp.asarray(length))


def test_no_candidates_at_all_make_no_trouble(tiny):
    drawn = draw(10, 1)
    scorer = scorer_of(tiny, NEURONS[:1], "nothing", blocks=BLOCKS["many blocks in chunks"])
    empty = jnp.zeros(10, jnp.int32)
    args = (jnp.asarray(drawn.parents), jnp.asarray(drawn.dreams), drawn.candidates, drawn.first_edit, empty)
    assert suffix_only(scorer, *args).feature.shape == (10,)


def test_parents_rows_are_used_and_not_computed_again(tiny):
    # Candidates whose tokens before the first edit are not the parent's score as the parent's tokens would.
    drawn = draw(40, 1, seed=3)
    scorer = scorer_of(tiny, NEURONS[1:2], "nothing")
    lied = np.where(np.arange(LENGTH) < np.asarray(drawn.first_edit)[:, None], 1, drawn.candidates.ids)
    lying = dataclasses.replace(drawn.candidates, ids=jnp.asarray(lied))
    arguments = (jnp.asarray(drawn.parents), jnp.asarray(drawn.dreams))
    honest = suffix_only(scorer, *arguments, drawn.candidates, drawn.first_edit, drawn.length)
    found = suffix_only(scorer, *arguments, lying, drawn.first_edit, drawn.length)
    np.testing.assert_array_equal(found.cross_entropy, honest.cross_entropy)
    np.testing.assert_array_equal(found.feature, honest.feature)


@pytest.mark.parametrize("dtype", ["bfloat16", pytest.param("float16", marks=pytest.mark.slow)])
def test_half_precision_scores_are_float32_and_as_near_as_the_format_allows(tiny_folder, tiny, dtype):
    drawn = draw(60, 3, seed=4)
    lm = epo_jax.load_model(str(tiny_folder), dtype=dtype)
    scorer = scorer_of(lm, NEURONS, "a BOS, prefix and suffix", blocks=BLOCKS["many blocks in chunks"])
    arguments = (jnp.asarray(drawn.parents), jnp.asarray(drawn.dreams))
    found = suffix_only(scorer, *arguments, drawn.candidates, drawn.first_edit, drawn.length)
    same = plain(scorer, drawn.candidates, drawn.length)
    exact = plain(scorer_of(tiny, NEURONS, "a BOS, prefix and suffix"), drawn.candidates, drawn.length)
    assert found.feature.dtype == found.cross_entropy.dtype == jnp.float32
    loose = 0.15 if dtype == "bfloat16" else 0.02
    for scores in (found, same):
        np.testing.assert_allclose(scores.cross_entropy, exact.cross_entropy, rtol=0, atol=loose)
        np.testing.assert_allclose(scores.feature, exact.feature, rtol=0, atol=loose)


# scripts/check_suffix_evaluation.py does it for 10,000.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("frozen", "names"),
    [("nothing", ("L0.N5", "L10.N5", "L29.N3")), ("a BOS, prefix and suffix", ("logit: dog", "logit: cat"))],
    ids=["neurons", "logits"],
)
def test_candidates_of_the_embedded_model_agree(lm, frozen, names):
    blocks = Blocks(3072, CHUNKS) if frozen == "nothing" else Blocks(1024, CHUNKS[1:])
    scorer = scorer_of(lm, names, frozen, blocks=blocks)
    assert_agree(scorer, draw(250, len(names), parents=16, vocabulary=49_000))


@pytest.mark.slow
def test_ten_thousand_candidates_of_a_tiny_model_agree(tiny):
    for frozen, blocks in (("nothing", "one block in chunks"), ("a BOS, prefix and suffix", "many blocks in chunks")):
        scorer = scorer_of(tiny, NEURONS, frozen, blocks=BLOCKS[blocks])
        for seed in range(10):
            assert_agree(scorer, draw(500, 3, seed))
