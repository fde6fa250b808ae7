from __future__ import annotations

import json

import pytest
import tiny_saes

from epo_jax import EpoError
from epo_jax.sweep import batches as module
from epo_jax.sweep import listed_features
from epo_jax.sweep.batches import Layout, divided, is_about, kinds_of


def names(layout: Layout) -> list[list[tuple[str, int]]]:
    return [[(item.feature, item.seed) for item in batch] for batch in layout.batches]


def test_features_of_one_kind_are_dreamed_together_and_each_is_there_once(tiny):
    features = ["L0.N1", "logit:e", "L2.N5", "attention:L1.H0:0", "logit:a", "L1.N1"]
    layout = divided(features, [0, 7], 4, kinds_of(tiny))
    assert names(layout) == [
        [("L0.N1", 0), ("L0.N1", 7), ("L2.N5", 0), ("L2.N5", 7)],
        [("L1.N1", 0), ("L1.N1", 7)],
        [("logit:e", 0), ("logit:e", 7), ("logit:a", 0), ("logit:a", 7)],
        [("attention:L1.H0:0", 0), ("attention:L1.H0:0", 7)],
    ]
    assert sorted(item.number for batch in layout.batches for item in batch) == list(range(12))
    assert layout == divided(features, [0, 7], 4, kinds_of(tiny))
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_what_is_no_feature_of_the_model_is_set_apart_with_the_reason(tiny):
    layout = divided(["L9.N1", "L0.N1", "nonsense"], [0], 8, kinds_of(tiny))
    assert names(layout) == [[("L0.N1", 0)]]
    assert [one.item.feature for one in layout.unusable] == ["L9.N1", "nonsense"]
    assert "0 to 2" in layout.unusable[0].error
    assert layout.dreams == 3


@pytest.mark.parametrize(
    ("error", "feature", "about"),
    [
        ("--feature=L1.N5: wrong", "L1.N5", True),
        ("--feature=L1.N5: wrong", "L1.N55", False),
        ("--feature=L1.N5: wrong", "-L1.N5", True),
        ("--feature=logit: a: b: wrong", "sum:0.5*(logit: a: b)-1*(L1.N2)", True),
        ("--feature=L1.N2: wrong", "sum:0.5*(logit: a: b)-1*(L1.N2)", True),
        ("--feature=N2: wrong", "sum:0.5*(logit: a: b)-1*(L1.N2)", False),
        ("--output=x: a disk is full; --feature=L1.N5: no", "L1.N5", False),
    ],
)
def test_an_error_is_about_the_feature_that_it_names_or_that_is_made_of_that(error, feature, about):
    assert is_about(error, feature) == about


def test_all_latents_of_an_autoencoder_are_listed_and_only_one_is_read_to_divide_them(tiny, tmp_path, monkeypatch):
    sae = tiny_saes.write(tmp_path / "sae", "standard", "blocks.1.hook_resid_post", 36)
    found = listed_features([f"sae:{sae.folder}:*"])
    assert found == [sae.text(index) for index in range(tiny_saes.D_SAE)]
    assert listed_features([f"-sae:{sae.folder}:3:5"]) == [f"-{sae.text(3)}", f"-{sae.text(4)}"]
    read: list[str] = []
    parse = module.parse_feature
    monkeypatch.setattr(module, "parse_feature", lambda text, lm: read.append(text) or parse(text, lm))
    layout = divided([*found, "L0.N1"], [0], 5, kinds_of(tiny))
    assert [len(batch) for batch in layout.batches] == [5, 5, 3, 1]
    assert len(read) == 2


def test_a_file_has_a_feature_or_a_range_a_line_with_comments_and_spaces_that_count(tmp_path):
    file = tmp_path / "features.txt"
    file.write_text("# neurons\nL1.N0:2\r\n\nlogit: a \n#L5.N5\nL1.N1\n")
    assert listed_features(["L0.N3"], [file]) == ["L0.N3", "L1.N0", "L1.N1", "logit: a "]


@pytest.mark.parametrize(
    ("given", "files", "told"),
    [
        ([], [], "--features: none given"),
        ([], ["/nonexistent"], "--features_file=/nonexistent: cannot be read"),
        (["L1.N5:5"], [], "empty"),
        (["sae:/nonexistent:5:5"], [], "empty"),
        (["sae:/nonexistent:*"], [], "/nonexistent"),
        (["sae:/nonexistent:0:99999999"], [], "at most"),
    ],
)
def test_lists_that_name_nothing_are_refused_in_one_line(given, files, told):
    with pytest.raises(EpoError, match=told):
        listed_features(given, files)
