"""What a call or a task no longer needs is let go of."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

from millpond import Database
from millpond.engine.sqlite.calls import ReadCall
from millpond.front import holding
from tests.waiting import until


def kept_calls() -> list[ReadCall]:
    """A lane's thread lets go of the last one only after its caller has been woken."""
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is ReadCall and "kept_here" in thing.sql]


async def test_an_answered_call_is_not_kept_until_its_deadline(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", {"inline": "off"}) as db:
        await db.execute("CREATE TABLE kept_here(a)")
        await db.execute("INSERT INTO kept_here VALUES (zeroblob(1000))")
        for timeout in (None, 7.0):
            for _ in range(50):
                await db.fetch_all("SELECT a FROM kept_here", timeout=timeout)
                await db.execute("INSERT INTO kept_here VALUES (zeroblob(1000))", timeout=timeout)
                await db.execute("DELETE FROM kept_here WHERE rowid > 1", timeout=timeout)
                async with db.transaction() as tx:
                    await tx.execute_script("SELECT 1;")
            assert await db.fetch_value("SELECT count(*) FROM kept_here", timeout=timeout) == 1
        await until(lambda: not kept_calls())
        deadlines = db._watch._deadlines
        places = [*deadlines._queue, *(entry[2] for entry in deadlines._heap)]
        assert places
        assert all(place == [None] for place in places)


async def test_a_chain_of_tasks_does_not_keep_the_transactions_of_all_before_it(tmp_path: Path) -> None:
    held: list[int] = []

    async def link(db: Database, number: int, begins: asyncio.Event) -> None:
        await begins.wait()
        left = asyncio.Event()
        async with db.transaction():
            held.append(len(holding.get()))
            follower = asyncio.create_task(link(db, number + 1, left)) if number < 5 else None
        left.set()
        if follower is not None:
            await follower

    async with Database(tmp_path / "a.db") as db:
        begins = asyncio.Event()
        begins.set()
        await link(db, 0, begins)
    assert held == [1] * 6
