"""Numbers of a run for TensorBoard and Weights & Biases, read back from where they went."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator

import numpy as np
import pytest
from broken_off import SMALL, broken
from dream_command import QUICK, run
from tensorboardX.proto.event_pb2 import Event

import epo_jax

ITERATIONS = range(SMALL.iterations + 1)


def events(folder) -> Iterator[Event]:
    """All events of a folder's files: length, its checksum, content, its checksum."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:
            size = int.from_bytes(content[:8], "little")
            yield Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]


def scalars(folder) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def running(history: epo_jax.dream.History, fluent: bool = False) -> list[float]:
    """The greatest value up to each iteration."""
    allowed = (history.cross_entropy < 6) | (not fluent)
    return [float(history.feature[allowed & (history.iteration <= n)].max(initial=-np.inf)) for n in ITERATIONS]


def check(found: dict[str, dict[int, float]], result: epo_jax.Result) -> None:
    history = result.history
    assert list(found["best"]) == list(ITERATIONS)
    np.testing.assert_allclose(list(found["best"].values()), running(history), rtol=1e-6)
    fluent = dict(enumerate(running(history, fluent=True)))
    assert found.get("best_below_6_nats", {}) == pytest.approx({n: v for n, v in fluent.items() if v > -np.inf})
    for slot, penalty in enumerate(np.geomspace(SMALL.lambda_min, SMALL.lambda_max, SMALL.population)):
        objective = history.feature - penalty * history.cross_entropy
        for iteration in ITERATIONS:
            seen = np.flatnonzero(history.iteration <= iteration)
            best = seen[objective[seen].argmax()]
            np.testing.assert_allclose(found[f"objective/slot_{slot}"][iteration], objective[best], rtol=1e-4)
            np.testing.assert_allclose(
                found[f"cross_entropy/slot_{slot}"][iteration], history.cross_entropy[best], rtol=1e-6
            )


def test_tensorboard_has_each_iteration_of_a_dream(tiny, tmp_path) -> None:
    with epo_jax.TensorBoard(tmp_path / "logs") as board:
        result = epo_jax.dream(tiny, "L1.N5", SMALL, seed=4, callback=board)
    found = scalars(tmp_path / "logs")
    check(found, result)
    assert max(found["candidates_per_second"]) == SMALL.iterations


def test_several_dreams_have_a_folder_each(tiny, tmp_path) -> None:
    with epo_jax.TensorBoard(tmp_path, names=["first", "second"]) as board:
        results = epo_jax.dream(tiny, ["L1.N5", "L2.N7"], SMALL, seed=4, callback=board, scale=2.0)
    for name, result in zip(("first", "second"), results, strict=True):
        found = scalars(tmp_path / name)
        np.testing.assert_allclose(list(found["best"].values()), running(result.history), rtol=1e-6)
        # Penalties count in units of the feature's scale.
        objective = result.history.feature - 2 * SMALL.lambda_max * result.history.cross_entropy
        np.testing.assert_allclose(found["objective/slot_2"][SMALL.iterations], objective.max(), rtol=1e-4)


@pytest.mark.usefixtures("one_step_at_a_time")
def test_a_run_that_is_gone_on_with_is_told_whole(tiny, tmp_path) -> None:
    broken(tiny, tmp_path / "run", 3)
    with epo_jax.TensorBoard(tmp_path / "logs") as board:
        result = epo_jax.dream(
            tiny, "L1.N5", SMALL, seed=4, output=tmp_path / "run", resume=True, report=False, callback=board
        )
    check(scalars(tmp_path / "logs"), result)


class FakeRun:
    def __init__(self) -> None:
        self.logged: dict[int, dict[str, float]] = {}
        self.finished = False

    def log(self, values: dict[str, float], step: int) -> None:
        # Weights & Biases takes steps in ascending order alone.
        assert step >= max(self.logged, default=0)
        self.logged.setdefault(step, {}).update(values)

    def finish(self) -> None:
        self.finished = True


@pytest.fixture
def wandb(monkeypatch) -> types.ModuleType:
    """A module in the place of wandb, with the runs that were begun."""
    module = types.ModuleType("wandb")
    module.Error = type("Error", (Exception,), {})
    module.runs, module.asked = [], []

    def init(**asked: object) -> FakeRun:
        module.asked.append(asked)
        module.runs.append(FakeRun())
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_weights_and_biases_has_each_iteration_under_the_dreams_names(tiny, wandb) -> None:
    with epo_jax.WeightsAndBiases("project", names=["first", "second"], config={"model": "tiny"}) as board:
        results = epo_jax.dream(tiny, ["L1.N5", "L2.N7"], SMALL, seed=4, callback=board)
    assert wandb.asked == [{"project": "project", "config": {"model": "tiny"}}]
    (made,) = wandb.runs
    assert made.finished
    assert list(made.logged) == list(ITERATIONS)
    for name, result in zip(("first", "second"), results, strict=True):
        np.testing.assert_allclose(
            [values[f"{name}/best"] for values in made.logged.values()], running(result.history), rtol=1e-6
        )


def test_weights_and_biases_that_cannot_begin_is_told_in_a_line(wandb, monkeypatch) -> None:
    def refuse(**_: object) -> None:
        raise wandb.Error("no key\nlog in")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(epo_jax.EpoError, match=r"^--wandb=project: cannot begin a run \(no key log in\)$"):
        epo_jax.WeightsAndBiases("project")


def test_the_command_writes_both(tiny_folder, wandb, tmp_path) -> None:
    given = [f"--model={tiny_folder}", "--feature=L1.N5", "--seed=0:2", *QUICK, f"--output={tmp_path / 'run'}"]
    assert run(*given, "--noattribution", f"--tensorboard={tmp_path / 'logs'}", "--wandb=project") == 0
    assert set(scalars(tmp_path / "logs" / "L1.N5-seed1")["best"]) == {0, 1, 2}
    assert "L1.N5-seed0/best" in wandb.runs[0].logged[2]
    assert wandb.runs[0].finished
    assert wandb.asked[0]["config"]["population"] == 2


@pytest.mark.parametrize(("flag", "package"), [("--tensorboard=logs", "tensorboardX"), ("--wandb=project", "wandb")])
def test_a_package_that_is_not_there_is_named_with_what_installs_it(
    tiny_folder, tmp_path, monkeypatch, capsys, flag, package
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    given = [f"--model={tiny_folder}", *QUICK, f"--output={tmp_path / 'run'}"]
    assert run(*given, flag) == 2
    told = capsys.readouterr().err
    assert f"pip install {package}" in told
    assert flag.partition("=")[0] in told
    assert "Traceback" not in told
    assert not (tmp_path / "run").exists()
