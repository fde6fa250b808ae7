"""Scores of a search's candidates against PyTorch's, prompt by prompt."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from checking import torch_oracle

import epo_jax
from epo_jax.epo import Candidates
from epo_jax.scoring import forward
from epo_jax.scoring.assemble import scorer_for, stack_features
from epo_jax.scoring.scorer import LanguageModelScorer
from epo_jax.scoring.template import FrozenTokens

COUNT, LENGTH = 7, 6
FROZEN = {
    "nothing": ([], []),
    "a BOS": ([0], []),
    "a prefix": ([5, 9, 200], []),
    "a suffix": ([], [7, 33]),
    "a BOS, prefix and suffix": ([0, 5, 9], [7, 33, 120]),
}


def scorer_of(lm: epo_jax.LanguageModel, feature: str, frozen: str) -> LanguageModelScorer:
    tokens = FrozenTokens(*(np.asarray(part, np.int32) for part in FROZEN[frozen]))
    return scorer_for(lm, stack_features([epo_jax.parse_feature(feature, lm)]), tokens, "last", LENGTH)


def oracle_feature(lm: epo_jax.LanguageModel, feature: str) -> str:
    if not feature.startswith("logit:"):
        return feature
    return f"token {lm.tokenizer.encode(feature.removeprefix('logit:'))[0]}"


def prompts(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 307, (COUNT, LENGTH), np.int32)


def evaluate(
    a_scorer: LanguageModelScorer, ids: np.ndarray, length: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Scores by a compilation of its own: what a block holds is no part of a compilation's key."""
    count, width = ids.shape
    lengths = jnp.full(count, width, jnp.int32) if length is None else jnp.asarray(length, jnp.int32)
    nobody = jnp.zeros(count, jnp.int32)
    candidates = Candidates(jnp.asarray(ids), nobody, nobody)
    run = jax.jit(lambda s, c, n: s.evaluate(None, c, nobody, n))
    found = run(a_scorer, candidates, lengths)
    assert found.feature.dtype == found.cross_entropy.dtype == jnp.float32
    return np.asarray(found.feature), np.asarray(found.cross_entropy)


