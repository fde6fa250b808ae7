"""Runs nanoGCG to the end, started by scripts/compare_gcg.py: one JSON object in, one out.

In: source, device, dtype and seed of the model (see torch_model.py), tokenizer, prefix, suffix, target, start, steps,
candidates, top_k, seeds, and `score`, prompts as token ids. Out: for each seed the losses of all steps, their seconds
and the prompt of the least loss, and the losses of the prompts to be scored.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import sys
import time
from typing import Any

import torch
import transformers
from gate import read_task
from torch_model import described, load, synchronizer

BARE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def main() -> None:
    """Load, run every seed, score."""
    task = read_task()
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        package: Any = importlib.import_module("nanogcg.gcg")
        synchronize = synchronizer(task)
        model = load(task)
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(task["tokenizer"])
        tokenizer.chat_template = BARE
        runs = []
        for seed in task["seeds"]:
            gcg = package.GCG(model, tokenizer, _config(package, task))
            begun: list[float] = []
            _time_steps(gcg, begun, synchronize)
            torch.manual_seed(seed)
            found = gcg.run(task["prefix"] + "{optim_str}" + task["suffix"], task["target"])
            synchronize()
            begun.append(time.perf_counter())
            runs.append(
                {
                    "losses": found.losses,
                    "seconds": [after - before for before, after in itertools.pairwise(begun)],
                    "best": found.best_string,
                }
            )
        losses = _losses(gcg, task["score"])
    print(json.dumps({"runs": runs, "losses": losses, **described(model)}), file=answers, flush=True)


def _config(package: Any, task: dict[str, Any]) -> Any:
    return package.GCGConfig(
        num_steps=task["steps"],
        optim_str_init=task["start"],
        search_width=task["candidates"],
        topk=task["top_k"],
        # All candidates are evaluated, as ours are, and any token may be used.
        filter_ids=False,
        allow_non_ascii=True,
        # An empty cache is an error.
        use_prefix_cache=bool(task["prefix"]),
        # With a seed of its own it would run PyTorch's deterministic algorithms, which are slower.
        seed=None,
        verbosity="ERROR",
    )


def _time_steps(gcg: Any, begun: list[float], synchronize: Any) -> None:
    """Note when each step begins, which is with its gradient."""
    gradient = gcg.compute_token_gradient

    def timed(ids: torch.Tensor) -> torch.Tensor:
        synchronize()
        begun.append(time.perf_counter())
        return gradient(ids)

    gcg.compute_token_gradient = timed


def _losses(gcg: Any, prompts: list[list[int]]) -> list[float]:
    ids = torch.tensor(prompts, device=gcg.model.device)
    parts = [gcg.embedding_layer(ids), *(a.repeat(len(ids), 1, 1) for a in (gcg.after_embeds, gcg.target_embeds))]
    if not gcg.prefix_cache:
        parts.insert(0, gcg.before_embeds.repeat(len(ids), 1, 1))
    return [float(loss) for loss in gcg._compute_candidates_loss_original(len(ids), torch.cat(parts, dim=1))]


if __name__ == "__main__":
    main()
