"""See a chat bot before and after: sqlite3, then Millpond, same events.

A chat service with 25 workers on one file. Each event reads the guild's
settings, then in one transaction reads the user, works out experience and
level, and writes user, message, counters and leaderboard; one event in 500
asks for a heavy report. First as it is usually written, with Python's sqlite3
and a thread per worker; then the same events through Millpond. Afterwards an
independent process opens both files, counts every acknowledged event again,
compares the balances and runs integrity_check. Takes about 20 seconds.

Exit code: 0 good; 1 Millpond had errors or lost something; 2 wrong use;
3 it could not be run; 130 interrupted, with the result so far.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from millpond.cli.documents import STDOUT, add_json_argument, check_target, write_document
from millpond.cli.exits import Exit

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    ("millpond demo", "the whole of it, about 20 seconds"),
    ("millpond demo --seconds 3", "a quick look"),
    ("millpond demo --tuned", "against sqlite3 with WAL, a long timeout and BEGIN IMMEDIATE"),
    ("millpond demo --data chat.tsv.gz", "replay your own chat log: columns date, time, event, user, text"),
    ("millpond demo --processes 4 --workers 40", "Millpond in four processes on one file"),
    ("millpond demo --seed 7 --keep demo-files", "the same events again, and keep both databases"),
    ("millpond demo --json", "one JSON object, for programs"),
    ("millpond demo --json=demo.json", "the text, and the object in a file"),
)

_MOST_WORKERS, _MOST_PROCESSES, _MOST_SECONDS = 1000, 64, 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=_whole(1, _MOST_WORKERS), default=25, metavar="N", help="workers; default %(default)s"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=8.0, metavar="S", help="seconds for each part; default %(default)g"
    )
    parser.add_argument(
        "--processes",
        type=_whole(1, _MOST_PROCESSES),
        default=1,
        metavar="N",
        help="run Millpond's part in N processes on one file, the workers parted between them",
    )
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="replay a chat log (.tsv or .tsv.gz); else a made-up one"
    )
    parser.add_argument(
        "--seed", type=_whole(0, 2**63), metavar="N", help="seed of the made-up chat; else drawn, and printed"
    )
    parser.add_argument("--tuned", action="store_true", help="give sqlite3 WAL, a timeout of 30 s and BEGIN IMMEDIATE")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave both databases in this folder")
    add_json_argument(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    import secrets

    from millpond.cli.demo_progress import progress
    from millpond.cli.demo_text import blocks_of
    from millpond.cli.parsing import WrongUse
    from millpond.cli.stopping import interrupted_code
    from millpond.cli.terminal import screen_of
    from millpond.cli.view import show
    from millpond.demo.conduct import DemoFailed, Plan, conduct

    _refuse_what_cannot_be(args)
    plan = Plan(
        workers=args.workers,
        seconds=args.seconds,
        processes=args.processes,
        seed=secrets.randbelow(1_000_000) if args.seed is None else args.seed,
        data=args.data,
        keep=args.keep,
        tuned=args.tuned,
    )
    try:
        with progress(plan, sys.stderr, quiet=args.quiet) as tell:
            outcome = conduct(plan, tell)
    except DemoFailed as failure:
        if failure.detail:
            print(failure.detail, file=sys.stderr)
        print(f"millpond demo: {failure}", file=sys.stderr)
        return Exit.UNCHECKED
    except OSError as exc:
        raise WrongUse(f"millpond demo: {exc.filename or args.keep}: {exc.strerror}") from exc
    if args.json != STDOUT:
        show(blocks_of(outcome), sys.stdout, screen_of(sys.stdout))
    if args.json is not None:
        write_document(outcome.document(), args.json)
    if outcome.interrupted:
        return interrupted_code()
    return Exit.GOOD if outcome.good else Exit.BAD


def _refuse_what_cannot_be(args: argparse.Namespace) -> None:
    from millpond.cli.parsing import WrongUse

    if args.processes > args.workers:
        raise WrongUse(f"millpond demo: {args.processes} processes need as many workers; --workers is {args.workers}")
    if args.data is not None and not args.data.is_file():
        raise WrongUse(f"millpond demo: --data: no such file: {args.data}")
    if args.json is not None:
        check_target(args.json)
    if args.keep is not None:
        found = [place for system in ("sqlite3", "millpond") if (place := args.keep / system).exists()]
        if found:
            raise WrongUse(f"millpond demo: --keep: {found[0]} is there already; name another folder, or remove it")


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"a whole number from {least} to {most} is wanted, not {text!r}")
        return value

    return read


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"seconds from 0.1 to {_MOST_SECONDS:g} are wanted, not {text!r}")
    return value
