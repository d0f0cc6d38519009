"""Thousands of callers at once: short turns of the loop, shared commits, nobody forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from millpond import Database, Settings
from millpond.scheduling.turns import MOST_SHARERS
from millpond.statements.cost import Cost

READ = "SELECT n FROM t WHERE id = ?"


@pytest.fixture
async def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """Each read uses up the whole of a turn, so that each caller lets others go first after it."""
    monkeypatch.setattr(Cost, "ran_again", lambda _self, _seconds: False)  # on a busy machine they are cheap too
    async with Database(tmp_path / "a.db", Settings(cache_bytes=0, turn_budget_ms=0.01)) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)")
        await db.execute_many("INSERT INTO t VALUES (?, ?)", ((i, i) for i in range(100)))
        for _ in range(50):
            await db.fetch_value(READ, (1,))
        yield db


async def crowded(db: Database) -> None:
    """Until callers wait for a later turn."""
    while not db._outside:  # noqa: ASYNC110  # what it waits for has no event of its own
        await asyncio.sleep(0)


async def test_only_some_of_a_crowd_come_in_each_turn_and_all_in_their_order(db: Database) -> None:
    done = [0] * 500
    in_turn: list[int] = []

    async def reader(me: int) -> None:
        for _ in range(10):
            assert await db.fetch_value(READ, (me % 100,)) == me % 100
            done[me] += 1

    readers = [asyncio.create_task(reader(me)) for me in range(500)]
    began = False
    while not all(task.done() for task in readers):
        before = sum(done)
        await asyncio.sleep(0)
        if began:
            in_turn.append(sum(done) - before)
        began = began or min(done) >= 1
        if began and max(done) < 10:
            assert max(done) - min(done) <= 2, "one is served twice while another waits"
    await asyncio.gather(*readers)
    assert max(in_turn) <= 2 * MOST_SHARERS
    assert not db._outside


async def test_one_that_is_cancelled_while_it_waits_outside_is_passed_over(db: Database) -> None:
    async def reader() -> None:
        for _ in range(5):
            await db.fetch_value(READ, (1,))

    readers = [asyncio.create_task(reader()) for _ in range(200)]
    await crowded(db)
    for task in readers[::2]:
        task.cancel()
    found = await asyncio.gather(*readers, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in found[::2])
    assert found[1::2] == [None] * 100


async def test_closing_lets_all_go_with_what_they_have_read(tmp_path: Path) -> None:
    settings = Settings(cache_bytes=0, turn_budget_ms=0.01)
    async with Database(tmp_path / "b.db", settings) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)")
        await db.execute("INSERT INTO t VALUES (1, 7)")
        for _ in range(50):
            await db.fetch_value(READ, (1,))
        readers = [asyncio.create_task(db.fetch_value(READ, (1,))) for _ in range(300)]
        await crowded(db)
    assert await asyncio.wait_for(asyncio.gather(*readers), 10) == [7] * 300


async def test_transactions_that_were_queued_before_the_first_had_run_share_commits_all_the_same(
    tmp_path: Path,
) -> None:
    async with Database(tmp_path / "c.db") as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)")
        before = db.stats()

        async def insert(n: int) -> None:
            async with db.transaction() as tx:
                await tx.execute("INSERT INTO t(n) VALUES (?)", (n,))
                await tx.execute("UPDATE t SET n = n + 1 WHERE id = 1")

        await asyncio.gather(*(insert(n) for n in range(600)))
        stats = db.stats()
        assert stats.leases - before.leases == 600
        assert stats.batches - before.batches < 300
        assert await db.fetch_value("SELECT count(*) FROM t") == 600