def assert_equals_pytorch(
    found: tuple[np.ndarray, np.ndarray],
    model: torch.nn.Module,
    feature: str,
    frozen: str,
    ids: np.ndarray,
    lengths: np.ndarray,
) -> None:
    prefix, suffix = FROZEN[frozen]
    for row, (prompt, length) in enumerate(zip(ids, lengths, strict=True)):
        whole = [*prefix, *prompt[:length], *suffix]
        stop = len(prefix) + int(length)
        value, cross_entropy = torch_oracle.scores_of_ids(model, feature, [whole], len(prefix), stop)
        np.testing.assert_allclose(found[0][row], value[0], rtol=0, atol=1e-4)
        np.testing.assert_allclose(found[1][row], cross_entropy[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("feature", "frozen"), [*(("L2.N3", frozen) for frozen in FROZEN), ("logit:A", "a BOS, prefix and suffix")]
)
def test_whole_and_short_prompts_score_as_alone_in_pytorch(
    feature: str, frozen: str, tiny: epo_jax.LanguageModel, tiny_torch: torch.nn.Module
) -> None:
    # Each row has a length of its own; the tokens beyond it, which are random, must not count.
    lengths = np.asarray([6, 5, 4, 3, 2, 6, 3])
    if FROZEN[frozen][0]:
        lengths[4] = 1  # a single token is scored where a prefix predicts it
    ids = prompts()
    found = evaluate(scorer_of(tiny, feature, frozen), ids, lengths)
    assert_equals_pytorch(found, tiny_torch, oracle_feature(tiny, feature), frozen, ids, lengths)
    assert np.ptp(found[0]) > 0.1
    assert np.ptp(found[1]) > 0.1


@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_blocks_of_any_size_give_the_same_scores(
    rows: int, tiny: epo_jax.LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_scorer, ids = scorer_of(tiny, "L2.N3", "a BOS, prefix and suffix"), prompts(1)
    lengths = np.asarray([6, 1, 4, 3, 2, 6, 3])
    whole = evaluate(a_scorer, ids, lengths)
    seen = []
    score = LanguageModelScorer.whole
    monkeypatch.setattr(
        LanguageModelScorer, "whole", lambda self, part, *rest: seen.append(len(part)) or score(self, part, *rest)
    )
    monkeypatch.setattr(forward, "LOGIT_BYTES", rows * LENGTH * tiny.config.vocab_size * 4)
    found = evaluate(a_scorer, ids, lengths)
    assert seen
    assert max(seen) <= rows
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("frozen", "scored"), [("nothing", LENGTH - 1), ("a BOS", LENGTH), ("a suffix", LENGTH - 1)])
def test_cross_entropy_is_the_mean_over_optimized_tokens_with_a_predecessor(
    frozen: str, scored: int, tiny: epo_jax.LanguageModel
) -> None:
    prefix, suffix = FROZEN[frozen]
    ids = prompts(2)
    whole = np.asarray([[*prefix, *prompt, *suffix] for prompt in ids], np.int32)
    logits = np.asarray(epo_jax.logits(tiny, whole), np.float64)
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    surprisal = [
        [-log_probabilities[row, at - 1, whole[row, at]] for at in range(1, len(prefix) + LENGTH)]
        for row in range(COUNT)
    ]
    assert len(surprisal[0]) == scored
    found = evaluate(scorer_of(tiny, "L2.N3", frozen), ids)
    np.testing.assert_allclose(found[1], np.mean(surprisal, axis=1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("feature", ["L0.N0", "logit:A"])
def test_score_equals_pytorch(feature: str, tiny: epo_jax.LanguageModel, tiny_torch: torch.nn.Module) -> None:
    ids = prompts(3)
    found = epo_jax.score(tiny, epo_jax.parse_feature(feature, tiny), ids)
    expected = torch_oracle.scores_of_ids(tiny_torch, oracle_feature(tiny, feature), ids)
    np.testing.assert_allclose(found.feature, expected[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.cross_entropy, expected[1], rtol=0, atol=1e-4)


def test_score_with_a_template_counts_only_the_tokens_between(
    tiny: epo_jax.LanguageModel, tiny_torch: torch.nn.Module
) -> None:
    template = epo_jax.Template(prefix="The", suffix=" ran", bos="always")
    prefix = [0, *tiny.tokenizer.encode("The")]
    suffix = tiny.tokenizer.encode(" ran")
    ids = np.asarray([[*prefix, *prompt, *suffix] for prompt in prompts(4)], np.int32)
    feature = epo_jax.parse_feature("L1.N1", tiny)
    found = epo_jax.score(tiny, feature, ids, template)
    expected = torch_oracle.scores_of_ids(tiny_torch, "L1.N1", ids, len(prefix), len(prefix) + LENGTH)
    np.testing.assert_allclose(found.feature, expected[0], rtol=0, atol=1e-4)
    np.testing.assert_allclose(found.cross_entropy, expected[1], rtol=0, atol=1e-4)
    assert np.abs(found.cross_entropy - epo_jax.score(tiny, feature, ids).cross_entropy).min() > 0.01


def test_every_neuron_and_layer_is_the_one_that_is_named(
    tiny: epo_jax.LanguageModel, tiny_torch: torch.nn.Module
) -> None:
    ids = prompts(5)
    for layer, index in itertools.product(range(3), (0, 26, 52)):
        name = f"L{layer}.N{index}"
        found = epo_jax.score(tiny, epo_jax.parse_feature(name, tiny), ids)
        np.testing.assert_allclose(
            found.feature, torch_oracle.scores_of_ids(tiny_torch, name, ids)[0], rtol=0, atol=1e-4
        )


@pytest.mark.parametrize(
    ("ids", "template"),
    [
        ([[1]], None),
        ([[307, 1]], None),
        ([[-1, 1]], None),
        ([[1, 2]] * 2 + [[3]], None),
        ([1, 2], None),
        ([[1.0, 2.0]], None),
        ([[]], None),
        (np.zeros((1, 65), int), None),
        ([[5, 6]], epo_jax.Template(prefix="The", bos="never")),
        ([[5, 6]], epo_jax.Template(suffix="The", bos="never")),
        ([[0]], epo_jax.Template(bos="always")),
        ([[5, 6]], epo_jax.Template(bos="always")),
    ],
)
def test_ids_that_cannot_be_scored_are_refused(
    ids: object, template: epo_jax.Template | None, tiny: epo_jax.LanguageModel
) -> None:
    feature = epo_jax.parse_feature("L0.N0", tiny)
    for call in (
        lambda: epo_jax.score(tiny, feature, ids, template),
        lambda: epo_jax.token_gradients(tiny, feature, ids, 1.0, template),
    ):
        with pytest.raises(epo_jax.EpoError) as caught:
            call()
        assert str(caught.value).startswith("ids: ")
        assert "\n" not in str(caught.value)


def test_penalties_of_another_number_are_refused(tiny: epo_jax.LanguageModel) -> None:
    with pytest.raises(epo_jax.EpoError, match=r"penalty: .*\[2\]"):
        epo_jax.token_gradients(tiny, epo_jax.parse_feature("L0.N0", tiny), [[1, 2], [3, 4]], [1.0, 2.0, 3.0])


def test_template_whose_tokens_the_model_lacks_is_refused(tmp_path, save_llama) -> None:
    save_llama(tmp_path, vocab_size=200)
    lm = epo_jax.load_model(str(tmp_path), dtype="float32")
    assert max(lm.tokenizer.encode(" the quick")) >= 200
    with pytest.raises(epo_jax.EpoError, match="outside the model's vocabulary of 200"):
        epo_jax.build(
            lm,
            epo_jax.parse_feature("L0.N0", lm),
            epo_jax.EPOConfig(top_k=10),
            epo_jax.Template(prefix=" the quick", bos="never"),
        )
