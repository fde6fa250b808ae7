"""A scan keeps what a brute-force look at every position finds, wherever it was broken off."""

from __future__ import annotations

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import epo_jax
from epo_jax import EpoError
from epo_jax.corpus import Document, ScanConfig, load_scan, neurons_of, others_of, rescore, scan
from epo_jax.corpus.windows import windows_of
from epo_jax.models.decoder import MLP_POST, Observer
from epo_jax.scoring.template import Template, frozen_tokens

CONFIG = ScanConfig(length=4, context=10, keep=5, batch=3, save_every=0)


@pytest.fixture(scope="module")
def documents(tiny):
    """Texts whose lengths are shorter than a dream, than a window, and longer than several."""
    rng = np.random.default_rng(0)
    texts = [tiny.tokenizer.decode(rng.integers(5, 90, size)) for size in (40, 3, 9, 25, 1, 31)]
    return [Document(f"text{number}", text) for number, text in enumerate(texts)]


def groups(lm):
    names = ("logit: dog", "L1.N5")
    features = [epo_jax.parse_feature(name, lm) for name in names if name[0] != "l"]
    token = int(lm.tokenizer.encode("a", add_special_tokens=False)[0])
    text = lm.tokenizer.decode([token])
    features += [epo_jax.parse_feature(f"logit:{text}", lm)]
    return [neurons_of(lm, [0, 1]), *others_of(features)]


@pytest.fixture(scope="module")
def folder(tiny, documents, tmp_path_factory):
    output = scan(tiny, documents, groups(tiny), tmp_path_factory.mktemp("scan") / "whole", CONFIG)
    rescore(tiny, groups(tiny), output, batch=7)
    return output


def brute_force(lm, documents):
    """For each window the activations [S, F] of the neurons of layer 1, one window at a time."""
    decoder = nnx.merge(lm.graphdef, lm.params)
    prefix = frozen_tokens(lm, Template()).prefix
    found = []
    for window in windows_of(documents, lm.tokenizer, CONFIG.context, CONFIG.length, lm.config.vocab_size):
        ids = jnp.asarray(np.concatenate([prefix, window.ids]))[None]
        observer = Observer((MLP_POST,), lambda kept, _site, layer, value: jnp.where(layer == 1, value, kept))
        kept = jnp.zeros((1, ids.shape[1], lm.config.mlp_width), jnp.float32)
        _, kept, _ = decoder(decoder.embed(ids), observer, kept)
        found.append((window, np.asarray(kept)[0, len(prefix) :]))
    return found


def test_every_neuron_keeps_the_best_positions_that_a_brute_force_look_finds(tiny, documents, folder):
    found, each = load_scan(folder), brute_force(tiny, documents)
    start = CONFIG.length - 1
    best = np.stack([values[start:].max(axis=0) for _, values in each])
    order = np.argsort(-best, axis=0, kind="stable")[: CONFIG.keep]
    for neuron in range(tiny.config.mlp_width):
        examples = found.examples(f"L1.N{neuron}")
        np.testing.assert_allclose(examples.activation, best[order[:, neuron], neuron], rtol=1e-5, atol=1e-6)
        window, values = each[order[0, neuron]]
        assert examples.place[0] == window.start + start + values[start:, neuron].argmax()
        assert examples.document[0] == window.document
    assert found.positions == sum(len(values) - start for _, values in each)


def test_each_token_is_read_once_with_the_tokens_of_a_dream_before_it(tiny, documents):
    windows = list(windows_of(documents, tiny.tokenizer, CONFIG.context, CONFIG.length, tiny.config.vocab_size))
    for document in documents:
        size = len(tiny.tokenizer.encode(document.text, add_special_tokens=False))
        own = [w for w in windows if w.document == document.name]
        read = [w.start + at for w in own for at in range(CONFIG.length - 1, len(w.ids))]
        assert read == list(range(CONFIG.length - 1, size))


def test_one_feature_alone_and_among_all_of_its_layer_is_read_alike(folder, tiny, documents, tmp_path):
    alone = scan(tiny, documents, others_of([epo_jax.parse_feature("L1.N5", tiny)]), tmp_path / "one", CONFIG)
    one, all_ = load_scan(alone).examples("L1.N5"), load_scan(folder).examples("L1.N5")
    np.testing.assert_allclose(one.activation, all_.activation, rtol=1e-6)
    np.testing.assert_array_equal(one.place, all_.place)
    np.testing.assert_array_equal(one.histogram, all_.histogram)


