"""A caller that is cancelled, or whose time is up, in each state that a call can be in."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from millpond import Database, Settings, database, errors, front
from millpond.engine.sqlite.writer_host import Phase
from tests.waiting import until

from .outside import lock_held

INSERT = "INSERT INTO t(a) VALUES (?)"
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db", Settings(inline="off", max_connections=2, min_connections=1)) as db:
        await db.execute("CREATE TABLE t(a)")
        yield db


class HeldCommit:
    """The next COMMIT waits in the writer's thread until it is let go."""

    def __init__(self, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        assert db._engine is not None
        connection = db._engine.writer.connection
        assert connection is not None
        run = connection.run
        self.reached = threading.Event()
        self.go = threading.Event()

        def held(sql: str) -> None:
            if sql == "COMMIT" and not self.reached.is_set():
                self.reached.set()
                assert self.go.wait(20)
            run(sql)

        monkeypatch.setattr(connection, "run", held)


def phase(db: Database) -> Phase:
    assert db._engine is not None
    return db._engine.writer.phase


async def values(db: Database) -> list[int]:
    return [row.a for row in await db.fetch_all("SELECT a FROM t ORDER BY rowid")]


async def test_cancelled_while_it_commits_it_is_applied_and_the_cancel_delivered(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = HeldCommit(db, monkeypatch)
    task = asyncio.create_task(db.execute(INSERT, (1,)))
    await until(commit.reached.is_set)
    task.cancel()
    commit.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await db.execute(INSERT, (2,))
    assert await values(db) == [1, 2]


async def test_late_while_it_commits_it_is_said_not_to_be_known(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "LATE_GRACE_S", 0.05)
    monkeypatch.setattr(database, "LATE_GRACE_S", 0.05)
    commit = HeldCommit(db, monkeypatch)
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await db.execute(INSERT, (1,), timeout=0.05)
    assert caught.value.applied == "unknown"
    commit.go.set()
    await db.execute(INSERT, (2,))
    assert await values(db) == [1, 2]


async def test_cancelled_while_it_waits_for_a_foreign_lock_it_is_not_applied(db: Database) -> None:
    with lock_held(db._location.path):
        gone = asyncio.create_task(db.execute(INSERT, (1,)))
        stays = asyncio.create_task(db.execute(INSERT, (2,)))
        await until(lambda: phase(db) is Phase.GATE)
        gone.cancel()
        async with asyncio.timeout(1):
            with pytest.raises(asyncio.CancelledError):
                await gone
        assert not stays.done()
    await stays
    assert await values(db) == [2]


async def test_the_only_one_that_waits_for_a_foreign_lock_may_go(db: Database) -> None:
    with lock_held(db._location.path):
        task = asyncio.create_task(db.execute(INSERT, (1,)))
        await until(lambda: phase(db) is Phase.GATE)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: phase(db) is Phase.IDLE)
    assert await values(db) == []


async def test_a_read_whose_time_is_up_in_the_queue_says_where_it_went(db: Database) -> None:
    running = asyncio.create_task(db.fetch_value(ENDLESS))
    await until(lambda: db.stats().busy_lanes == 1)
    with pytest.raises(errors.DeadlineExceeded, match=r"queue 0\.[1-9]"):
        await db.fetch_all("SELECT a FROM t", timeout=0.2)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await values(db) == []


async def test_a_read_that_is_cancelled_in_the_queue_does_not_run(db: Database) -> None:
    running = asyncio.create_task(db.fetch_value(ENDLESS))
    await until(lambda: db.stats().busy_lanes == 1)
    waiting = asyncio.create_task(db.fetch_value(ENDLESS + " -- too"))
    await until(lambda: db.stats().reads_waiting == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert db.stats().reads_waiting == 0
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await values(db) == []
