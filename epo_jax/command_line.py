"""What the command lines share: bad input is one line on stderr, and exit code 2."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import NoReturn

from absl import app, flags, logging

from epo_jax.errors import EpoError


def start(main: Callable[[], None], program: str) -> None:
    """Parse the flags and run a command line's main function.

    Args:
        main: called when the flags are parsed; an EpoError that it raises is refused input.
        program: stands before a refusal.
    """
    app.run(lambda _: guarded(main, program), flags_parser=functools.partial(parse_flags, program=program))


def parse_flags(arguments: list[str], program: str) -> list[str]:
    """Parse a command line; what stands on it beside flags is refused."""
    try:
        rest: list[str] = flags.FLAGS(arguments)
        if len(rest) > 1:
            raise flags.Error(f"{rest[1]}: not a flag; flags are given as --name=value")
    except flags.Error as error:
        refuse(f"{error}; --help lists the flags", program)
    except SystemExit:
        # Only --help and its kin end a program here; absl calls that a failure.
        sys.exit(0)
    return rest


def guarded(main: Callable[[], None], program: str) -> None:
    """Run a main function, refusing the input that it refuses."""
    # JAX tells the absl logger of every kind of device that is not there.
    logging.set_verbosity(logging.WARNING)
    try:
        main()
    except EpoError as error:
        refuse(str(error), program)


def refuse(message: str, program: str) -> NoReturn:
    """Say in one line what is wrong, and exit with code 2."""
    print(f"{program}: error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
