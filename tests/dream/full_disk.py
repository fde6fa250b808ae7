"""Run as a script where it may mount: a run whose disk gets full, then cannot be written, and at last is as it should.

python full_disk.py MODEL ends with exit code 0 if all was as expected.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import epo_jax
from epo_jax.dream import checkpoint
from epo_jax.dream.saving import Saving

DISK = Path("/mnt")
CONFIG = epo_jax.EPOConfig(iterations=300, population=3, children=4, length=5, top_k=40)


def mount(*words: str) -> None:
    """Mount a disk in memory, or mount it again in another way."""
    subprocess.run(["mount", *words, "tmpfs", str(DISK)], check=True)


def main(model: str) -> None:
    """Dream until the disk is full, try again where it cannot be written, and go on."""
    lm = epo_jax.load_model(model, dtype="float32")
    # As often as can be, and without a look at the room there is: the disk gets full in the middle of a checkpoint.
    Saving.save_if_due = Saving.save
    checkpoint.ROOM = 0

    def dream(output: Path | None, resume: bool = True) -> tuple[epo_jax.Result | str, int]:
        told: list[int] = []
        try:
            made = epo_jax.dream(
                lm,
                "L1.N5",
                CONFIG,
                output=output,
                resume=resume,
                report=False,
                attribution=False,
                continuation=False,
                callback=lambda progress: told.append(progress.iteration),
            )
        except epo_jax.EpoError as error:
            return str(error), told[0] if told else 0
        return made, told[0]

    whole, _ = dream(None, resume=False)
    assert isinstance(whole, epo_jax.Result)
    mount("-t", "tmpfs", "-o", "size=300k")
    output = DISK / "run"
    full, _ = dream(output)
    assert isinstance(full, str)
    assert full.startswith(f"--output={output}: a checkpoint could not be written (No space left on device)"), full
    assert "\n" not in full
    mount("-o", "remount,ro")
    refused, _ = dream(output)
    assert isinstance(refused, str)
    assert refused.startswith(f"--output={output}: cannot be written ("), refused
    assert "Read-only file system" in refused, refused
    mount("-o", "remount,rw,size=64m")
    made, first = dream(output)
    assert isinstance(made, epo_jax.Result), made
    assert first > 1, "it went on"
    for name in ("ids", "feature", "cross_entropy", "iteration"):
        assert getattr(made.history, name).tobytes() == getattr(whole.history, name).tobytes(), name


if __name__ == "__main__":
    main(sys.argv[1])
