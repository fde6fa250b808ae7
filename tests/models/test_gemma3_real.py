"""The real Gemma 3 270M against PyTorch's reading of the same file; its wheels are no dependency."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from checking import torch_oracle
from checking.sites import torch_logits

import epo_jax
from epo_jax.models.embedded import embedded_file

pytestmark = pytest.mark.slow

PROMPTS = (
    "The quick brown fox jumps over the lazy dog and runs away from the bear.",
    "def main():\n    print('hello',  42)\n    return sum(x for x in range(10))",
    "Was ist 12 + 30? Das Ergebnis ist natürlich zweiundvierzig, wie jeder weiß.",
    "The capital of France is Paris, and the capital of Italy is Rome, of course",
)
# The window of the layers that do not see all.
WINDOW = 512
NEURONS = ("L7.N690", "L17.N3")


@pytest.fixture(scope="module")
def lm() -> epo_jax.LanguageModel:
    # Without the wheels this fails with the command that installs them.
    return epo_jax.load_model("gemma3-270m", dtype="float32")


@pytest.fixture(scope="module")
def torch_lm() -> torch.nn.Module:
    path = embedded_file("gemma3-270m")
    return transformers.AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()


@pytest.fixture(scope="module")
def ids(lm: epo_jax.LanguageModel) -> np.ndarray:
    """The prompts' first 12 tokens, a BOS among them."""
    return np.asarray([lm.tokenizer(prompt)["input_ids"][:12] for prompt in PROMPTS])


def test_a_bos_is_there(lm: epo_jax.LanguageModel, ids: np.ndarray) -> None:
    assert lm.tokenizer.bos_token_id == 2
    assert (ids == 2).sum(axis=1).tolist() == [1] * len(PROMPTS)
    assert (ids[:, 0] == 2).all()
    # The model was never without one: these English words then surprise it three times as much.
    feature = epo_jax.parse_feature(NEURONS[0], lm)
    with_bos = epo_jax.score(lm, feature, ids[:1]).cross_entropy[0] * 11
    without = epo_jax.score(lm, feature, ids[:1, 1:]).cross_entropy[0] * 10
    assert with_bos < 40 < 100 < without


def test_logits_equal_pytorch(lm: epo_jax.LanguageModel, torch_lm: torch.nn.Module, ids: np.ndarray) -> None:
    expected = torch_logits(torch_lm, ids)
    assert expected.std() > 3
    np.testing.assert_allclose(epo_jax.logits(lm, ids), expected, rtol=0, atol=1e-3)


def test_a_prompt_beyond_the_window_scores_as_in_pytorch(
    lm: epo_jax.LanguageModel, torch_lm: torch.nn.Module, ids: np.ndarray
) -> None:
    text = np.concatenate([ids[0], *[ids[1 + index % 3, 1:] for index in range(48)]])[None]
    assert text.shape[1] > WINDOW + 20
    scores = epo_jax.score(lm, epo_jax.parse_feature(NEURONS[1], lm), text)
    with torch.no_grad(), torch_oracle.inputs_of(torch_lm.model.layers[17].mlp.down_proj) as seen:
        logits = torch_lm(torch.from_numpy(text)).logits[0, :-1]
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(text[0, 1:]))
    np.testing.assert_allclose(scores.feature[0], seen[0][0, -1, 3], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(scores.cross_entropy[0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("feature", NEURONS)
def test_token_gradients_equal_autograd(
    feature: str, lm: epo_jax.LanguageModel, torch_lm: torch.nn.Module, ids: np.ndarray
) -> None:
    parsed = epo_jax.parse_feature(feature, lm)
    value, cross_entropy = torch_oracle.scores_of_ids(torch_lm, feature, ids)
    scores = epo_jax.score(lm, parsed, ids)
    np.testing.assert_allclose(scores.feature, value, rtol=0, atol=1e-3)
    np.testing.assert_allclose(scores.cross_entropy, cross_entropy, rtol=0, atol=1e-3)
    penalties = np.asarray([0.0, 0.1, 1.0, 10.0])
    found = np.asarray(epo_jax.token_gradients(lm, parsed, ids, penalties)).reshape(4, -1)
    expected = torch_oracle.gradients(torch_lm, feature, ids, penalties).reshape(4, -1)
    relative = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert relative.max() < 1e-3


def test_it_goes_on_as_english_does(lm: epo_jax.LanguageModel) -> None:
    text = lm.tokenizer("The quick brown fox jumps over the")["input_ids"]
    start, length = len(text), len(text) + 3
    for position in range(start, length):
        # What stands after the last token is not seen by it, so one shape serves every step.
        padded = np.zeros((1, length), np.int32)
        padded[0, :position] = text
        text.append(int(epo_jax.logits(lm, padded)[0, position - 1].argmax()))
    assert lm.tokenizer.decode(text[start:]) == " lazy dog."


def test_a_dream_scores_what_pytorch_scores_behind_a_bos(lm: epo_jax.LanguageModel, torch_lm: torch.nn.Module) -> None:
    config = epo_jax.EPOConfig(iterations=2, population=2, children=3, length=5)
    result = epo_jax.dream(lm, NEURONS[0], config, init_text="I can't remember")
    assert len(result.history.ids) == 2 + 2 * 6
    whole = np.concatenate([np.full((len(result.history.ids), 1), 2), result.history.ids], axis=1)
    feature, cross_entropy = torch_oracle.scores_of_ids(torch_lm, NEURONS[0], whole)
    np.testing.assert_allclose(result.history.feature, feature, rtol=0, atol=1e-3)
    np.testing.assert_allclose(result.history.cross_entropy, cross_entropy, rtol=0, atol=1e-3)
