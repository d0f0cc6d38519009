"""The entry point: `millpond COMMAND ...`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from millpond.cli.exits import Exit
from millpond.cli.parsing import WrongUse, commands, parse
from millpond.cli.stopping import interruptible
from millpond.cli.welcome import WELCOME

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out a command line (by default the process's own); returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        return _carry_out(given)
    except BrokenPipeError:
        # Whoever read our output has enough (`millpond demo | head`). Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.BAD


def _carry_out(given: Sequence[str]) -> int:
    if not given:
        print(WELCOME, end="")
        return Exit.GOOD
    try:
        args = parse(given)
    except WrongUse as trouble:
        print(trouble, file=sys.stderr)
        return Exit.WRONG_USE
    except SystemExit as done:
        sys.stdout.flush()
        return int(done.code or 0)
    with interruptible() as stop:
        try:
            code = int(commands()[args.command].run(args))
            sys.stdout.flush()
            return code
        except WrongUse as trouble:
            print(trouble, file=sys.stderr)
            return Exit.WRONG_USE
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return stop.code
