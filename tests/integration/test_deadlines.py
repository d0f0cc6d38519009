"""What a call is told whose time is up while it runs: DeadlineExceeded, whichever way it went."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

import pytest

import millpond.sync
from millpond import Database, errors

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


async def in_snapshot(db: Database) -> None:
    async with db.snapshot() as snapshot:
        await snapshot.fetch_all(ENDLESS, timeout=0.2)


async def in_stream(db: Database) -> None:
    async for _ in db.iterate(ENDLESS, timeout=0.2):
        pass


async def by_write(db: Database) -> None:
    await db.write(lambda tx: tx.fetch_all(ENDLESS), timeout=0.2)


async def by_write_that_writes(db: Database) -> None:
    await db.write(lambda tx: tx.execute(f"INSERT INTO t {ENDLESS}"), timeout=0.2)


READS: list[Callable[[Database], Awaitable[Any]]] = [
    in_snapshot,
    in_stream,
    lambda db: db.fetch_all(ENDLESS, timeout=0.2),
    lambda db: db.fetch_value(ENDLESS, timeout=0.2),
]
WRITES: list[Callable[[Database], Awaitable[Any]]] = [
    by_write,
    by_write_that_writes,
    lambda db: db.execute(f"INSERT INTO t {ENDLESS}", timeout=0.2),
    lambda db: db.execute_script(f"INSERT INTO t VALUES (1); INSERT INTO t {ENDLESS};", timeout=0.2),
]


@pytest.mark.parametrize("call", READS)
@pytest.mark.parametrize("memory", [False, True])
async def test_a_read_that_runs_for_too_long(
    db_path: str, memory: bool, call: Callable[[Database], Awaitable[Any]]
) -> None:
    async with Database(":memory:" if memory else db_path) as db:
        await db.execute("CREATE TABLE t(x)")
        with pytest.raises(errors.DeadlineExceeded) as caught:
            await call(db)
        assert caught.value.applied is None
        assert await db.fetch_value("SELECT 7", timeout=5) == 7


@pytest.mark.parametrize("call", WRITES)
@pytest.mark.parametrize("memory", [False, True])
async def test_a_write_that_runs_for_too_long(
    db_path: str, memory: bool, call: Callable[[Database], Awaitable[Any]]
) -> None:
    async with Database(":memory:" if memory else db_path) as db:
        await db.execute("CREATE TABLE t(x)")
        with pytest.raises(errors.DeadlineExceeded) as caught:
            await call(db)
        assert caught.value.applied == "no"
        assert await db.fetch_value("SELECT count(*) FROM t", timeout=5) == 0


def test_threads_are_told_the_same_of_a_snapshot_in_memory() -> None:
    with millpond.sync.Database(":memory:") as db, db.snapshot() as snapshot:
        started = monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            snapshot.fetch_all(ENDLESS, timeout=0.2)
        assert monotonic() - started < 5
        assert snapshot.fetch_value("SELECT 7") == 7
