"""Time an iteration with and without each constraint, and of it the host's look at texts that are tokenized again.

python scripts/measure_constraints.py --rounds=5

measures the embedded model with the paper's settings (--population=8 --children=32 --length=12), all ways in turns from
the same prompts, and prints a Markdown table: seconds of an iteration (median, least and greatest), against no
constraint, of the retokenizing search the seconds and the share that the host looked at texts, how many children were
looked up for one that was scored, and how many were given up.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Bool, Int32, Integer

import epo_jax
from epo_jax import Constraints, EPOConfig, command_line
from epo_jax.constraints import Survival, checked_step, surviving_prompts
from epo_jax.epo import Algorithm, Info, State

MODEL = flags.DEFINE_string("model", "smollm2-135m", "a model's name, file or folder")
FEATURE = flags.DEFINE_string("feature", "L10.N5", "what to maximize")
POPULATION = flags.DEFINE_integer("population", EPOConfig.population, "slots (P)")
CHILDREN = flags.DEFINE_integer("children", EPOConfig.children, "new prompts per slot in an iteration")
LENGTH = flags.DEFINE_integer("length", EPOConfig.length, "optimized tokens (T)")
ROUNDS = flags.DEFINE_integer("rounds", 5, "iterations of each way, in turns", lower_bound=1)
WAYS = flags.DEFINE_list("ways", [], "which rows of the table; by default all")

PROGRAM = "measure_constraints"
WORDS = tuple(
    "remember remembers remembered memory memories forget forgot forgotten recall recollection mind minds amnesia "
    "mnemonic reminisce".split()
)
EVERY = {
    "none": Constraints(),
    "ascii": Constraints(ascii_only=True),
    "text": Constraints(ban_text=("dog",)),
    "texts": Constraints(ban_text=WORDS),
    "freeze": Constraints(freeze=(0, -1)),
    "reject": Constraints(retokenize="reject"),
    "all": Constraints(ascii_only=True, ban_text=WORDS, freeze=(0, -1), retokenize="reject"),
}
MEANING = {
    "none": "no constraint",
    "ascii": "`--ascii_only`",
    "text": "`--ban_text` of one text",
    "texts": f"`--ban_text` of {len(WORDS)} texts",
    "freeze": "`--freeze=0,-1`",
    "reject": "`--retokenize=reject`",
    "all": f"`--ascii_only`, {len(WORDS)} texts, `--freeze=0,-1`, `--retokenize=reject`",
}


class Timed(Survival):
    """Survival that knows what it took.

    Attributes:
        seconds: that it took.
        asked: prompts that it was asked for.
    """

    seconds = 0.0
    asked = 0

    def of(self, prompts: Integer[np.ndarray, "N T"]) -> Bool[np.ndarray, " N"]:
        """Which prompts survive."""
        start = time.perf_counter()
        found = super().of(prompts)
        self.seconds += time.perf_counter() - start
        self.asked += len(prompts)
        return found


@dataclasses.dataclass
class Way:
    """A search under constraints, and what it took so far.

    Attributes:
        algorithm: the search.
        state: where it is.
        survival: what looks at children; None where nothing does.
        seconds: of each iteration.
        looked: of them, seconds that the host looked at texts.
        asked: children that were looked up.
        scored: children that were scored.
    """

    algorithm: Algorithm
    state: State
    survival: Timed | None
    seconds: list[float] = dataclasses.field(default_factory=list)
    looked: list[float] = dataclasses.field(default_factory=list)
    asked: int = 0
    scored: int = 0

    def iterate(self) -> None:
        """Make one iteration and note what it took."""
        before = (0.0, 0) if self.survival is None else (self.survival.seconds, self.survival.asked)
        start = time.perf_counter()
        self.state, info = self._step()
        jax.block_until_ready(self.state)
        self.seconds.append(time.perf_counter() - start)
        self.scored += int(np.asarray(info.scored).sum())
        if self.survival is not None:
            self.looked.append(self.survival.seconds - before[0])
            self.asked += self.survival.asked - before[1]

    def forget(self) -> None:
        """What was noted so far does not count."""
        self.seconds, self.looked, self.asked, self.scored = [], [], 0, 0

    def _step(self) -> tuple[State, Info]:
        if self.survival is not None:
            return checked_step(self.algorithm, self.survival, self.state)
        return self.algorithm.step(self.state)


def main() -> None:
    """Measure and print."""
    names = WAYS.value or list(EVERY)
    unknown = sorted(set(names) - set(EVERY))
    if unknown:
        raise epo_jax.EpoError(f"--ways={','.join(unknown)}: not one of {', '.join(EVERY)}")
    lm = epo_jax.load_model(MODEL.value)
    feature = epo_jax.parse_feature(FEATURE.value, lm)
    top_k = min(EPOConfig.top_k, lm.config.vocab_size)
    config = EPOConfig(population=POPULATION.value, children=CHILDREN.value, length=LENGTH.value, top_k=top_k)
    ids = start_prompts(lm, feature, config)
    made = {name: way(lm, feature, config, name, ids) for name in names}
    for one in made.values():
        # The first iteration compiles.
        one.iterate()
        one.forget()
    for _ in range(ROUNDS.value):
        for one in made.values():
            one.iterate()
    print(table(made, config.population * config.children))


def start_prompts(lm: epo_jax.LanguageModel, feature: epo_jax.Feature, config: EPOConfig) -> Int32[np.ndarray, "P T"]:
    """Random prompts that satisfy all constraints."""
    asked = dataclasses.replace(EVERY["all"], freeze=())
    algorithm = epo_jax.build(lm, feature, config, constraints=asked)
    return surviving_prompts(algorithm, Survival(lm.tokenizer), jax.random.key(0))


def way(
    lm: epo_jax.LanguageModel, feature: epo_jax.Feature, config: EPOConfig, name: str, ids: Int32[np.ndarray, "P T"]
) -> Way:
    """A search that stands at its start."""
    algorithm = epo_jax.build(lm, feature, config, constraints=EVERY[name])
    survival = Timed(lm.tokenizer) if algorithm.checked else None
    return Way(algorithm, algorithm.init(jax.random.key(0), jnp.asarray(ids)), survival)


def table(made: dict[str, Way], children: int) -> str:
    """The rows as Markdown.

    Args:
        made: what was measured; the first row is what the others are held against.
        children: that an iteration wants.
    """
    first = statistics.median(next(iter(made.values())).seconds)
    lines = [
        "| constraint | iteration, s | least to greatest | against the first | host, s | share | looked up / scored | "
        "given up |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in made.items():
        middle = statistics.median(one.seconds)
        host: Sequence[str] = ("", "", "")
        if one.looked:
            looked = statistics.median(one.looked)
            host = (f"{looked:.4f}", f"{looked / middle:.2%}", f"{one.asked / one.scored:.2f}")
        lost = 1 - one.scored / (children * len(one.seconds))
        cells = (
            *(MEANING[name], f"{middle:.3f}", f"{min(one.seconds):.3f} to {max(one.seconds):.3f}"),
            *(f"{middle / first:.3f}", *host, f"{lost:.2%}"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    command_line.start(main, PROGRAM)
