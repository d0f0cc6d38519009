"""Before: the chat service as it is written today, with the standard library's sqlite3 and a thread per worker.

Nothing here is made worse than it is found. Each worker keeps a connection with the library's defaults, or, as
`tuned`, with the three fixes that everybody finds in time: WAL, a long timeout, BEGIN IMMEDIATE. The explicit
BEGIN is there because `with connection:` alone begins at the first write: the user's row would be read outside
of the transaction, and experience would be lost without any error.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from millpond.demo.chat import Event, wants_report
from millpond.demo.feed import PAUSE_AFTER_FAILURE_S, Feed
from millpond.demo.ledger import Ledger
from millpond.demo.schema import (
    ADD_COUNTERS,
    ADD_MESSAGE,
    ADD_SCORE,
    ADD_USER,
    DDL,
    GUILD_ROWS,
    RANK,
    READ_SETTINGS,
    READ_USER,
    REPORT,
    UPDATE_USER,
    user_row,
)

__all__ = ["DEFAULTS", "TUNED", "Recipe", "handle", "prepare", "work"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the connections are opened: timeout_s as `sqlite3.connect` takes it, journal mode, how to begin."""

    timeout_s: float
    journal: str
    begin: str


DEFAULTS = Recipe(timeout_s=5.0, journal="delete", begin="BEGIN")
TUNED = Recipe(timeout_s=30.0, journal="wal", begin="BEGIN IMMEDIATE")


def prepare(path: str, recipe: Recipe) -> None:
    """Make the file with its tables."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode = {recipe.journal}")
        connection.executescript("".join(("BEGIN;", DDL, *GUILD_ROWS, "COMMIT;")))


def handle(connection: sqlite3.Connection, event: Event, begin: str) -> None:
    """One event: settings, the user's row and level, the message, counters, leaderboard; sometimes more."""
    base, announce = connection.execute(READ_SETTINGS, (event.guild,)).fetchone()
    with connection:
        connection.execute(begin)
        before = connection.execute(READ_USER, (event.user,)).fetchone()
        after, gained, rose = user_row(event, before, base)
        if before is None:
            connection.execute(ADD_USER, (*after, event.user, event.name))
        else:
            connection.execute(UPDATE_USER, (*after, event.user))
        connection.execute(ADD_MESSAGE, (event.id, event.guild, event.user, event.kind, event.at, event.body, gained))
        connection.execute(ADD_COUNTERS, (gained, event.guild))
        connection.execute(ADD_SCORE, (event.guild, event.user, gained))
    if rose and announce:
        connection.execute(RANK, (event.guild, event.user)).fetchone()
    if wants_report(event):
        connection.execute(REPORT, (event.guild,)).fetchall()


def work(
    path: str, recipe: Recipe, workers: int, feed: Feed, ledger: Ledger, started: Callable[[], None], grace_s: float
) -> int:
    """Handle events by `workers` threads until the feed ends.

    started: called when every worker has its connection; returns when the work may begin.
    Returns how many workers had not come to an end `grace_s` after the feed.
    """
    opened, go, finished = threading.Barrier(workers + 1), threading.Event(), threading.Semaphore(0)
    trouble: list[BaseException] = []

    def worker() -> None:
        try:
            with closing(sqlite3.connect(path, timeout=recipe.timeout_s)) as connection:
                opened.wait()
                go.wait()
                while (event := feed.take()) is not None:
                    with ledger.attempt(event.id) as attempt:
                        handle(connection, event, recipe.begin)
                    if attempt.failed:
                        feed.ended.wait(PAUSE_AFTER_FAILURE_S)
        except BaseException as exc:
            trouble.append(exc)
            opened.abort()
            feed.stop()
        finally:
            finished.release()

    for number in range(workers):
        threading.Thread(target=worker, name=f"worker-{number}", daemon=True).start()
    try:
        opened.wait()
    except threading.BrokenBarrierError:
        raise trouble[0] from None
    started()
    go.set()
    feed.ended.wait()
    late_at = ledger.clock() + grace_s
    stuck = sum(not finished.acquire(timeout=max(0.0, late_at - ledger.clock())) for _ in range(workers))
    if trouble:
        raise trouble[0]
    return stuck
