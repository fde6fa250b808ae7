"""Dreams of a tiny model under constraints."""

from __future__ import annotations

import functools

import jax
import numpy as np
import plain_constraints as plain
import pytest

import epo_jax
from epo_jax import Constraints, EPOConfig, EpoError, Template
from epo_jax.dream import loop

dream = functools.partial(epo_jax.dream, attribution=False)
CONFIG = EPOConfig(iterations=4, population=3, children=4, length=5, top_k=20, restart_every=3)
TEMPLATE = Template(prefix="The quick b", suffix="g dog", bos="always")


@pytest.fixture(autouse=True)
def guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search itself may move nothing between host and device without saying so."""
    search = loop.searched

    def guarded(*arguments):
        with jax.transfer_guard("disallow"):
            return search(*arguments)

    monkeypatch.setattr(loop, "searched", guarded)


def frozen(lm, template: Template) -> tuple[list[int], list[int]]:
    encode = lm.tokenizer.encode
    return [0, *encode(template.prefix, add_special_tokens=False)], encode(template.suffix, add_special_tokens=False)


def test_no_prompt_of_several_dreams_breaks_a_constraint_and_scores_are_those_of_the_prompts(tiny):
    asked = Constraints(
        ban_tokens=("T", 200),
        ban_pattern="^[A-M]",
        ascii_only=True,
        ban_text=("RO", "e", "at dog"),
        retokenize="reject",
    )
    results = dream(tiny, ["L0.N3", "L1.N5"], CONFIG, seed=[1, 2], template=TEMPLATE, constraints=asked)
    before, after = frozen(tiny, TEMPLATE)
    for result in results:
        history = result.history
        assert history.iteration[-1] == CONFIG.iterations
        assert (history.iteration == 0).sum() == CONFIG.population
        assert len(history) > CONFIG.population * 10
        assert result.frontier.retokenizes == (True,) * len(result.frontier)
        for prompt in history.ids.tolist():
            text = plain.text_of(tiny.tokenizer, prompt)
            assert text.isascii()
            assert not set("ABCDEFGHIJKLMT") & {text[0]}
            assert 200 not in prompt
            assert not plain.holds(tiny.tokenizer, prompt, asked.ban_text, before, after)
            assert plain.survives(tiny.tokenizer, prompt, before, after)
    history = results[1].history
    ids = np.concatenate(
        [np.tile(before, (len(history), 1)), history.ids, np.tile(after, (len(history), 1))], axis=1
    ).astype(np.int32)
    scores = epo_jax.score(tiny, epo_jax.parse_feature("L1.N5", tiny), ids, TEMPLATE)
    np.testing.assert_allclose(scores.feature, history.feature, atol=1e-4)
    np.testing.assert_allclose(scores.cross_entropy, history.cross_entropy, atol=1e-4)


@pytest.mark.slow
def test_a_dream_under_constraints_is_the_same_each_time_and_alone_or_with_others(tiny):
    asked = Constraints(ban_text=("e",), retokenize="reject")
    together = dream(tiny, ["L0.N3", "L1.N5"], CONFIG, seed=[1, 2], constraints=asked)
    again = dream(tiny, ["L0.N3", "L1.N5"], CONFIG, seed=[1, 2], constraints=asked)
    alone = dream(tiny, "L1.N5", CONFIG, seed=2, constraints=asked)
    assert [one.history.ids.tobytes() for one in together] == [one.history.ids.tobytes() for one in again]
    np.testing.assert_array_equal(together[1].history.ids, alone.history.ids)


def test_constraints_that_ask_for_nothing_change_nothing(tiny):
    free = dream(tiny, "L1.N5", CONFIG, seed=4)
    for asked in (Constraints(), Constraints(retokenize="mark")):
        made = dream(tiny, "L1.N5", CONFIG, seed=4, constraints=asked)
        assert made.history.ids.tobytes() == free.history.ids.tobytes()
        assert made.history.feature.tobytes() == free.history.feature.tobytes()
    assert free.frontier.retokenizes is None


def test_marks_say_which_frontier_prompts_are_the_same_tokens_again(tiny, tmp_path):
    made = dream(tiny, "L1.N5", CONFIG, seed=4, constraints=Constraints(retokenize="mark"), output=tmp_path / "run")
    expected = [plain.survives(tiny.tokenizer, prompt) for prompt in made.frontier.ids.tolist()]
    assert list(made.frontier.retokenizes) == expected
    assert not all(expected)
    assert made.frontier.to_pandas()["retokenizes"].tolist() == expected
    assert epo_jax.load_result(tmp_path / "run").frontier.retokenizes == made.frontier.retokenizes
    other = dream(tiny, "L1.N5", CONFIG, seed=5, constraints=Constraints(retokenize="mark"))
    merged = epo_jax.merge_frontiers([made, other])
    assert list(merged.retokenizes) == [plain.survives(tiny.tokenizer, prompt) for prompt in merged.ids.tolist()]


@pytest.mark.slow
@pytest.mark.parametrize("retokenize", ["off", "reject"])
def test_frozen_positions_keep_the_tokens_of_the_initial_text(tiny, retokenize):
    text = "a dog runs"
    ids = tiny.tokenizer.encode(text, add_special_tokens=False)
    config = EPOConfig(iterations=5, population=3, children=4, length=len(ids), top_k=20)
    asked = Constraints(freeze=(0, -1), retokenize=retokenize)
    history = dream(tiny, "L1.N5", config, seed=4, init_text=text, constraints=asked).history
    assert (history.ids[:, [0, -1]] == [ids[0], ids[-1]]).all()
    assert len({prompt.tobytes() for prompt in history.ids}) > 10


@pytest.mark.parametrize(
    ("asked", "text", "told"),
    [
        (Constraints(freeze=(0,)), None, "--freeze: "),
        (Constraints(freeze=(99,)), None, "--freeze=99: "),
        (Constraints(ban_text=("DOG",)), "a dog", "initial prompt 'a dog': .*--ban_text"),
        (Constraints(ban_tokens=("no such token",)), None, "--ban_tokens=no such token: "),
    ],
)
def test_what_cannot_be_dreamed_is_refused_before_anything_is_made(tiny, tmp_path, asked, text, told):
    length = 5 if text is None else len(tiny.tokenizer.encode(text, add_special_tokens=False))
    config = EPOConfig(iterations=1, population=2, children=2, length=length, top_k=5)
    with pytest.raises(EpoError, match=f"^{told}"):
        dream(tiny, "L1.N5", config, constraints=asked, init_text=text, output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_samples_of_the_model_satisfy_the_constraints_too(tiny):
    asked = Constraints(ban_text=("e", "a"), retokenize="reject", ban_pattern=r"\\x")
    config = EPOConfig(iterations=1, population=2, children=2, length=3, top_k=5)
    history = dream(tiny, "L1.N5", config, constraints=asked, init="model").history
    for prompt in history.ids.tolist():
        assert not plain.holds(tiny.tokenizer, prompt, asked.ban_text)
        assert plain.survives(tiny.tokenizer, prompt)


@pytest.mark.slow
def test_a_profile_and_a_stop_work_where_children_are_looked_at(tiny, tmp_path):
    asked = Constraints(retokenize="reject")
    whole = dream(tiny, "L1.N5", CONFIG, seed=4, constraints=asked).history
    made = dream(
        tiny,
        "L1.N5",
        CONFIG,
        seed=4,
        constraints=asked,
        callback=lambda told: told.iteration == 2,
        profile_dir=tmp_path / "profile",
    )
    assert made.run.stopped == "stopped by the callback after iteration 2"
    assert made.history.ids.tobytes() == whole.ids[whole.iteration <= 2].tobytes()
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