def test_isolated_hits_are_scored_as_dreams_are(folder, tiny):
    found = load_scan(folder)
    for name in (found.features[3], "L1.N5", found.features[-1]):
        examples = found.examples(name)
        scores = epo_jax.score(tiny, epo_jax.parse_feature(name, tiny), examples.ids)
        np.testing.assert_allclose(examples.isolated_activation, scores.feature, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(examples.isolated_cross_entropy, scores.cross_entropy, rtol=1e-5)


def test_scoring_other_features_by_themselves_keeps_those_that_were(folder, tiny, documents, tmp_path):
    output = scan(tiny, documents, groups(tiny), tmp_path / "run", CONFIG)
    for name in ("L1.N5", "L0.N2"):
        rescore(tiny, groups(tiny), output, [name])
    found, whole = load_scan(output), load_scan(folder)
    assert found.examples("L0.N1").isolated_activation is None
    for name in ("L1.N5", "L0.N2"):
        one, other = found.examples(name), whole.examples(name)
        np.testing.assert_allclose(one.isolated_activation, other.isolated_activation, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.isolated_cross_entropy, other.isolated_cross_entropy, rtol=1e-5)


def test_other_weights_under_one_name_are_refused(tiny, documents, tmp_path):
    scan(tiny, documents, groups(tiny), tmp_path / "run", CONFIG)
    other = dataclasses.replace(tiny, params=jax.tree.map(lambda leaf: leaf * 1.01, tiny.params))
    with pytest.raises(EpoError, match="weights="):
        scan(other, documents, groups(tiny), tmp_path / "run", CONFIG)


def test_a_logit_is_the_tokens_above_the_largest_other_one_at_each_hit(folder, tiny):
    found = load_scan(folder)
    name = found.features[-1]
    assert name.startswith("logit:")
    examples = found.examples(name)
    assert np.all(np.diff(examples.activation) <= 0)
    first = examples.context[0][: examples.position[0] + 1][None]
    whole = epo_jax.score(tiny, epo_jax.parse_feature(name, tiny), first)
    np.testing.assert_allclose(examples.activation[0], whole.feature[0], rtol=1e-5, atol=1e-5)


class StopError(Exception):
    """What a callback raises."""


@pytest.mark.parametrize("after", [1, 3])
def test_a_scan_that_is_broken_off_goes_on_to_the_same_hits(folder, tiny, documents, tmp_path, after):
    told = []

    def stop(progress):
        told.append(progress)
        if len(told) == after:
            raise StopError

    with pytest.raises(StopError):
        scan(tiny, documents, groups(tiny), tmp_path / "run", CONFIG, callback=stop)
    # What was added behind the last saving is cut off.
    with (tmp_path / "run" / "windows.jsonl").open("ab") as file:
        file.write(b'["half a l')
    with (tmp_path / "run" / "tokens.bin").open("ab") as file:
        file.write(b"123")
    scan(tiny, documents, groups(tiny), tmp_path / "run", CONFIG)
    for name in ("windows.jsonl", "tokens.bin"):
        assert (tmp_path / "run" / name).read_bytes() == (folder / name).read_bytes()
    one, other = load_scan(tmp_path / "run"), load_scan(folder)
    assert one.tokens == other.tokens
    for name in ("L0.N0", "L1.N5", other.features[-1]):
        np.testing.assert_array_equal(one.examples(name).activation, other.examples(name).activation)
        np.testing.assert_array_equal(one.examples(name).histogram, other.examples(name).histogram)


def test_another_corpus_other_settings_and_other_features_are_refused(folder, tiny, documents, tmp_path):
    output = tmp_path / "run"
    with pytest.raises(StopError):
        scan(tiny, documents, groups(tiny), output, CONFIG, callback=lambda _: (_ for _ in ()).throw(StopError))
    changed = [Document(documents[0].name, documents[0].text[::-1]), *documents[1:]]
    with pytest.raises(EpoError, match="another corpus, which differs in window 0"):
        scan(tiny, changed, groups(tiny), output, CONFIG)
    with pytest.raises(EpoError, match=r"context=10.*context=11"):
        scan(tiny, documents, groups(tiny), output, ScanConfig(4, 11, 5, 3))
    with pytest.raises(EpoError, match=r"--output=.*features="):
        scan(tiny, documents, groups(tiny)[:1], output, CONFIG)
    settings = json.loads((output / "scan.json").read_text())
    assert settings["context"] == CONFIG.context


def test_two_scans_of_one_folder_at_a_time_are_refused(tiny, documents, tmp_path):
    def another(_):
        scan(tiny, documents, groups(tiny), tmp_path / "run", CONFIG)

    with pytest.raises(EpoError, match="another process scans into it"):
        scan(tiny, documents, groups(tiny), tmp_path / "run", CONFIG, callback=another)


def test_what_cannot_be_scanned_is_told_in_a_line(tiny, documents, tmp_path):
    with pytest.raises(EpoError, match="no document has the 4 tokens"):
        scan(tiny, [documents[4]], groups(tiny), tmp_path / "short", CONFIG)
    with pytest.raises(EpoError, match="--context=3: is less than --length=4"):
        scan(tiny, documents, groups(tiny), tmp_path / "less", ScanConfig(4, 3))
    with pytest.raises(EpoError, match="no layer 99"):
        neurons_of(tiny, [99])
    with pytest.raises(EpoError, match="reads a position of the prompt"):
        others_of([epo_jax.parse_feature("attention:L0.H0:0", tiny)])
    with pytest.raises(EpoError, match="holds no scan"):
        load_scan(tmp_path / "nowhere")
