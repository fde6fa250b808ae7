"""Parents and candidates of several lengths together: each scores as it does alone, without pads."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import epo_jax
from epo_jax import EpoError, Template
from epo_jax.epo import Candidates
from epo_jax.epo.lengths import bare, by_length, padded
from epo_jax.scoring.template import frozen_tokens

LENGTH, LEAST = 6, 3
CONFIG = epo_jax.EPOConfig(2, 3, 8, LENGTH, top_k=40, search="best", operators="deletion", least_length=LEAST)
AROUND = Template(prefix="The quick", suffix=" dog", bos="always")
PARENTS = [[3, 40, 90, 200], [5, 70, 71, 72, 73, 74], [9, 80, 81]]
# Of each parent: tokens behind and before its end, its end gone, another begun, and all but the first token anew.
CANDIDATES = [
    (0, [3, 40, 90, 200, 8, 9]),
    (0, [3, 40, 90]),
    (0, [3, 41, 90, 200, 7, 7]),
    (1, [5, 70, 71]),
    (1, [5, 70, 71, 72]),
    (1, [5, 71, 72, 73, 74, 75]),
    (2, [9, 80, 81, 82]),
    (2, [4, 80, 81, 82]),
    (2, [9, 17, 18, 19, 20, 21]),
]


@pytest.fixture(scope="module")
def other(tmp_path_factory, save_neox):
    """Another family with the same tokenizer."""
    folder = tmp_path_factory.mktemp("other")
    save_neox(folder, seed=5)
    return epo_jax.load_model(str(folder), dtype="float32")


@dataclasses.dataclass(frozen=True)
class Case:
    """What is read where, and which of two models is asked for fluency."""

    feature: str
    read: str | int = "last"
    template: Template | None = None
    two: bool = False


CASES = [
    Case("L1.N5"),
    Case("logit:e", -4, AROUND),
    Case("continuation: the", template=AROUND, two=True),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.feature}-{case.read}")


def scored_by(case: Case, lm, other):
    """A search's scorer, and what scores whole sequences of one length."""
    feature, fluency = epo_jax.parse_feature(case.feature, lm), other if case.two else None
    options = {"read": case.read, "fluency_model": fluency}
    scorer = epo_jax.build(lm, feature, CONFIG, case.template, **options).scorer
    frozen = frozen_tokens(lm, case.template or Template())

    def alone(ids: np.ndarray) -> list[tuple[float, float]]:
        around = [np.tile(part, (len(ids), 1)) for part in (frozen.prefix, frozen.suffix)]
        whole = np.concatenate([around[0], ids, around[1]], axis=1)
        found = epo_jax.score(lm, feature, whole, case.template, **options)
        return list(zip(np.asarray(found.feature), np.asarray(found.cross_entropy), strict=True))

    return scorer, alone


@every_case
def test_candidates_of_other_lengths_than_their_parents_score_as_they_do_alone(tiny, other, case):
    scorer, alone = scored_by(case, tiny, other)
    parents = padded(PARENTS, LENGTH)
    new, which = padded([one for _, one in CANDIDATES], LENGTH), np.asarray([parent for parent, _ in CANDIDATES])
    first = (new != parents[which]).argmax(axis=1)
    dream = jnp.zeros(len(new), jnp.int32)

    @jax.jit
    def run(scorer, parents, lengths, candidates, first, own):
        _, rows = scorer.gradients(parents, jnp.ones(len(parents)), dream[: len(parents)], lengths)
        return scorer.evaluate(rows, candidates, first, own)

    # A scorer is given tokens and lengths: what fills a prompt up may be any token.
    found = run(
        scorer,
        jnp.asarray(np.where(parents < 0, 33, parents)),
        jnp.asarray((parents >= 0).sum(axis=1), jnp.int32),
        Candidates(jnp.asarray(np.where(new < 0, 34, new)), jnp.asarray(which, jnp.int32), dream),
        jnp.asarray(first, jnp.int32),
        jnp.asarray((new >= 0).sum(axis=1), jnp.int32),
    )
    expected = np.asarray(by_length([bare(ids) for ids in new], alone))
    assert np.ptp(expected, axis=0).min() > 0.01
    np.testing.assert_allclose(found.feature, expected[:, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.cross_entropy, expected[:, 1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case.feature)
def test_gradients_are_those_of_prompts_as_long_as_they_are(tiny, other, case):
    scorer, _ = scored_by(case, tiny, other)
    parents = padded(PARENTS, LENGTH)
    lengths, penalties = (parents >= 0).sum(axis=1).astype(np.int32), np.asarray([0.5, 1.0, 2.0], np.float32)
    dream = jnp.zeros(3, jnp.int32)
    given = jnp.asarray(np.where(parents < 0, 33, parents))
    gradients, rows = jax.jit(type(scorer).gradients)(scorer, given, penalties, dream, lengths)
    log_probs = np.asarray(scorer.log_probs(rows))
    # Parents that are only run forward tell the same of what may follow them.
    ahead = np.asarray(scorer.log_probs(jax.jit(type(scorer).parents)(scorer, given, dream, lengths)))
    frozen, length = frozen_tokens(tiny, case.template or Template()), lengths[0]
    whole = np.concatenate([frozen.prefix, parents[0, :length], frozen.suffix])[None]
    feature = epo_jax.parse_feature(case.feature, tiny)
    expected = epo_jax.token_gradients(tiny, feature, whole, penalties[0], case.template, read=case.read)[0]
    found = np.asarray(gradients)[0, :, : expected.shape[1]]
    np.testing.assert_allclose(found[:length], expected, rtol=1e-3, atol=1e-4)
    assert (found[length:] == 0).all()
    logits = epo_jax.logits(tiny, whole[:, : len(frozen.prefix) + length])
    last = np.asarray(jax.nn.log_softmax(logits))[0, -1]
    for one in (log_probs, ahead):
        np.testing.assert_allclose(one[0, length], last, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("feature", "changes", "options", "expected"),
    [
        ("L1.N5", {"least_length": 1}, {}, "--least_length=1: a single token has no predecessor"),
        ("L1.N5", {}, {"read": 4}, "--least_length=3: where a prompt has no more tokens, --read=4: "),
        ("attention:L1.H0:-2", {}, {}, "--least_length=3: attention:L1.H0:-2 is another feature"),
        ("attention:L1.H0:3", {}, {}, "--least_length=3: where a prompt has no more tokens, --feature=att"),
        ("L1.N5", {}, {"constraints": epo_jax.Constraints(freeze=(0,))}, "--least_length=3: .* --freeze"),
    ],
)
def test_what_cannot_be_of_short_prompts_is_one_line(tiny, feature, changes, options, expected):
    with pytest.raises(EpoError, match=f"^{expected}") as caught:
        epo_jax.build(tiny, epo_jax.parse_feature(feature, tiny), dataclasses.replace(CONFIG, **changes), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("least", [-1, 7, True])
def test_a_least_length_that_cannot_be_is_one_line(least):
    with pytest.raises(EpoError, match=f"^--least_length={least}: "):
        dataclasses.replace(CONFIG, least_length=least)
    with pytest.raises(EpoError, match="--least_length would change it"):
        epo_jax.EPOConfig(least_length=3)
