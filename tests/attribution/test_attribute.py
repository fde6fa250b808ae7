"""Attribution against the plain evaluation of every alternative, one by one."""

from __future__ import annotations

import json
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

import epo_jax
from epo_jax.attribution import causal
from epo_jax.attribution.result import Attribution
from epo_jax.models.tokenizers import allowed_tokens
from epo_jax.scoring.assemble import scorer_for, stack_features
from epo_jax.scoring.template import NOTHING

ALTERNATIVES, LENGTH = 5, 4
TEMPLATE = epo_jax.Template(prefix="The fox", suffix=" dog", bos="always")


def prompts(count: int = 3, length: int = LENGTH) -> np.ndarray:
    return np.random.default_rng(0).integers(5, 260, (count, length))


def around(lm: epo_jax.LanguageModel, template: epo_jax.Template | None) -> tuple[list[int], list[int]]:
    if template is None:
        return [], []
    encode = lm.tokenizer.encode
    prefix = encode(template.prefix, add_special_tokens=False)
    return [lm.tokenizer.bos_token_id, *prefix], encode(template.suffix, add_special_tokens=False)


def replaced(ids: np.ndarray, before: int, position: int, tokens: np.ndarray) -> np.ndarray:
    """The sequence with each of the tokens at a position."""
    changed = np.tile(ids, (len(tokens), 1))
    changed[:, before + position] = tokens
    return changed


@pytest.mark.parametrize(
    ("name", "template", "read"),
    [
        ("L1.N7", None, "last"),
        pytest.param("logit:A", TEMPLATE, "last", marks=pytest.mark.slow),
        pytest.param("L2.N3", TEMPLATE, "max", marks=pytest.mark.slow),
        pytest.param("-L0.N4", None, -2, marks=pytest.mark.slow),
        ("continuation:he", TEMPLATE, "last"),
        pytest.param("attention:L1.H3:0", TEMPLATE, "last", marks=pytest.mark.slow),
    ],
)
def test_values_are_those_of_plain_evaluation_and_alternatives_the_top_by_gradient(tiny, name, template, read) -> None:
    feature = epo_jax.parse_feature(name, tiny)
    before, after = around(tiny, template)
    ids = np.array([[*before, *prompt, *after] for prompt in prompts()])
    found = epo_jax.attribute(tiny, feature, ids, template, read=read, alternatives=ALTERNATIVES)
    assert found.feature == name
    np.testing.assert_array_equal(found.ids, prompts())
    assert found.alternatives.shape == found.values.shape == (3, LENGTH, ALTERNATIVES)
    plain = epo_jax.score(tiny, feature, ids, template, read=read).feature
    np.testing.assert_allclose(found.baseline, plain, atol=1e-5)
    gradients = np.array(epo_jax.token_gradients(tiny, feature, ids, 0.0, template, read=read))
    gradients[..., ~allowed_tokens(tiny.tokenizer, tiny.config.vocab_size)] = -np.inf
    for prompt, position in np.ndindex(3, LENGTH):
        chosen = found.alternatives[prompt, position]
        here = gradients[prompt, position]
        here[ids[prompt, len(before) + position]] = -np.inf
        best = np.sort(here)[::-1][:ALTERNATIVES]
        np.testing.assert_allclose(here[chosen], best, rtol=1e-4, atol=1e-7)
        each = epo_jax.score(tiny, feature, replaced(ids[prompt], len(before), position, chosen), template, read=read)
        np.testing.assert_allclose(found.values[prompt, position], each.feature, atol=2e-5)


def test_a_minus_swaps_no_signs_but_the_values(tiny) -> None:
    up, down = (
        epo_jax.attribute(tiny, epo_jax.parse_feature(name, tiny), prompts(), alternatives=300)
        for name in ("L1.N7", "-L1.N7")
    )
    # All tokens are alternatives, so both saw the same prompts.
    np.testing.assert_allclose(down.baseline, -up.baseline, rtol=1e-5)
    np.testing.assert_allclose(down.drop_to_worst, -up.drop_to_best, atol=2e-5)
    np.testing.assert_allclose(down.drop_to_best, -up.drop_to_worst, atol=2e-5)


def test_the_token_itself_and_tokens_that_are_not_allowed_are_no_alternatives(tiny) -> None:
    ids = prompts(2)
    found = epo_jax.attribute(tiny, epo_jax.parse_feature("L2.N3", tiny), ids, alternatives=10_000)
    allowed = np.flatnonzero(allowed_tokens(tiny.tokenizer, tiny.config.vocab_size))
    for prompt, position in np.ndindex(ids.shape):
        assert (
            sorted(found.alternatives[prompt, position])
            == sorted(set(allowed) - {ids[prompt, position]})[: len(allowed) - 1]
        )


def test_drops_are_from_the_baseline_and_positive_where_a_token_matters() -> None:
    found = made(values=[[[3.0, -1.0], [5.0, 4.0]]], baseline=[4.0])
    assert found.drop_to_worst.tolist() == [[5.0, 0.0]]
    assert found.drop_to_best.tolist() == [[1.0, -1.0]]
    assert found.best_first(0, 1).tolist() == [0, 1]


