"""The flags of the paper's experiments: how large they are, where they go, and all those of a search."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from matplotlib.figure import Figure
from rich.console import Console

from epo_jax import LanguageModel, command_line
from epo_jax.compilation_cache import use_compilation_cache
from epo_jax.config import PRESETS, EPOConfig
from epo_jax.dream import process_flags, search_flags
from epo_jax.dream.preemption import EXIT_CODE, TerminatedError, terminable
from epo_jax.dream.ranges import expand_seeds
from epo_jax.errors import EpoError
from epo_jax.parallel import make_mesh, processes
from epo_jax.parallel.mesh import AUTO
from epo_jax.report.saved_figure import write_figure
from epo_jax.scoring.template import Template
from epo_jax.sweep import SweepLive, sweep
from epo_jax.whole_files import write_whole

SMALL, PAPER = "small", "paper"
RUNS = "runs"
INTERRUPTED = 130

SIZE = flags.DEFINE_enum(
    "size", SMALL, [SMALL, PAPER], "small: minutes on a CPU; paper: the paper's settings, and as many dreams as it had"
)
OUTPUT = flags.DEFINE_string("output", None, "folder of the runs; the same command goes on in it", required=True)
TABLES = flags.DEFINE_string("tables", None, "folder that tables and pictures are written to; by default --output")
DREAMS_AT_ONCE = flags.DEFINE_integer(
    "dreams_at_once",
    None,
    "dreams that are advanced in one program; by default 8 on a CPU, and up to 64 on an accelerator, as memory allows",
)
REPORTS = flags.DEFINE_boolean("reports", False, "whether each dream gets its report.html and pictures")
flags.adopt_module_key_flags(search_flags)
flags.adopt_module_key_flags(process_flags)


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What the flags ask for.

    Attributes:
        program: the script's name.
        lm: the model.
        fluency_model: the one whose cross-entropy counts; None for the same.
        config: settings of the search.
        template: frozen text around prompts.
        options: further keywords of `dream`.
        output: the folder of the runs.
        console: where progress is told; silent in all processes of a job but the first.
    """

    program: str
    lm: LanguageModel
    fluency_model: LanguageModel | None
    config: EPOConfig
    template: Template
    options: dict[str, Any]
    output: Path
    console: Console

    def dream(self, features: Sequence[str], seeds: Sequence[int], folder: Path, **changes: Any) -> None:
        """Dream each feature with each seed into a sweep's folder, or go on; ends the program where that is stopped.

        Args:
            features: feature strings.
            seeds: of all randomness.
            folder: the sweep's.
            changes: keywords of `dream` that are not as the flags say.
        """
        with SweepLive(self.console) as live:
            summary = sweep(
                self.lm,
                features,
                self.config,
                seed=seeds,
                output=folder,
                dreams_at_once=DREAMS_AT_ONCE.value,
                reports=REPORTS.value,
                callback=live.update,
                template=self.template,
                fluency_model=self.fluency_model,
                mesh=self.lm.mesh,
                **{**self.options, **changes},
            )
        if summary.stopped:
            if processes.is_writer():
                print(f"{self.program}: {summary.stopped}; the same command goes on", file=sys.stderr)
            sys.exit(INTERRUPTED)

    def write(self, name: str, content: str) -> None:
        """Write a table; of several processes of one job the first one alone does.

        Raises:
            EpoError: it cannot be written.
        """
        self._put(name, lambda path: write_whole(path, content.encode()))

    def draw(self, name: str, figure: Figure) -> None:
        """Write a picture, name.png and name.pdf; as for `write`."""
        self._put(f"{name}.png", lambda path: write_figure(figure, path.with_suffix("")))

    def _put(self, name: str, put: Callable[[Path], object]) -> None:
        path = Path(TABLES.value or OUTPUT.value).expanduser() / name
        if not processes.is_writer():
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            put(path)
        except OSError as error:
            raise EpoError(f"--tables={path.parent}: {name} cannot be written ({error.strerror})") from error
        self.console.print(f"written: {path}", soft_wrap=True)


def load(program: str, small: EPOConfig) -> Experiment:
    """What the flags ask for, with the model.

    Args:
        program: the script's name.
        small: settings of the search at the small size, where no flag says another.

    Raises:
        EpoError: a flag that cannot be used.
    """
    console = Console(highlight=False, quiet=not processes.is_writer())
    for flag, value in (("output", OUTPUT.value), ("tables", TABLES.value)):
        if value is not None and Path(value).expanduser().is_file():
            raise EpoError(f"--{flag}={value}: is a file; give a folder")
    use_compilation_cache(search_flags.CACHE_DIR.value)
    config = search_flags.search_config(console, small if SIZE.value == SMALL else PRESETS["paper"])
    options = search_flags.dream_options()
    if not REPORTS.value:
        # What only reports show.
        options |= {"attribution": False, "continuation": False}
    template = search_flags.frozen_text()
    text = search_flags.MESH.value or (AUTO if process_flags.DISTRIBUTED.value else None)
    mesh = text if text is None or text == AUTO else make_mesh(text)
    lm, fluency_model = search_flags.load_models(console, mesh)
    template = search_flags.in_chat(lm, template)
    output = Path(OUTPUT.value).expanduser()
    return Experiment(program, lm, fluency_model, config, template, options, output, console)


def seeds(by_default: Sequence[int]) -> list[int]:
    """The seeds that were given, else those that the experiment has."""
    if not flags.FLAGS["seed"].present:
        return list(by_default)
    return list(dict.fromkeys(seed for text in search_flags.SEED.value for seed in expand_seeds(text)))


def command(program: str) -> str:
    """The command line that makes the tables again."""
    return shlex.join(["python", f"scripts/{program}.py", *sys.argv[1:]])


def start(main: Callable[[], None], program: str) -> None:
    """Parse the flags and run a script's main function, alone or as one of several processes of a job."""

    def terminable_main() -> None:
        try:
            with terminable(), process_flags.joined(program):
                main()
        except KeyboardInterrupt:
            print(f"{program}: interrupted; the same command goes on", file=sys.stderr)
            sys.exit(INTERRUPTED)
        except TerminatedError:
            print(f"{program}: terminated; the same command goes on", file=sys.stderr)
            sys.exit(EXIT_CODE)

    command_line.start(terminable_main, program)
