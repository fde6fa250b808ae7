"""How a model goes on, against a plain loop over whole sequences."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from plainly_continued import plainly

import epo_jax
from epo_jax import EpoError
from epo_jax.models import continuing
from epo_jax.models.continuing import AT_ONCE, continuations
from epo_jax.models.tokenizers import known_tokens


def prompts(count: int, length: int = 5) -> np.ndarray:
    return np.random.default_rng(3).integers(5, 90, (count, length)).astype(np.int32)


# Rotary positions, learned ones, and windows of five tokens; with frozen tokens before and without.
@pytest.mark.parametrize(("family", "prefix"), [("llama", []), ("gpt2", [7, 30, 12]), ("gemma3", [7, 30, 12])])
def test_each_token_is_the_likeliest_one_after_those_before(save_model, tmp_path, family, prefix):
    save_model(tmp_path, family)
    model = epo_jax.load_model(str(tmp_path), dtype="float32")
    ids = prompts(3)
    whole = np.concatenate([np.tile(np.asarray(prefix, np.int32), (3, 1)), ids], axis=1)
    assert continuations(model, ids, 6, prefix) == plainly(model, whole, 6)


def test_groups_of_sequences_go_on_as_each_does_alone(tiny):
    ids = prompts(AT_ONCE + 3)
    together = continuations(tiny, ids)
    assert together[AT_ONCE:] == continuations(tiny, ids[AT_ONCE:])
    assert [len(tokens) for tokens in together] == [8] * len(ids)


def test_one_program_serves_any_number_of_sequences(tiny):
    jax.clear_caches()
    for count in (1, 5, AT_ONCE + 1):
        continuations(tiny, prompts(count, 4))
    assert continuing._continued._cache_size() == 1


def test_an_end_of_text_token_is_the_last(tiny, monkeypatch):
    tokens = continuations(tiny, prompts(1))[0]
    monkeypatch.setattr(type(tiny.tokenizer), "eos_token_id", property(lambda _: tokens[2]), raising=False)
    assert continuations(tiny, prompts(1))[0] == tokens[: tokens.index(tokens[2]) + 1]


def test_a_model_without_room_goes_on_as_far_as_it_can(tiny):
    most = tiny.config.max_positions
    assert [len(tokens) for tokens in continuations(tiny, prompts(2, most - 2))] == [3, 3]
    assert [len(tokens) for tokens in continuations(tiny, prompts(2, most - 2), prefix_ids=[1, 2])] == [1, 1]
    with pytest.raises(EpoError, match=f"more than the {most}"):
        continuations(tiny, prompts(2, most), prefix_ids=[1])
    with pytest.raises(EpoError, match="at least 1"):
        continuations(tiny, prompts(1), 0)


def test_rows_without_a_token_are_never_taken(tiny, monkeypatch):
    likeliest = continuations(tiny, prompts(1))[0][0]
    known = known_tokens(tiny.tokenizer, tiny.config.vocab_size)
    assert known[likeliest]
    known[likeliest] = False
    monkeypatch.setattr(continuing, "known_tokens", lambda *_: known)
    assert likeliest not in continuations(tiny, prompts(1))[0]


@pytest.mark.slow
def test_the_embedded_model_goes_on_as_a_plain_loop_does(lm):
    ids = np.asarray([lm.tokenizer(text)["input_ids"][:4] for text in ("The capital of France", "Once upon a time")])
    found = continuations(lm, ids, 5)
    assert found == plainly(lm, ids, 5)
    assert lm.tokenizer.decode(found[0]).startswith(" is")
