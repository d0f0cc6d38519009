"""Readers that end, break, or cannot be started: who waits is told, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from millpond import Database, Priority, errors
from millpond.engine.sqlite.calls import ReadCall
from millpond.engine.sqlite.connection import VALUE
from millpond.engine.sqlite.lanes import Lanes, Session
from millpond.statements.cost import Lane
from tests.waiting import until

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
COUNT_TO = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < ?) SELECT count(*) FROM c"


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db", {"max_connections": 4, "close_grace_s": 1.0}) as db:
        await db.execute("CREATE TABLE t(a)")
        await db.execute("INSERT INTO t VALUES (1)")
        yield db


def lanes_of(db: Database) -> Lanes:
    assert db._engine is not None
    assert db._engine.lanes is not None
    return db._engine.lanes


async def read_call(db: Database, sql: str = "SELECT 1") -> ReadCall:
    port, now = db._port, monotonic()
    profile = await db._profile(sql)
    return ReadCall(
        port.waiter(), profile, None, VALUE, deadline=now + 30, priority=1, caller=port.caller(), submitted=now
    )


async def heavy_read(db: Database, sql: str, **how: Any) -> Any:
    """A read that is known to be long, so that it goes to a heavy lane at once."""
    (await db._profile(sql)).cost.lane = Lane.HEAVY
    return await db.fetch_value(sql, **how)


async def test_reads_that_come_when_the_lanes_have_ended_are_told_so(db: Database) -> None:
    heavy, quick = await read_call(db), await read_call(db)
    lanes = lanes_of(db)
    lanes.close()
    assert lanes.join(5)
    lanes.to_heavy(heavy)
    assert lanes.quick is not None
    lanes.quick.submit(quick)  # it passed the gate just before the closing began
    for call in (heavy, quick):
        with pytest.raises(errors.DatabaseClosed):
            await asyncio.wait_for(call.waiter, 5)
    with pytest.raises(errors.DatabaseClosed):
        lanes.submit(await read_call(db))
    assert not lanes.busy


async def test_a_step_that_comes_when_its_lane_has_ended_is_told_so(db: Database) -> None:
    session: Session = await db._session("snapshot", Priority.NORMAL, 5.0, "here")
    lanes = lanes_of(db)
    lanes.close()
    assert lanes.join(5)
    step = session.step(db._port.waiter(), "SELECT 1", lambda connection: 1, 5.0)
    with pytest.raises(errors.DatabaseClosed):
        await asyncio.wait_for(step.waiter, 5)


async def test_what_waits_while_the_database_closes_keeps_its_deadline(db: Database) -> None:
    """The engine is held up in its closing, so that the deadline comes before the end of it."""
    go_on = threading.Event()
    engine = db._engine
    assert engine is not None
    close = engine.close

    def slow_close(grace_s: float) -> None:
        go_on.wait(10)
        close(grace_s)

    engine.close = slow_close  # type: ignore[method-assign]  # held up on purpose
    read = asyncio.create_task(db.fetch_value(ENDLESS, timeout=0.2))
    await until(lambda: lanes_of(db).busy)
    closing = asyncio.create_task(db.close())
    with pytest.raises(errors.DeadlineExceeded):
        await asyncio.wait_for(read, 5)
    go_on.set()
    await closing


async def test_a_snapshot_whose_reader_broke_is_over(db: Database) -> None:
    await db.execute_script(
        "CREATE TABLE c(id INTEGER PRIMARY KEY, body);"
        "CREATE VIRTUAL TABLE f USING fts5(body, content='c', content_rowid='id');"
        "INSERT INTO f(rowid, body) VALUES (1, 'x')"
    )
    async with db.snapshot() as snap:
        assert await snap.fetch_value("SELECT count(*) FROM t") == 1
        await db.execute("INSERT INTO t VALUES (2)")
        with pytest.raises(errors.DatabaseCorrupt):  # the content table misses what the index refers to
            await snap.fetch_all("SELECT * FROM f WHERE f MATCH 'x'")
        for _ in range(2):
            with pytest.raises(errors.StorageError, match=r"^the snapshot opened at .* is over") as caught:
                await snap.fetch_value("SELECT count(*) FROM t")
            assert isinstance(caught.value.__cause__, errors.DatabaseCorrupt)
    async with db.snapshot() as snap:
        assert await snap.fetch_value("SELECT count(*) FROM t") == 2


async def test_a_thread_that_cannot_be_started_fails_its_read_alone(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = threading.Thread.start
    refused: list[str] = []

    def start(thread: threading.Thread) -> None:
        if thread.name.startswith("millpond-lane") and not refused:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        real(thread)

    lanes = lanes_of(db)
    await until(lambda: not lanes.busy)
    for lane in lanes._lanes:
        lane.put(None)
        lane.thread.join(5)
    lanes._lanes.clear()
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(errors.OperationalError, match="no thread can be started") as caught:
        await heavy_read(db, COUNT_TO, params=(1_000,), timeout=5)
    assert caught.value.retryable
    assert not lanes._lanes
    assert await heavy_read(db, COUNT_TO, params=(2_000,), timeout=5) == 2_000
    assert lanes.quick is not None
    assert lanes.quick.thread.is_alive()


async def test_a_heavy_lane_that_fails_by_a_fault_of_ours_is_replaced(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = lanes_of(db)
    profile = await db._profile(COUNT_TO)
    assert await heavy_read(db, COUNT_TO, params=(1_000,), timeout=5) == 1_000
    before, replaced = list(lanes._lanes), lanes.replaced

    def ran(_seconds: float) -> None:
        raise AssertionError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(type(profile.cost), "ran", lambda _self, seconds: ran(seconds))
        with pytest.raises(errors.InternalError, match="a fault"):
            await heavy_read(db, COUNT_TO, params=(1_000,), timeout=5)
    await until(lambda: lanes.replaced == replaced + 1)
    assert await heavy_read(db, COUNT_TO, params=(3_000,), timeout=5) == 3_000
    assert sum(not lane.thread.is_alive() for lane in before) == 1
    assert all(lane.thread.is_alive() for lane in lanes._lanes)


async def test_the_quick_lane_outlives_a_fault_of_ours(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    lanes = lanes_of(db)
    call, later = await read_call(db), await read_call(db)
    replaced = lanes.replaced

    def ran(_self: object, _seconds: float) -> None:
        raise AssertionError("a fault")

    with monkeypatch.context() as patch:
        patch.setattr(type(call.profile.cost), "ran", ran)
        lanes.submit_quick(call)
        with pytest.raises(errors.InternalError, match="a fault"):
            await asyncio.wait_for(call.waiter, 5)
    lanes.submit_quick(later)
    assert await asyncio.wait_for(later.waiter, 5) == 1
    assert lanes.replaced == replaced + 1


async def test_a_read_that_is_cancelled_while_its_lane_opens_its_connection_does_not_run(db: Database) -> None:
    lanes, engine = lanes_of(db), db._engine
    assert engine is not None
    opening, go_on = threading.Event(), threading.Event()
    real = engine.open_reader

    def slow() -> Any:
        opening.set()
        go_on.wait(10)
        return real()

    assert await heavy_read(db, COUNT_TO, params=(1_000,)) == 1_000
    await until(lambda: not lanes.busy)
    for lane in lanes._lanes:
        lane._disconnect()
    engine.open_reader = slow  # type: ignore[method-assign]  # held up on purpose
    read = asyncio.create_task(heavy_read(db, COUNT_TO, params=(10**12,)))
    await until(opening.is_set)
    read.cancel()
    with pytest.raises(asyncio.CancelledError):
        await read
    go_on.set()
    await until(lambda: not lanes.busy)


async def test_a_read_whose_interrupt_came_too_early_is_stopped_all_the_same(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look whether it is wanted and its first step an interrupt stops nothing."""
    lanes = lanes_of(db)
    assert await heavy_read(db, COUNT_TO, params=(1_000,)) == 1_000
    await until(lambda: not lanes.busy)
    with monkeypatch.context() as patch:
        for lane in lanes._lanes:
            patch.setattr(lane, "interrupt", lambda _call: None)
        read = asyncio.create_task(heavy_read(db, COUNT_TO, params=(10**12,)))
        await until(lambda: lanes.busy)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        await until(lambda: not lanes.busy)
