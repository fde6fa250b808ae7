"""Run as a script by each of several processes: python together.py WHAT, with the flags of a job of processes."""

from __future__ import annotations

import math
import os
import sys

import jax
import numpy as np
import pytest
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec

from epo_jax import EpoError
from epo_jax.dream import process_flags
from epo_jax.parallel import make_mesh, processes
from epo_jax.parallel.placing import fetched, placed

SEED = flags.DEFINE_integer("seed", 0, "must be the same on every process")


def exchange() -> None:
    """Agree on values of all sizes, and see one array from everywhere."""
    count, me = processes.count(), processes.index()
    assert processes.gathered([me, math.inf, 0.1]) == [[number, math.inf, 0.1] for number in range(count)]
    assert processes.agreed({"first": me}) == {"first": 0}
    mine = os.urandom(3 * processes.PIECE + 5)
    theirs = processes.agreed_bytes(mine)
    assert len(theirs) == len(mine)
    assert (theirs == mine) == processes.is_writer()
    assert processes.on_writer(lambda: me + 7) == 7

    def refuse() -> str:
        raise EpoError("--output=here: is a file")

    with pytest.raises(EpoError, match="is a file"):
        processes.on_writer(refuse)
    mesh = make_mesh("auto")
    whole = np.arange(4 * jax.device_count(), dtype=np.float32)
    with jax.transfer_guard("disallow"):
        parts = placed(whole, NamedSharding(mesh, PartitionSpec("data")))
        assert not parts.is_fully_addressable
        assert np.array_equal(fetched(parts), whole)
    key = placed(jax.random.split(jax.random.key(3), 2), NamedSharding(mesh, PartitionSpec()))
    assert np.array_equal(
        fetched(jax.random.key_data(key)), jax.random.key_data(jax.random.split(jax.random.key(3), 2))
    )
    print("agreed", flush=True)


def endless() -> None:
    """Add over all devices again and again."""
    mesh = make_mesh("auto")
    parts = placed(np.ones(jax.device_count(), np.float32), NamedSharding(mesh, PartitionSpec("data")))
    add = jax.jit(lambda x: x.sum())
    number = 0
    while True:
        float(add(parts))
        number += 1
        if number == 5:
            print("running", flush=True)


def main(what: str) -> None:
    """Do what was asked for."""
    if what == "refused" and processes.index() == 1:
        raise EpoError("--model=m: no such file")
    {"exchange": exchange, "endless": endless, "refused": lambda: processes.barrier("never")}[what]()


if __name__ == "__main__":
    _, what = flags.FLAGS(sys.argv)
    if what == "apart":
        flags.FLAGS["seed"].parse(str(process_flags.PROCESS_ID.value))
        flags.FLAGS["seed"].using_default_value = False
    with process_flags.joined("together"):
        main(what)
