from __future__ import annotations

import json

import pytest

from epo_jax import EpoError
from epo_jax.sweep.batches import Item, Layout
from epo_jax.sweep.folder import check_sweep_folder, opened

FEATURES = ["L0.N1", "L0.N2"]
LAYOUT = Layout((tuple(Item(number, text, 0) for number, text in enumerate(FEATURES)),))
SETTINGS = {"model": "tiny", "children": 8, "seed": [0]}


def never() -> Layout:
    raise AssertionError("divided anew")


def test_a_sweep_is_divided_once_and_gone_on_with_as_it_was(tmp_path):
    assert opened(tmp_path, SETTINGS, FEATURES, lambda: LAYOUT) == LAYOUT
    assert opened(tmp_path, SETTINGS, FEATURES, never) == LAYOUT


@pytest.mark.parametrize(
    ("settings", "features", "told"),
    [
        ({"children": 16}, FEATURES, "children 8 there and 16 here"),
        ({"seed": [0, 1]}, FEATURES, "seed"),
        ({}, ["L0.N1"], "of 2 features where these are 1, and feature number 1 is L0.N2 there and none here"),
        ({}, ["L0.N1", "L0.N9"], "number 1 is L0.N2 there and L0.N9 here"),
    ],
)
def test_another_sweep_in_the_folder_is_refused_with_the_difference(tmp_path, settings, features, told):
    opened(tmp_path, SETTINGS, FEATURES, lambda: LAYOUT)
    with pytest.raises(EpoError, match=told):
        opened(tmp_path, SETTINGS | settings, features, never)


def test_a_division_that_failed_leaves_the_next_one_free_to_try(tmp_path):
    def failing() -> Layout:
        raise EpoError("none of the features")

    with pytest.raises(EpoError, match="none of"):
        opened(tmp_path, SETTINGS, FEATURES, failing)
    assert opened(tmp_path, SETTINGS, FEATURES, lambda: LAYOUT) == LAYOUT


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"settings": {}})])
def test_a_damaged_sweep_file_is_one_line(tmp_path, text):
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(EpoError, match=r"sweep\.json"):
        opened(tmp_path, SETTINGS, FEATURES, never)


def test_folders_that_hold_other_things_are_refused(tmp_path):
    assert check_sweep_folder(tmp_path / "new") == tmp_path / "new"
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(EpoError, match="no sweep"):
        check_sweep_folder(tmp_path)
    with pytest.raises(EpoError, match="is a file"):
        check_sweep_folder(tmp_path / "notes.txt")
