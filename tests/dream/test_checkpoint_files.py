"""A checkpoint on a disk that cannot be trusted."""

from __future__ import annotations

import gc
import os
import shutil

import numpy as np
import pytest

from epo_jax.dream import checkpoint
from epo_jax.dream.history_files import DamagedError


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def change(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_checkpoint_with_any_file_cut_changed_or_gone_is_refused_or_what_it_was(tmp_path, monkeypatch):
    # It only tidies what is said, and takes its time.
    monkeypatch.setattr(gc, "collect", lambda: 0)
    arrays = {"ids": np.arange(60, dtype=np.int32).reshape(1, 3, 20), "feature": np.linspace(0, 1, 3, dtype=np.float32)}
    checkpoint.save_checkpoint(tmp_path, 7, arrays, {"files": 2}, keep=1)
    (tmp_path / "7").rename(tmp_path / "saved")
    files = [path.relative_to(tmp_path / "saved") for path in (tmp_path / "saved").rglob("*") if path.is_file()]
    refused = set()
    for file in files:
        for spoil in (cut, change, os.remove):
            shutil.copytree(tmp_path / "saved", tmp_path / "7")
            if (tmp_path / "7" / file).stat().st_size or spoil is os.remove:
                spoil(tmp_path / "7" / file)
            try:
                state, told = checkpoint.load_checkpoint(tmp_path, 7)
            except DamagedError:
                refused.add(spoil)
            else:
                assert told == {"files": 2}
                assert state.keys() == arrays.keys()
                assert all(np.array_equal(state[name], arrays[name]) for name in arrays)
            shutil.rmtree(tmp_path / "7")
    assert len(files) > 3
    assert refused == {cut, change, os.remove}
    # Whole files that do not belong together.
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_checksum", lambda _: 1)
        checkpoint.save_checkpoint(tmp_path, 8, arrays, {"files": 2}, keep=1)
    with pytest.raises(DamagedError, match="its checksum is another"):
        checkpoint.load_checkpoint(tmp_path, 8)
