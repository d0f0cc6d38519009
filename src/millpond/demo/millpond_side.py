"""After: the same chat service through Millpond, with asyncio and a task per worker.

The defaults all round, whatever the environment says: full durability, one Database for everybody.
Compare `handle` with `sqlite3_side.handle`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from millpond import Database, Settings, Transaction
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

__all__ = ["TICK_S", "handle", "prepare", "work"]

TICK_S = 0.010
"""The ticker beside the work: how late it comes is how long the event loop was held."""


async def prepare(path: str) -> None:
    """Make the file with its tables."""
    async with Database(path, Settings()) as db:
        await db.execute_script("".join((DDL, *GUILD_ROWS)))


async def handle(db: Database, event: Event) -> None:
    """One event: settings, the user's row and level, the message, counters, leaderboard; sometimes more."""
    settings = await db.fetch_one(READ_SETTINGS, (event.guild,))
    assert settings is not None, "every guild has its settings"
    base, announce = settings

    def record(tx: Transaction) -> bool:
        before = tx.fetch_one(READ_USER, (event.user,))
        after, gained, rose = user_row(event, before, base)
        if before is None:
            tx.execute(ADD_USER, (*after, event.user, event.name))
        else:
            tx.execute(UPDATE_USER, (*after, event.user))
        tx.execute(ADD_MESSAGE, (event.id, event.guild, event.user, event.kind, event.at, event.body, gained))
        tx.execute(ADD_COUNTERS, (gained, event.guild))
        tx.execute(ADD_SCORE, (event.guild, event.user, gained))
        return rose

    rose = await db.write(record)
    if rose and announce:
        await db.fetch_value(RANK, (event.guild, event.user))
    if wants_report(event):
        await db.fetch_all(REPORT, (event.guild,))


async def work(
    path: str, workers: int, feed: Feed, ledger: Ledger, started: Callable[[], None], grace_s: float
) -> tuple[int, list[float]]:
    """Handle events by `workers` tasks until the feed ends.

    started: called when the database is open; returns when the work may begin.
    Returns how many workers had not come to an end `grace_s` after the feed, and how late (seconds) each tick was.
    """

    async def worker() -> None:
        try:
            while (event := feed.take()) is not None:
                with ledger.attempt(event.id) as attempt:
                    await handle(db, event)
                if attempt.failed:
                    await asyncio.sleep(PAUSE_AFTER_FAILURE_S)
        except BaseException:
            feed.stop()
            raise

    late: list[float] = []
    async with Database(path, Settings()) as db:
        started()
        ticker = asyncio.create_task(_tick(late))
        tasks = [asyncio.create_task(worker(), name=f"worker-{number}") for number in range(workers)]
        await asyncio.to_thread(feed.ended.wait)
        _, stuck = await asyncio.wait(tasks, timeout=grace_s)
        for task in (*stuck, ticker):
            task.cancel()
        await asyncio.gather(*tasks, ticker, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and (trouble := task.exception()) is not None:
            raise trouble
    return len(stuck), late


async def _tick(late: list[float]) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time() + TICK_S
    while True:
        await asyncio.sleep(due - loop.time())
        late.append(loop.time() - due)
        # A tick that is missed is late once, not over and over.
        due = max(due + TICK_S, loop.time())
