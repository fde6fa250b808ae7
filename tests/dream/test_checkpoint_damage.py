"""What happens to checkpoints where files are damaged, disks full, or two runs at one folder."""

from __future__ import annotations

import logging
import os
import shutil
from types import SimpleNamespace

import pytest
from broken_off import HISTORY, broken, gone_on
from orbax.checkpoint import v1

import epo_jax
from epo_jax import EpoError
from epo_jax.dream import checkpoint
from epo_jax.dream.run_lock import RunLock
from epo_jax.dream.saving import Saving

pytestmark = pytest.mark.usefixtures("one_step_at_a_time")


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def test_a_damaged_checkpoint_gives_way_to_an_older_one_and_says_so(tiny, whole, tmp_path, caplog):
    output = broken(tiny, tmp_path / "run", 5)
    there = sorted((output / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    assert len(there) == 2, "the newest ones are kept"
    for path in there[-1].rglob("*"):
        if path.is_file():
            cut(path)
    with caplog.at_level(logging.WARNING):
        broken(tiny, output, 5, checkpoint_every=60)
    assert f"{there[-1]} is damaged" in caplog.text
    begun = []
    gone_on(tiny, output, callback=begun.append)
    assert begun[0].iteration == 6, "another has taken the damaged one's place"
    assert (output / HISTORY).read_bytes() == (whole / HISTORY).read_bytes()


@pytest.mark.parametrize("number", [0, -1])
def test_a_damaged_history_file_gives_way_to_an_older_state_and_says_so(tiny, whole, tmp_path, caplog, number):
    output = broken(tiny, tmp_path / "run", 5)
    file = sorted((output / "checkpoints" / "history").iterdir())[number]
    cut(file)
    told = []
    with caplog.at_level(logging.WARNING):
        gone_on(tiny, output, callback=told.append)
    assert f"{file} is damaged" in caplog.text
    # Every checkpoint counts the first file.
    assert (told[0].iteration == 1) == (number == 0)
    assert ("starts anew" in caplog.text) == (number == 0)
    assert (output / HISTORY).read_bytes() == (whole / HISTORY).read_bytes()


def test_two_runs_in_one_folder_are_refused_and_say_who_is_there(tiny, tmp_path):
    output = broken(tiny, tmp_path / "run", 2)
    lock = RunLock(output)
    with pytest.raises(EpoError, match=f"process {os.getpid()} on "):
        gone_on(tiny, output)
    lock.release()
    assert not gone_on(tiny, output).run.stopped


def history_meets_a_full_disk(output, patch):
    # What is written to this device does, whoever runs the tests.
    for number in range(9):
        (output / "checkpoints" / "history" / f"{number:06d}.chunks.part").symlink_to("/dev/full")


def state_meets_a_full_disk(output, patch):
    patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))


def orbax_fails(output, patch):
    def save(*_):
        raise ValueError("a long account\nof many lines")

    patch.setattr(v1, "save", save)


@pytest.mark.parametrize(
    ("spoil", "told", "first"),
    [
        # There it works again at the end, where what there is is saved once more.
        (history_meets_a_full_disk, "(No space left on device)", 4),
        (state_meets_a_full_disk, "(No space left on device)", 3),
        (orbax_fails, "(a long account of many lines)", 3),
    ],
)
def test_a_checkpoint_that_cannot_be_written_ends_the_run_in_a_line_and_the_older_state_goes_on(
    tiny, whole, tmp_path, monkeypatch, spoil, told, first
):
    output = broken(tiny, tmp_path / "run", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Saving, "save_if_due", Saving.save)

        def spoiling(progress: epo_jax.Progress) -> None:
            if progress.iteration == 3:
                spoil(output, patch)

        with pytest.raises(EpoError) as caught:
            gone_on(tiny, output, checkpoint_every=0, callback=spoiling)
    what = f"--output={output}: a checkpoint could not be written {told}"
    assert str(caught.value) == f"{what}; what was kept before stays, and --resume goes on from it"
    for part in output.rglob("*.part"):
        part.unlink()
    begun = []
    gone_on(tiny, output, callback=begun.append)
    assert begun[0].iteration == first
    assert (output / HISTORY).read_bytes() == (whole / HISTORY).read_bytes()


def test_what_a_checkpoint_counts_is_on_the_disk_before_it_is_and_it_is_before_an_older_one_is_removed(
    tiny, tmp_path, monkeypatch
):
    events = []

    def spy(owner, name, told):
        function = getattr(owner, name)

        def call(*arguments):
            events.append(told(*arguments))
            return function(*arguments)

        monkeypatch.setattr(owner, name, call)

    monkeypatch.setattr(Saving, "save_if_due", Saving.save)
    spy(os, "fsync", lambda file: ("synced", os.readlink(f"/proc/self/fd/{file}")))
    spy(v1, "save", lambda path, _: ("saved", str(path)))
    spy(checkpoint, "remove_checkpoint", lambda folder, number: ("removed", str(folder / str(number))))
    output = broken(tiny, tmp_path / "run", 5, keep_checkpoints=1) / "checkpoints"
    saves = [number for number, (what, _) in enumerate(events) if what == "saved"]
    assert len(saves) == 5
    for last, save, following in zip([0, *saves], saves, [*saves[1:], len(events)], strict=False):
        before, after, path = events[last:save], events[save:following], events[save][1]
        written = next(number for number, (_, file) in enumerate(before) if file.endswith(".chunks.part"))
        assert ("synced", str(output / "history")) in before[written:]
        assert ("synced", f"{path}/state/_METADATA") in after
        named = after.index(("synced", str(output)))
        assert ("synced", path) in after[:named]
        removals = [number for number, (what, _) in enumerate(after) if what == "removed"]
        assert len(removals) == (save != saves[0])
        assert all(number > named for number in removals)
    assert checkpoint.checkpoints(output) == [5]
