"""Random damage to a file's bytes, the same for each seed."""

from __future__ import annotations

import struct

import numpy as np

# Lengths and offsets that headers lie with.
LIES = (0, 1, 2**16, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63 - 1, 2**64 - 1)
KINDS = ("flips", "insertion", "deletion", "cut", "copy", "lie")


def corrupted(content: bytes, header: int, seed: int) -> bytes:
    """A file with one random damage, every other one in its first bytes.

    Args:
        content: the file.
        header: bytes in which most that can be damaged lies.
        seed: what kind of damage, and where.
    """
    generator = np.random.default_rng(seed)
    kind = KINDS[generator.integers(len(KINDS))]
    place = int(generator.integers(header if generator.integers(2) else len(content)))
    length = int(generator.integers(1, 65))
    if kind == "flips":
        changed = bytearray(content)
        for _ in range(int(generator.integers(1, 9))):
            spot = min(place + int(generator.integers(length)), len(content) - 1)
            changed[spot] ^= int(generator.integers(1, 256))
        return bytes(changed)
    if kind == "insertion":
        return content[:place] + generator.bytes(length) + content[place:]
    if kind == "deletion":
        return content[:place] + content[place + length :]
    if kind == "cut":
        return content[:place]
    if kind == "copy":
        origin = int(generator.integers(len(content) - length))
        return content[:place] + content[origin : origin + length] + content[place + length :]
    lie = struct.pack("<Q", LIES[generator.integers(len(LIES))])[: generator.choice([4, 8])]
    return content[:place] + lie + content[place + len(lie) :]
