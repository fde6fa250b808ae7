from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from epo_jax.sweep import claims as module
from epo_jax.sweep.claims import Claims


def age(path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def foreign(path) -> None:
    """Make a claim that of a process on another machine, of which nothing else is known."""
    path.write_text(json.dumps({"process": "other", "host": "elsewhere"}))


def test_of_many_claimants_at_once_one_wins(tmp_path):
    everybody = [Claims(tmp_path) for _ in range(16)]
    with ThreadPoolExecutor(16) as threads:
        for name in map(str, range(30)):
            won = [claim for claim in threads.map(lambda one, name=name: one.take(name), everybody) if claim]
            assert len(won) == 1


def test_a_stale_claim_is_taken_over_by_one_of_many_and_its_owner_has_lost_it(tmp_path):
    old = Claims(tmp_path).take("000001")
    foreign(old.path)
    everybody = [Claims(tmp_path) for _ in range(16)]
    assert not any(one.take("000001") for one in everybody), "its owner may still be at work"
    assert not old.lost
    age(old.path, module.STALE_AFTER + 5)
    with ThreadPoolExecutor(16) as threads:
        won = [claim for claim in threads.map(lambda one: one.take("000001"), everybody) if claim]
    assert len(won) == 1
    assert old.lost
    assert not won[0].lost


def test_a_claim_is_kept_alive_while_it_is_held_and_no_longer(tmp_path):
    claim = Claims(tmp_path, seconds_per_beat=0.02).take("000001")
    foreign(claim.path)
    age(claim.path, 1000)
    with claim:
        time.sleep(0.3)
        assert time.time() - claim.path.stat().st_mtime < 10
    age(claim.path, 1000)
    time.sleep(0.1)
    assert time.time() - claim.path.stat().st_mtime > 900


def test_what_is_given_back_can_be_taken_at_once_and_what_is_cleared_starts_anew(tmp_path):
    first, second = Claims(tmp_path), Claims(tmp_path)
    claim = first.take("000001")
    assert second.take("000001") is None
    first.release(claim)
    again = second.take("000001")
    assert again is not None
    assert first.take("000001") is None
    second.clear("000001")
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_was_lost_is_not_given_back_over_who_has_it(tmp_path):
    first, second = Claims(tmp_path), Claims(tmp_path)
    old = first.take("000001")
    foreign(old.path)
    age(old.path, 1000)
    new = second.take("000001")
    first.release(old)
    assert Claims(tmp_path).take("000001") is None
    assert not new.lost


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="other systems do not tell which processes there are")
def test_the_claim_of_a_process_of_this_machine_is_free_as_soon_as_that_has_ended(tmp_path):
    claim = Claims(tmp_path).take("000001")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        told = {"process": "other", "machine": module._this_process()["machine"], "pid": other.pid}
        claim.path.write_text(json.dumps(told | {"began": module._began(other.pid)}))
        assert Claims(tmp_path).take("000001") is None
        other.kill()
    assert Claims(tmp_path).take("000001") is not None
    # A number that another process has now.
    claim = Claims(tmp_path).take("000002")
    claim.path.write_text(json.dumps(told | {"pid": os.getpid(), "began": "1"}))
    assert Claims(tmp_path).take("000002") is not None


def test_a_claim_that_was_cut_off_while_it_was_written_frees_its_work_after_a_while(tmp_path):
    (tmp_path / "000001.0").write_text('{"proc')
    assert Claims(tmp_path).take("000001") is None
    age(tmp_path / "000001.0", 1000)
    assert Claims(tmp_path).take("000001") is not None
