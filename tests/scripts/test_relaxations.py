"""Searches that move prompts off the embeddings of tokens: what they score, what that costs, and that it helps."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from judging import gbda, pez
from judging.relaxed import relaxation_of
from judging.task import Task
from judging.trace import Trace

import epo_jax
from epo_jax import EPOConfig
from epo_jax.epo.mutate import random_prompts
from epo_jax.errors import EpoError
from epo_jax.models.tokenizers import allowed_tokens

CONFIG = EPOConfig(population=3, children=4, length=6, top_k=64)
ROWS = CONFIG.population * CONFIG.length
METHODS = {"pez": pez.pez, "gbda": gbda.gbda}
FEATURES = ["L1.N5", "logit:a", "residual:L2.post:random:3"]
# Not a whole number of anything.
BUDGET = 200 * ROWS + 7


def task_of(lm: epo_jax.LanguageModel, feature: str = "L1.N5", seed: int = 0, budget: int = BUDGET) -> Task:
    return Task(lm, feature, seed, budget, CONFIG, None)


def random_ids(lm: epo_jax.LanguageModel, count: int = CONFIG.population) -> np.ndarray:
    allowed = jnp.asarray(allowed_tokens(lm.tokenizer, lm.config.vocab_size))
    return np.asarray(random_prompts(jax.random.key(5), allowed, count, CONFIG.length))


def scores_of(lm: epo_jax.LanguageModel, feature: str, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = epo_jax.score(lm, epo_jax.parse_feature(feature, lm), ids)
    return np.asarray(found.feature), np.asarray(found.cross_entropy)


def reached(feature: np.ndarray, cross_entropy: np.ndarray) -> np.ndarray:
    """The best objective under each penalty."""
    penalties = np.geomspace(CONFIG.lambda_min, CONFIG.lambda_max, CONFIG.population)
    return np.asarray([(feature - penalty * cross_entropy).max() for penalty in penalties])


def library_gradient(lm: epo_jax.LanguageModel, feature: str, ids: np.ndarray, penalties: jax.Array) -> np.ndarray:
    parsed = epo_jax.parse_feature(feature, lm)
    return np.asarray(epo_jax.token_gradients(lm, parsed, ids, penalties))


def without_mean(gradient: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Of the allowed tokens; what all of them gain says nothing of which is best."""
    chosen = np.asarray(gradient)[..., allowed]
    return chosen - chosen.mean(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def tied(tmp_path_factory, save_llama):
    folder = tmp_path_factory.mktemp("tied")
    save_llama(folder, tie_word_embeddings=True)
    return epo_jax.load_model(str(folder), dtype="float32")


@pytest.fixture(scope="module")
def with_bos(tmp_path_factory, save_neox):
    folder = tmp_path_factory.mktemp("bos")
    save_neox(folder, bos=True)
    return epo_jax.load_model(str(folder), dtype="float32")


@pytest.fixture(scope="module")
def with_positions(tmp_path_factory, save_model):
    folder = tmp_path_factory.mktemp("positions")
    save_model(folder, "gpt2")
    return epo_jax.load_model(str(folder), dtype="float32")


@pytest.fixture(scope="module", params=list(METHODS))
def method(request):
    return METHODS[request.param]


@pytest.fixture(scope="module")
def trace(tiny, method) -> Trace:
    return method(task_of(tiny))


class TestBothMethods:
    @pytest.mark.parametrize("feature", FEATURES)
    def test_better_than_random_prompts_for_the_same_rows(self, tied, method, feature):
        budget = 600 * ROWS
        found = method(task_of(tied, feature, budget=budget))
        ours = reached(found.feature, found.cross_entropy)
        theirs = reached(*scores_of(tied, feature, random_ids(tied, budget // CONFIG.length)))
        assert (ours > theirs).all()

    def test_scored_prompts_hold_allowed_tokens_only(self, tiny, trace):
        allowed = allowed_tokens(tiny.tokenizer, tiny.config.vocab_size)
        assert not allowed.all()
        assert allowed[trace.ids].all()

    def test_the_trace_has_the_scores_of_its_prompts(self, tiny, trace):
        feature, cross_entropy = scores_of(tiny, "L1.N5", trace.ids)
        np.testing.assert_allclose(trace.feature, feature, atol=1e-4)
        np.testing.assert_allclose(trace.cross_entropy, cross_entropy, atol=1e-4)

    def test_rows_and_seconds_never_fall_and_rows_end_near_the_budget(self, trace):
        assert (np.diff(trace.rows) >= 0).all()
        assert (np.diff(trace.seconds) >= 0).all()
        assert BUDGET - 3 * ROWS < trace.rows[-1] <= BUDGET

    def test_the_same_seed_gives_the_same_trace_and_another_one_another(self, tiny, method, trace):
        again, other = method(task_of(tiny)), method(task_of(tiny, seed=1))
        for name in ("ids", "feature", "cross_entropy", "rows"):
            np.testing.assert_array_equal(getattr(again, name), getattr(trace, name))
        assert (other.ids != trace.ids).any()

    def test_a_budget_below_the_first_scores_is_refused(self, tiny, method):
        with pytest.raises(EpoError, match=f"a budget of {ROWS - 1} rows"):
            method(task_of(tiny, budget=ROWS - 1))

    def test_a_bos_stands_before_the_prompts(self, with_bos, method):
        found = method(task_of(with_bos, budget=30 * ROWS))
        whole = np.concatenate([np.zeros((len(found.ids), 1), np.int32), found.ids], axis=1)
        feature, cross_entropy = scores_of(with_bos, "L1.N5", whole)
        np.testing.assert_allclose(found.feature, feature, atol=1e-4)
        np.testing.assert_allclose(found.cross_entropy, cross_entropy, atol=1e-4)


class TestPez:
    def test_a_larger_budget_begins_alike(self, tiny):
        longer, shorter = (pez.pez(task_of(tiny, budget=budget)) for budget in (60 * ROWS, 30 * ROWS))
        np.testing.assert_array_equal(longer.ids[: len(shorter.ids)], shorter.ids)

    def test_a_step_costs_three_rows_a_token_and_scores_a_prompt_for_each_penalty(self, tiny):
        found = pez.pez(task_of(tiny, budget=11 * ROWS))
        assert found.rows.tolist() == [3 * ROWS] * 3 + [6 * ROWS] * 3 + [9 * ROWS] * 3

    @pytest.mark.parametrize("feature", FEATURES)
    def test_with_a_tied_head_the_gradient_is_that_of_one_hot_tokens(self, tied, feature):
        relaxation, ids = relaxation_of(task_of(tied, feature)), random_ids(tied)
        found, scores = pez.gradients(relaxation, pez._geometry(relaxation), jnp.asarray(ids))
        of_tokens = np.asarray(found @ relaxation.table.T)
        expected = library_gradient(tied, feature, ids, relaxation.penalties)
        allowed = np.asarray(relaxation.allowed)
        close = without_mean(expected, allowed)
        np.testing.assert_allclose(without_mean(of_tokens, allowed), close, atol=5e-3 * np.abs(close).max())
        np.testing.assert_allclose(scores.feature, scores_of(tied, feature, ids)[0], atol=1e-4)

    def test_points_are_next_to_the_token_in_their_direction_that_is_allowed(self, tiny):
        relaxation = relaxation_of(task_of(tiny))
        geometry, ids = pez._geometry(relaxation), jnp.asarray(random_ids(tiny))
        points = 7 * relaxation.table[ids]
        np.testing.assert_array_equal(pez.nearest(relaxation, geometry, points), ids)
        banned = dataclasses.replace(relaxation, allowed=relaxation.allowed.at[ids.reshape(-1)].set(False))
        assert not np.isin(pez.nearest(banned, geometry, points), ids).any()


class TestGbda:
    def test_ten_steps_are_followed_by_ten_draws_and_the_last_rows_are_draws(self, tiny):
        found = gbda.gbda(task_of(tiny, budget=(40 + 2 * 3 + 11) * ROWS))
        rounds = [30 + draw for draw in range(1, 11)] + [40 + 6 + draw for draw in range(1, 12)]
        assert found.rows.tolist() == np.repeat(np.asarray(rounds) * ROWS, CONFIG.population).tolist()

    @pytest.mark.parametrize(("steps", "per_run"), [(12, 20), (299, 300), (301, 160), (1525, 390)])
    def test_long_searches_are_up_to_four_runs_of_whole_intervals(self, steps, per_run):
        assert gbda._steps_per_run(steps) == per_run

    @pytest.mark.parametrize("feature", FEATURES)
    @pytest.mark.parametrize("model", ["tiny", "with_positions"])
    def test_of_hard_tokens_objective_and_gradient_are_the_librarys(self, request, model, feature):
        lm = request.getfixturevalue(model)
        relaxation, ids = relaxation_of(task_of(lm, feature)), random_ids(lm)
        shares = jax.nn.one_hot(ids, len(relaxation.allowed))
        own, cross_entropy = scores_of(lm, feature, ids)
        penalties = np.asarray(relaxation.penalties)
        np.testing.assert_allclose(gbda.objectives(relaxation, shares), own - penalties * cross_entropy, atol=1e-3)
        found = jax.grad(lambda shares: gbda.objectives(relaxation, shares).sum())(shares)
        expected = library_gradient(lm, feature, ids, relaxation.penalties)
        allowed = np.asarray(relaxation.allowed)
        np.testing.assert_allclose(
            without_mean(found, allowed), without_mean(expected, allowed), atol=1e-4 * np.abs(expected).max()
        )

    def test_mixtures_are_shares_of_allowed_tokens(self, tiny):
        relaxation = relaxation_of(task_of(tiny))
        shape = (CONFIG.population, CONFIG.length, len(relaxation.allowed))
        # Tokens that are not allowed would have nearly all.
        coefficients = jnp.where(relaxation.allowed, jnp.zeros(shape), 50)
        shares = np.asarray(gbda.mixtures(relaxation, coefficients, jax.random.gumbel(jax.random.key(0), shape)))
        assert (shares[..., ~np.asarray(relaxation.allowed)] == 0).all()
        np.testing.assert_allclose(shares.sum(axis=-1), 1, atol=1e-5)
