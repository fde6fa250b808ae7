"""Times dreamy's own loop, `dreamy.epo.epo`, started by scripts/benchmark.py; the protocol is in gate.py.

Nothing of the loop is changed: its callback, which it calls at the start of each iteration, is where the clock is read.
So an iteration is what lies between two calls: children, their evaluation, selection, and gradients of the new members.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from gate import Gate, read_task
from torch_model import described, load, synchronizer

# Paths of the modules whose input are a block's neurons, by model type.
DOWN_PROJECTIONS = {"gpt_neox": "gpt_neox.layers.{l}.mlp.dense_4h_to_h", "llama": "model.layers.{l}.mlp.down_proj"}
# Batch sizes take turns as well, so that a moment of a busy machine does not choose among them.
ROUNDS_OF_CHOICE = 2

Runner = Callable[..., dict[str, torch.Tensor]]


def neuron_runner(model: transformers.PreTrainedModel, layer: int, neuron: int) -> Runner:
    """Runs the model and takes a neuron's activation at the last token: dreamy's runner, for more families."""
    family = model.config.model_type
    if family not in DOWN_PROJECTIONS:
        sys.exit(f"neurons are known of {', '.join(DOWN_PROJECTIONS)}, and this model is a {family}")
    module = model.get_submodule(DOWN_PROJECTIONS[family].format(l=layer))

    def run(**inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        seen: dict[str, torch.Tensor] = {}

        def keep(_module: torch.nn.Module, values: tuple[torch.Tensor, ...]) -> None:
            seen["target"] = values[0][:, -1, neuron]

        handle = module.register_forward_pre_hook(keep)
        try:
            logits = model(**inputs).logits
        finally:
            handle.remove()
        return {"logits": logits, **seen}

    return run


def logit_runner(model: transformers.PreTrainedModel, token: int) -> Runner:
    """Runs the model and takes a token's logit at the last token above the largest other one."""

    def run(**inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        logits = model(**inputs).logits
        # The largest other one is among the two largest, which are far cheaper to find than a copy without the token.
        best = logits[:, -1].topk(2, dim=-1)
        others = torch.where(best.indices[:, 0] == token, best.values[:, 1], best.values[:, 0])
        return {"logits": logits, "target": logits[:, -1, token] - others}

    return run


def search(
    task: dict[str, Any], model: transformers.PreTrainedModel, runner: Runner, batch: int, callback: Callable[..., Any]
) -> None:
    """Dreamy's loop, from the given prompts until the callback ends it."""
    importlib.import_module("dreamy.epo").epo(
        runner,
        model,
        None,  # the tokenizer, which draws prompts and prints them, and neither is asked for
        seq_len=task["length"],
        population_size=task["population"],
        iters=sys.maxsize,
        explore_per_pop=task["children"],
        batch_size=batch,
        topk=task["top_k"],
        x_penalty_min=task["lambda_min"],
        x_penalty_max=task["lambda_max"],
        restart_frequency=task["restart_every"] or sys.maxsize,
        seed=task["seed"],
        initial_ids=torch.tensor(task["ids"]),
        callback=callback,
    )


def seconds_of_one(
    task: dict[str, Any],
    model: transformers.PreTrainedModel,
    runner: Runner,
    batch: int,
    synchronize: Callable[[], None],
) -> float:
    """Seconds of the second iteration under a batch size; infinite where the device's memory is too small for it."""
    times: list[float] = []

    def callback(*_state: Any, **_final: Any) -> bool:
        synchronize()
        times.append(time.perf_counter())
        return len(times) == 3

    try:
        search(task, model, runner, batch, callback)
    except torch.OutOfMemoryError:
        return math.inf
    return times[2] - times[1]


def main() -> None:
    """Load, choose the batch size, and make iterations when asked to."""
    task = read_task()
    answers = sys.stdout
    # dreamy prints its restarts, and standard output is for answers.
    with contextlib.redirect_stdout(sys.stderr):
        sys.path.insert(0, task["folder"])
        synchronize = synchronizer(task)
        model = load(task)
        feature: dict[str, int] = task["feature"]
        runner = logit_runner(model, **feature) if "token" in feature else neuron_runner(model, **feature)
        tried = dict.fromkeys(task["batches"], math.inf)
        for batch in list(tried) * ROUNDS_OF_CHOICE:
            tried[batch] = min(tried[batch], seconds_of_one(task, model, runner, batch, synchronize))
        batch = min(tried, key=lambda size: tried[size])
        if math.isinf(tried[batch]):
            sys.exit(f"no batch size out of {', '.join(map(str, tried))} fits into the GPU's memory")
        ids = torch.tensor(task["ids"], device=task["device"])
        with torch.no_grad():
            scores = importlib.import_module("dreamy.epo").evaluate_fitness(model, runner, ids, batch)
        gate = Gate(sys.stdin, answers, synchronize)
        gate.answer(
            seconds=tried[batch],
            batch=batch,
            tried={str(size): seconds for size, seconds in tried.items() if math.isfinite(seconds)},
            feature=scores.target.tolist(),
            cross_entropy=scores.xentropy.tolist(),
            **described(model),
        )
        search(task, model, runner, batch, lambda *_state, final=False: not final and not gate.passes())


if __name__ == "__main__":
    main()
