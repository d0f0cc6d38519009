"""One process of one side: `python -m millpond.demo.side ASSIGNMENT`, an assignment being JSON.

It speaks JSON lines on stdout (`ready`, `at`, `done`) and listens on stdin: a line "go" starts the work, and the
end of stdin ends it early. So a process whose parent has died ends by itself.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

from millpond.demo import sqlite3_side
from millpond.demo.feed import Feed, events_of
from millpond.demo.ledger import Ledger
from millpond.demo.outcome import percentile
from millpond.demo.replayed import BadLog

__all__ = ["GRACE_S", "Assignment", "main", "perform"]

GRACE_S = 15.0
"""Longer than a worker needs that waits out sqlite3's timeout, once for the reads and once for the write."""

_PROGRESS_S = 0.25


@dataclass(frozen=True, slots=True)
class Assignment:
    """What one process does. system: "sqlite3" or "millpond"; share of shares: its part of the events."""

    system: str
    path: str
    ledger: str
    workers: int
    seconds: float
    seed: int
    data: str | None = None
    share: int = 0
    shares: int = 1
    tuned: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main() -> int:
    """Do what the command line's one argument says. 0, or 3 when it could not be done (reason on stderr)."""
    assignment = Assignment(**json.loads(sys.argv[1]))
    try:
        perform(assignment, sys.stdin, sys.stdout)
    except (BadLog, OSError) as exc:
        print(exc, file=sys.stderr)
        return 3
    return 0


def perform(assignment: Assignment, orders: TextIO, answers: TextIO) -> None:
    """Prepare, say ready, wait for go, work, say done.

    Raises: BadLog, OSError; whatever keeps the database from being opened.
    """

    def say(**facts: Any) -> None:
        print(json.dumps(facts), file=answers, flush=True)

    events = events_of(assignment.seed, _path(assignment.data), assignment.share, assignment.shares)
    # The first event opens the log: better now than in the measured time.
    feed = Feed(itertools.chain([next(events)], events), perf_counter)
    with open(assignment.ledger, "wb") as file:
        ledger = Ledger(file, perf_counter)

        def started() -> None:
            say(ready=True)
            if orders.readline().strip() != "go":
                feed.stop()
            ledger.start()
            feed.open_until(ledger.started + assignment.seconds)
            threading.Thread(target=_obey, args=(orders, feed), daemon=True).start()
            threading.Thread(target=report, daemon=True).start()

        def report() -> None:
            while not feed.ended.wait(min(_PROGRESS_S, feed.end_if_late())):
                at = perf_counter() - ledger.started
                say(at=at, ops=ledger.acknowledged, errors=ledger.failed, locked=ledger.locked)

        stuck, late = _work(assignment, feed, ledger, started)
        ledger.give_up(stuck, GRACE_S)
        ledger.flush()
    say(
        done=True,
        seconds=feed.ended_at - ledger.started,
        ops=ledger.acknowledged,
        errors=ledger.failed,
        locked=ledger.locked,
        reasons=dict(ledger.reasons),
        late_p99_ms=1000 * percentile(sorted(late), 99) if late else None,
    )


def _work(assignment: Assignment, feed: Feed, ledger: Ledger, started: Any) -> tuple[int, list[float]]:
    path, workers, first = assignment.path, assignment.workers, assignment.share == 0
    if assignment.system == "sqlite3":
        recipe = sqlite3_side.TUNED if assignment.tuned else sqlite3_side.DEFAULTS
        if first:
            sqlite3_side.prepare(path, recipe)
        return sqlite3_side.work(path, recipe, workers, feed, ledger, started, GRACE_S), []
    # Only here, so that the other side's process has nothing of Millpond's engine in it.
    from millpond.demo import millpond_side

    if first:
        asyncio.run(millpond_side.prepare(path))
    return asyncio.run(millpond_side.work(path, workers, feed, ledger, started, GRACE_S))


def _obey(orders: TextIO, feed: Feed) -> None:
    orders.read()
    feed.stop()


def _path(data: str | None) -> Path | None:
    return None if data is None else Path(data)


if __name__ == "__main__":
    sys.exit(main())
