"""Times nanoGCG's own steps, started by scripts/benchmark.py; the protocol is in gate.py.

Its objective is the loss of a target text, so only the time can be compared: one prompt, as many candidates in a step
as ours scores in an iteration, all of them evaluated (no filter for retokenization) and in one batch.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from typing import Any

import torch
import transformers
from gate import Gate, read_task
from torch_model import described, load, synchronizer

BARE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


class EndOfInputError(Exception):
    """No more steps are asked for; nanoGCG's loop has no other way out before its last step."""


def main() -> None:
    """Load, and make steps when asked to."""
    task = read_task()
    answers = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        package: Any = importlib.import_module("nanogcg.gcg")
        synchronize = synchronizer(task)
        model = load(task)
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(task["tokenizer"])
        tokenizer.chat_template = BARE
        config = package.GCGConfig(
            num_steps=sys.maxsize,
            optim_str_init=task["start"],
            search_width=task["candidates"],
            topk=task["top_k"],
            filter_ids=False,
            allow_non_ascii=True,
            # Nothing stands before the optimized text, and an empty cache is an error.
            use_prefix_cache=False,
            # With a seed of its own it would run PyTorch's deterministic algorithms, which are slower.
            seed=None,
            verbosity="ERROR",
        )
        gcg = package.GCG(model, tokenizer, config)
        gate = Gate(sys.stdin, answers, synchronize)
        gradient = gcg.compute_token_gradient
        begun: list[float] = []

        def gated(ids: torch.Tensor) -> torch.Tensor:
            # A step begins with its gradient. The first two are made unasked, to warm up and to tell the speed.
            if len(begun) < 3:
                synchronize()
                begun.append(time.perf_counter())
                if len(begun) == 3:
                    gate.answer(seconds=begun[2] - begun[1], **described(model))
            if len(begun) == 3 and not gate.passes():
                raise EndOfInputError
            return gradient(ids)

        gcg.compute_token_gradient = gated
        with contextlib.suppress(EndOfInputError):
            gcg.run("{optim_str}", task["target"])


if __name__ == "__main__":
    main()
