"""The command in this process."""

from __future__ import annotations

from absl import flags

from epo_jax import command_line
from epo_jax.dream import __main__ as command

SIZES = ["--iterations=2", "--population=2", "--children=2", "--length=4", "--top_k=30"]
# Its program is the one that is compiled soonest.
QUICK = ["--search=paper", *SIZES]


def run(*arguments: str) -> int:
    """Exit code of the command, in this process."""
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()
    try:
        command_line.parse_flags(["dream", *arguments], command.PROGRAM)
        command_line.guarded(command.main, command.PROGRAM)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0
