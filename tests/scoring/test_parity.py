"""Token gradients against PyTorch's autograd through the whole one-hot matrix."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checking import torch_oracle

import epo_jax

LENGTH = 6
NEURON, TOKEN = "L1.N7", "token 65"


@dataclasses.dataclass(frozen=True)
class Pair:
    """One model, here and in PyTorch."""

    lm: epo_jax.LanguageModel
    model: torch.nn.Module

    def feature(self, text: str) -> epo_jax.Feature:
        """The feature, of which "token 65" is the logit of that token."""
        if not text.startswith("token "):
            return epo_jax.parse_feature(text, self.lm)
        name = self.lm.tokenizer.decode([int(text.removeprefix("token "))])
        return epo_jax.parse_feature(f"logit:{name}", self.lm)


@pytest.fixture(scope="module")
def grouped(tiny: epo_jax.LanguageModel, tiny_torch: torch.nn.Module) -> Pair:
    return Pair(tiny, tiny_torch)


@pytest.fixture(scope="module")
def tied(save_llama: Callable[..., torch.nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("tied")
    model = save_llama(
        folder, seed=1, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, head_dim=16, hidden_act="gelu"
    )
    return Pair(epo_jax.load_model(str(folder), dtype="float32"), model)


TEMPLATES = {
    "no template": None,
    "empty template": epo_jax.Template(bos="never"),
    "BOS": epo_jax.Template(bos="always"),
    "prefix": epo_jax.Template(prefix="The cat", bos="never"),
    "suffix": epo_jax.Template(suffix=" ran away", bos="never"),
    "BOS, prefix and suffix": epo_jax.Template(prefix="The cat", suffix=" ran", bos="always"),
}
PENALTIES = {"0": 0.0, "0.1": 0.1, "1": 1.0, "10": 10.0, "one per row": np.asarray([3.0, 0.1, 10.0, 1.0])}


def sequences(
    lm: epo_jax.LanguageModel, template: epo_jax.Template | None, rows: int = 4
) -> tuple[np.ndarray, int, int]:
    """Random prompts in their template, and where the optimized tokens start and stop."""
    prefix: list[int] = []
    suffix: list[int] = []
    if template is not None:
        bos = [lm.tokenizer.bos_token_id] if template.bos == "always" else []
        prefix = bos + lm.tokenizer.encode(template.prefix, add_special_tokens=False)
        suffix = lm.tokenizer.encode(template.suffix, add_special_tokens=False)
    prompts = np.random.default_rng(0).integers(1, 260, (rows, LENGTH))
    whole = np.concatenate([np.tile(prefix, (rows, 1)), prompts, np.tile(suffix, (rows, 1))], axis=1).astype(np.int32)
    return whole, len(prefix), len(prefix) + LENGTH


def relative(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Norm of the difference over the norm, for each row."""
    rows = (len(expected), -1)
    difference = np.linalg.norm((np.asarray(found) - expected).reshape(rows), axis=1)
    return difference / np.linalg.norm(expected.reshape(rows), axis=1)


@pytest.mark.parametrize(
    ("model", "name", "feature"),
    [
        ("grouped", "no template", NEURON),
        ("grouped", "no template", TOKEN),
        ("grouped", "empty template", NEURON),
        ("grouped", "BOS", NEURON),
        ("grouped", "BOS, prefix and suffix", NEURON),
        ("grouped", "BOS, prefix and suffix", TOKEN),
        ("tied", "no template", NEURON),
        ("tied", "prefix", TOKEN),
        ("tied", "suffix", NEURON),
        ("tied", "BOS, prefix and suffix", TOKEN),
    ],
)
def test_token_gradients_equal_autograd(model: str, name: str, feature: str, request: pytest.FixtureRequest) -> None:
    pair: Pair = request.getfixturevalue(model)
    template = TEMPLATES[name]
    ids, start, stop = sequences(pair.lm, template)
    for penalty in PENALTIES.values():
        found = epo_jax.token_gradients(pair.lm, pair.feature(feature), ids, penalty, template)
        expected = torch_oracle.gradients(pair.model, feature, ids, penalty, start, stop)
        assert found.shape == expected.shape == (4, LENGTH, pair.lm.config.vocab_size)
        assert relative(found, expected).max() < 1e-4


