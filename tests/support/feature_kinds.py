"""Every kind of feature: strings of it for a model, and what they mean in PyTorch. A new kind is one entry here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import feature_functions
import numpy as np
import tiny_saes
import torch
from torch_features import Meaning, Seen

import epo_jax
from epo_jax.features.site_names import site_width
from epo_jax.models.decoder import MLP_OUT, MLP_POST, PATTERN, RESID_MID, RESID_POST, RESID_PRE, Z

SITE_OF = {"pre": RESID_PRE, "mid": RESID_MID, "post": RESID_POST}


@dataclasses.dataclass(frozen=True)
class Example:
    """A feature string and its meaning: [B] of what a run in PyTorch shows."""

    text: str
    meaning: Meaning


@dataclasses.dataclass(frozen=True)
class Place:
    """What strings are made for.

    Attributes:
        lm: the model.
        folder: where they may put files.
        layers: a shallow and a deep one.
    """

    lm: epo_jax.LanguageModel
    folder: Path
    layers: tuple[int, int]

    def random(self, seed: int, *shape: int) -> np.ndarray:
        return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def neuron(layer: int, index: int) -> Example:
    return Example(f"L{layer}.N{index}", lambda seen: seen.at(MLP_POST, layer)[:, index])


def logit(place: Place, text: str) -> Example:
    (token,) = place.lm.tokenizer.encode(text, add_special_tokens=False)

    def meaning(seen: Seen) -> torch.Tensor:
        read = seen.logits[:, seen.read]
        return read[:, token] - torch.cat([read[:, :token], read[:, token + 1 :]], dim=-1).max(dim=-1).values

    return Example(f"logit:{text}", meaning)


def residual(layer: int, stream: str, source: str, direction: np.ndarray) -> Example:
    def meaning(seen: Seen) -> torch.Tensor:
        values = seen.at(SITE_OF[stream or "pre"], layer)
        standard = (values - values.mean(dim=-1, keepdim=True)) / values.std(dim=-1, keepdim=True, correction=1)
        return standard @ torch.from_numpy(direction)

    return Example(f"residual:L{layer}{'.' * bool(stream)}{stream}:{source}", meaning)


def residual_of_seed(place: Place, layer: int, stream: str, seed: int) -> Example:
    direction = np.random.default_rng(seed).standard_normal(place.lm.config.width).astype(np.float32)
    return residual(layer, stream, f"random:{seed}", direction)


def residual_of_file(place: Place, layer: int, stream: str, seed: int) -> Example:
    direction, path = place.random(seed, place.lm.config.width), place.folder / f"direction{seed}.npy"
    np.save(path, direction)
    return residual(layer, stream, str(path), direction)


def attention(layer: int, head: int, position: int) -> Example:
    def meaning(seen: Seen) -> torch.Tensor:
        return seen.at(PATTERN, layer)[:, head, position % (seen.read + 1)]

    return Example(f"attention:L{layer}.H{head}:{position}", meaning)


def probe(place: Place, site: str, layer: int, width: int, bias: float | None) -> Example:
    weights, path = place.random(width + layer, width), place.folder / f"probe{layer}-{width}.npz"
    np.savez(path, weights=weights, **({} if bias is None else {"bias": np.float64(bias)}))

    def meaning(seen: Seen) -> torch.Tensor:
        return seen.at(site, layer).flatten(1) @ torch.from_numpy(weights) + (bias or 0)

    return Example(f"probe:{site.format(l=layer)}:{path}", meaning)


def continuation(text: str) -> Example:
    def meaning(seen: Seen) -> torch.Tensor:
        logs = seen.logits[:, seen.read : -1].log_softmax(dim=-1)
        return logs[:, torch.arange(len(seen.target)), seen.target].mean(dim=1)

    return Example(f"continuation:{text}", meaning)


def latent(place: Place, architecture: str, site: str, layer: int, **config: object) -> Example:
    name, index, width = site.format(l=layer), (4 + layer) % tiny_saes.D_SAE, site_width(site, place.lm.config)
    written = tiny_saes.write(place.folder / f"{architecture}-{name}", architecture, name, width, layer, **config)
    return Example(written.text(index), lambda seen: written.both(seen.at(site, layer))[0][:, index])


def summed(*terms: tuple[float, Example]) -> Example:
    text = "".join(f"{weight:+}*({example.text})" for weight, example in terms)
    return Example(f"sum:{text}", lambda seen: sum(weight * example.meaning(seen) for weight, example in terms))


def negated(example: Example) -> Example:
    return Example(f"-{example.text}", lambda seen: -example.meaning(seen))


def _functions(name: str) -> Callable[[Place], list[Example]]:
    return lambda _: [function(name)]


def function(name: str) -> Example:
    chosen = getattr(feature_functions, name)

    def meaning(seen: Seen) -> torch.Tensor:
        shown = {}
        for full in chosen.sites:
            _, layer, rest = full.split(".", 2)
            values = seen.sites["blocks.{l}." + rest][int(layer)][:, : seen.read + 1]
            shown[full] = values[..., : seen.read + 1] if values.ndim == 4 and "pattern" in full else values
        return torch.stack(
            [chosen({full: values[row] for full, values in shown.items()}) for row in range(len(values))]
        )

    return Example(f"feature_functions:{name}", meaning)


def _continuations(place: Place) -> list[Example]:
    # Three tokens each, of the tokenizers that are used here.
    return [continuation("(a)"), continuation("[b]")]


def _sums(place: Place) -> list[Example]:
    low, high = place.layers
    return [
        summed((0.5, neuron(low, 5)), (-1.0, logit(place, "e"))),
        summed((-1.5, neuron(high, 52)), (0.25, logit(place, "$"))),
    ]


def _probes(site: str) -> Callable[[Place], list[Example]]:
    def make(place: Place) -> list[Example]:
        config, (low, high) = place.lm.config, place.layers
        width = {Z: config.heads * config.head_dim, MLP_POST: config.mlp_width}.get(site, config.width)
        return [probe(place, site, low, width, -0.7), probe(place, site, high, width, None)]

    return make


# The features of a kind differ in traced numbers alone, so that they are dreamed together; functions do not.
KINDS: Mapping[str, Callable[[Place], list[Example]]] = {
    "neuron": lambda place: [neuron(place.layers[0], 5), neuron(place.layers[1], 52)],
    "logit": lambda place: [logit(place, "e"), logit(place, "$")],
    "residual": lambda place: [
        residual_of_file(place, place.layers[0], "post", 2),
        residual_of_seed(place, place.layers[1], "post", 3),
    ],
    "attention": lambda place: [attention(place.layers[0], 1, 1), attention(place.layers[1], 2, -3)],
    "probe": _probes(RESID_POST),
    "sae": lambda place: [
        latent(place, "jumprelu", RESID_POST, layer, normalize_activations="layer_norm") for layer in place.layers
    ],
    "continuation": _continuations,
    "sum": _sums,
    "negated": lambda place: [negated(neuron(place.layers[0], 5)), negated(neuron(place.layers[1], 52))],
    "callable": _functions("mixed"),
}


def variants(place: Place) -> list[Example]:
    """More of the kinds' forms."""
    low, high = place.layers
    return [
        residual_of_seed(place, low, "", 4),
        residual_of_file(place, high, "mid", 6),
        _probes(MLP_POST)(place)[0],
        _probes(Z)(place)[1],
        latent(place, "gated", MLP_OUT, low),
        latent(place, "topk", Z, high, normalize_activations="constant_norm_rescale"),
        negated(summed((2.0, attention(low, 0, 0)), (-3.0, negated(neuron(high, 7))))),
        function("attended"),
    ]


def alone(examples: list[Example], number: int) -> Example:
    """A sum in which one counts once and the others do not: one program serves each of them."""
    return summed(*((float(place == number), example) for place, example in enumerate(examples)))