def test_many_prompts_in_groups_give_what_each_gives_alone(tiny, monkeypatch) -> None:
    monkeypatch.setattr(causal, "AT_ONCE", 2)
    feature, ids = epo_jax.parse_feature("L2.N3", tiny), prompts(5)
    together = epo_jax.attribute(tiny, feature, ids, alternatives=3)
    for number, prompt in enumerate(ids):
        alone = epo_jax.attribute(tiny, feature, prompt[None], alternatives=3)
        np.testing.assert_array_equal(alone.alternatives[0], together.alternatives[number])
        np.testing.assert_allclose(alone.values[0], together.values[number], atol=1e-5)


def test_one_program_serves_all_features_of_a_kind_and_all_numbers_of_groups(tiny) -> None:
    causal._replaced.clear_cache()
    for name, count in (("L0.N1", 8), ("L2.N9", 20), ("L1.N50", 8)):
        epo_jax.attribute(tiny, epo_jax.parse_feature(name, tiny), prompts(count), alternatives=3)
    assert causal._replaced._cache_size() == 1


def test_prompts_of_several_features_are_each_read_by_its_own(tiny) -> None:
    names = ("L0.N1", "L2.N9")
    features = [epo_jax.parse_feature(name, tiny) for name in names]
    scorer = scorer_for(tiny, stack_features(features), NOTHING, "last", LENGTH)
    allowed = jnp.asarray(allowed_tokens(tiny.tokenizer, tiny.config.vocab_size))
    dream = np.array([1, 0, 1], np.int32)
    baseline, chosen, values = causal.replaced(scorer, prompts().astype(np.int32), dream, allowed, 3)
    for number, of in enumerate(dream):
        alone = epo_jax.attribute(tiny, features[of], prompts()[number][None], alternatives=3)
        np.testing.assert_array_equal(chosen[number], alone.alternatives[0])
        np.testing.assert_allclose(values[number], alone.values[0], atol=1e-5)
        np.testing.assert_allclose(baseline[number], alone.baseline[0], atol=1e-5)


def made(values, baseline, texts: Callable[[int], str] = chr) -> Attribution:
    """An attribution with these values, [B, T, K]."""
    array = np.asarray(values, np.float32)
    alternatives = 65 + np.arange(array.size, dtype=np.int32).reshape(array.shape)
    ids = 97 + np.arange(array[..., 0].size, dtype=np.int32).reshape(array.shape[:2])
    return Attribution(
        feature="L0.N0",
        ids=ids,
        baseline=np.asarray(baseline, np.float32),
        alternatives=alternatives,
        values=array,
        tokens=tuple(tuple(texts(token) for token in row) for row in ids.tolist()),
        alternative_tokens=tuple(tuple(tuple(map(texts, row)) for row in rows) for rows in alternatives.tolist()),
    )


def test_the_table_has_a_row_per_token_with_its_worst_and_best_replacement() -> None:
    table = made(values=[[[3.0, -1.0, 2.0], [5.0, 4.0, 6.0]]], baseline=[4.0]).to_pandas()
    assert table[["prompt", "position", "token"]].to_numpy().tolist() == [[0, 0, "a"], [0, 1, "b"]]
    assert table[["worst", "worst_value", "best", "best_value"]].to_numpy().tolist() == [
        ["B", -1.0, "A", 3.0],
        ["E", 4.0, "F", 6.0],
    ]
    assert table.drop_to_worst.tolist() == [5.0, 0.0]
    assert table.alternatives[1] == ["D", "E", "F"]


def test_json_gives_the_attribution_back_even_where_values_are_not_finite(tiny) -> None:
    first = epo_jax.attribute(tiny, epo_jax.parse_feature("L1.N7", tiny), prompts(2), alternatives=3)
    second = made(values=[[[3.0, np.nan], [np.inf, 4.0]]], baseline=[4.0])
    for one in (first, second):
        text = json.dumps(one.to_json(), allow_nan=False)
        again = Attribution.from_json(json.loads(text))
        for name, value in vars(one).items():
            if isinstance(value, np.ndarray):
                expected = np.where(np.isfinite(value), value, np.nan)
                np.testing.assert_array_equal(getattr(again, name), expected)
                assert getattr(again, name).dtype == value.dtype
            else:
                assert getattr(again, name) == value


@pytest.mark.parametrize(
    ("ids", "alternatives", "told"),
    [
        ([[5, 6, 7]], 0, "alternatives=0"),
        ([[5, 6, 7]], True, "alternatives=True"),
        ([[5, 600, 7]], 3, "vocabulary"),
        ([5, 6, 7], 3, "B, S"),
        ([[5]], 3, "none to score"),
    ],
)
def test_what_cannot_be_attributed_is_refused(tiny, ids, alternatives, told) -> None:
    with pytest.raises(epo_jax.EpoError, match=told):
        epo_jax.attribute(tiny, epo_jax.parse_feature("L1.N7", tiny), np.array(ids), alternatives=alternatives)