def test_the_first_token_has_an_embedding_side_alone(grouped: Pair) -> None:
    # Without a prefix nothing predicts it, so the penalty reaches it only through the tokens after it.
    ids, start, stop = sequences(grouped.lm, None)
    with_labels = np.asarray(epo_jax.token_gradients(grouped.lm, grouped.feature(NEURON), ids, 1.0))
    without = torch_oracle.gradients(grouped.model, NEURON, ids, 1.0, start, stop, label_side=False)
    np.testing.assert_allclose(with_labels[:, 0], without[:, 0], rtol=0, atol=1e-4)
    assert (np.abs(with_labels[:, 1:] - without[:, 1:]).max(axis=(0, 2)) > 0.1).all()


@pytest.mark.parametrize("name", ["no template", "BOS, prefix and suffix"])
@pytest.mark.parametrize("feature", [NEURON, TOKEN])
def test_gradients_without_the_label_side_are_far_off(name: str, feature: str, grouped: Pair) -> None:
    template = TEMPLATES[name]
    ids, start, stop = sequences(grouped.lm, template)
    for penalty in (1.0, 10.0):
        found = epo_jax.token_gradients(grouped.lm, grouped.feature(feature), ids, penalty, template)
        without = torch_oracle.gradients(grouped.model, feature, ids, penalty, start, stop, label_side=False)
        assert relative(found, without).min() > 0.1


def test_gradients_under_another_rows_penalty_are_far_off(grouped: Pair) -> None:
    ids, start, stop = sequences(grouped.lm, None)
    penalties = PENALTIES["one per row"]
    found = epo_jax.token_gradients(grouped.lm, grouped.feature(NEURON), ids, penalties)
    for shift in (1, 2, 3):
        others = torch_oracle.gradients(grouped.model, NEURON, ids, np.roll(penalties, shift), start, stop)
        assert relative(found, others).min() > 0.1
    mean = torch_oracle.gradients(grouped.model, NEURON, ids, penalties.mean(), start, stop)
    assert relative(found, mean).min() > 0.1


@pytest.mark.parametrize("feature", [NEURON, TOKEN])
def test_gradients_equal_finite_differences_of_the_objective(
    feature: str, tiny_folder: Path, tiny: epo_jax.LanguageModel, tiny_torch: torch.nn.Module
) -> None:
    # In PyTorch's double precision, but for the norms, which transformers computes in float32: hence the tolerance.
    pair = Pair(tiny, type(tiny_torch).from_pretrained(tiny_folder, dtype=torch.float64).eval())
    template = TEMPLATES["BOS, prefix and suffix"]
    ids, start, stop = sequences(pair.lm, template, rows=1)
    penalty, step = 0.7, 1e-3
    found = np.asarray(epo_jax.token_gradients(pair.lm, pair.feature(feature), ids, penalty, template))[0]
    random = np.random.default_rng(1)
    for position in range(LENGTH):
        token = int(random.integers(307))
        both = torch_oracle.one_hot(pair.model, np.repeat(ids, 2, axis=0))
        both[0, start + position, token] += step
        both[1, start + position, token] -= step
        with torch.no_grad():
            value, cross_entropy = torch_oracle.scores(pair.model, feature, both, start, stop, both)
        objective = value - penalty * cross_entropy
        slope = float(objective[0] - objective[1]) / (2 * step)
        assert found[position, token] == pytest.approx(slope, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("feature", ["L10.N5", pytest.param("token 2767", marks=pytest.mark.slow)])
def test_gradients_of_the_embedded_model_equal_autograd(
    feature: str, lm: epo_jax.LanguageModel, torch_lm: torch.nn.Module
) -> None:
    pair = Pair(lm, torch_lm)
    ids = np.random.default_rng(2).integers(20, 40000, (2, 7))
    penalties = np.asarray([3.0, 0.3])
    found = epo_jax.token_gradients(lm, pair.feature(feature), ids, penalties)
    assert relative(found, torch_oracle.gradients(torch_lm, feature, ids, penalties)).max() < 1e-3
    without = torch_oracle.gradients(torch_lm, feature, ids, penalties, label_side=False)
    assert relative(found, without).min() > 0.05
