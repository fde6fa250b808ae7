"""Constraints as settings: what is refused, and which tokens are left."""

from __future__ import annotations

import json

import numpy as np
import plain_constraints as plain
import pytest

from epo_jax.constraints import Constraints, allowed_mask, rules_of
from epo_jax.errors import EpoError
from epo_jax.models.tokenizers import allowed_tokens, token_texts

TOKENIZER = plain.byte_level()
COUNT = len(TOKENIZER)


def left(**settings) -> np.ndarray:
    return allowed_mask(Constraints(**settings), TOKENIZER, COUNT)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"ban_tokens": ("",)}, "--ban_tokens=: must be a token's id or its text"),
        ({"ban_tokens": (True,)}, "--ban_tokens=True: must be"),
        ({"ban_pattern": "("}, r"--ban_pattern=\(: no regular expression"),
        ({"ban_text": ("",)}, "--ban_text: an empty text"),
        ({"ban_text": ("a\ufffd",)}, r"--ban_text=.*U\+FFFD"),
        ({"ban_text": ("\ud800",)}, "--ban_text=.*surrogate"),
        ({"retokenize": "yes"}, "--retokenize=yes: not one of off, mark, reject"),
        ({"freeze": (True,)}, "--freeze=True: must be whole numbers"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_by_their_flag_in_one_line(settings, told):
    with pytest.raises(EpoError, match=f"^{told}") as caught:
        Constraints(**settings)
    assert "\n" not in str(caught.value)


def test_settings_come_back_from_json():
    made = Constraints((3, " dog"), "^x", True, ("ß",), "mark", (0, -1), True)
    assert Constraints.from_json(json.loads(json.dumps(made.to_json()))) == made
    with pytest.raises(EpoError, match=r"^config\.json: unknown constraints colour"):
        Constraints.from_json({"colour": 1})


def test_without_constraints_the_allowed_tokens_are_those_of_ever():
    np.testing.assert_array_equal(left(), allowed_tokens(TOKENIZER, COUNT))
    assert not left()[TOKENIZER.bos_token_id]
    assert left(allow_special=True).all()
    assert not allowed_mask(Constraints(allow_special=True), TOKENIZER, COUNT + 5)[COUNT:].any()


def test_a_token_is_banned_by_its_id_or_by_its_whole_text():
    by_text = np.flatnonzero(left() & ~left(ban_tokens=("do", " the")))
    assert sorted(token_texts(TOKENIZER, by_text.tolist())) == [" the", "do"]
    assert np.flatnonzero(left() & ~left(ban_tokens=(7, 9))).tolist() == [7, 9]
    for wrong in ("no such token", -1, COUNT):
        with pytest.raises(EpoError, match=rf"^--ban_tokens={wrong}: the tokenizer has no such token"):
            left(ban_tokens=(wrong,))


def test_two_tokens_of_one_text_are_banned_together():
    tokenizer = plain.sentencepiece(strip=True)
    allowed = allowed_mask(Constraints(ban_tokens=("d",)), tokenizer, len(tokenizer))
    banned = np.flatnonzero(allowed_tokens(tokenizer, len(tokenizer)) & ~allowed)
    assert set(tokenizer.convert_ids_to_tokens(banned.tolist())) == {"d", "<0x64>"}


def test_a_pattern_bans_the_tokens_whose_text_it_is_found_in():
    banned = np.flatnonzero(left() & ~left(ban_pattern="^ ?[dD]o"))
    texts = token_texts(TOKENIZER, banned.tolist())
    assert {"do", "dog", "do gé"} <= set(texts)
    assert all(text.lower().lstrip().startswith("do") for text in texts)


@pytest.mark.parametrize("tokenizer", [TOKENIZER, plain.sentencepiece(strip=False)], ids=["bytes", "pieces"])
def test_only_ascii_leaves_no_part_of_another_character(tokenizer):
    allowed = allowed_mask(Constraints(ascii_only=True), tokenizer, len(tokenizer))
    for index in np.flatnonzero(allowed).tolist():
        assert plain.text_of(tokenizer, [index]).isascii()
    texts = [plain.text_of(tokenizer, [index]) for index in np.flatnonzero(allowed_tokens(tokenizer, len(tokenizer)))]
    assert allowed.sum() == sum(text.isascii() for text in texts)


def test_too_few_tokens_are_refused_by_the_flags_that_left_them():
    with pytest.raises(EpoError, match=r"^--ban_pattern, --ascii_only: 1 of \d+ tokens are left"):
        left(ban_pattern="^[^x]|..", ascii_only=True)


@pytest.mark.parametrize(
    ("freeze", "told"),
    [
        ((5,), "--freeze=5: the prompt has 5 tokens, -5 to 4"),
        ((-6,), "--freeze=-6: "),
        ((0, 1, 2, 3, -1), "--freeze=0,"),
    ],
)
def test_positions_that_there_are_not_and_freezing_all_are_refused(freeze, told):
    with pytest.raises(EpoError, match=f"^{told}"):
        rules_of(Constraints(freeze=freeze), TOKENIZER, left(), 5)


def test_negative_positions_count_from_the_end():
    rules = rules_of(Constraints(freeze=(0, -1)), TOKENIZER, left(), 4)
    assert rules.movable.tolist() == [False, True, True, False]
    assert rules_of(Constraints(), TOKENIZER, left(), 4).movable is None
