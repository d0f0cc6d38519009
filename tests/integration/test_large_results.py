"""Large results: made in a reader's thread, a slice at a time, and stopped between two slices."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from millpond import Database, errors
from millpond.engine.sqlite.lanes import Lanes
from millpond.engine.sqlite.slices import SLICE, RowSlices
from millpond.statements.cost import Lane
from tests.waiting import until

ROWS = 10_001
ALL_ROWS = "SELECT id, 'text' AS body FROM t ORDER BY id"


@dataclass
class Spy:
    """Each slice: by which thread, how many rows were asked for. after: called after each."""

    threads: set[str] = field(default_factory=set)
    sizes: list[int] = field(default_factory=list)
    after: Callable[[], object] = lambda: None


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    seen = Spy()
    real = RowSlices.next

    def following(slices: RowSlices, size: int) -> Any:
        rows = real(slices, size)
        seen.threads.add(threading.current_thread().name)
        seen.sizes.append(size)
        seen.after()
        return rows

    monkeypatch.setattr(RowSlices, "next", following)
    return seen


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db", {"close_grace_s": 0.2, "cache_bytes": 0}) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)")
        await db.execute_many("INSERT INTO t VALUES (?)", [(i,) for i in range(ROWS)])
        (await db._profile(ALL_ROWS)).cost.lane = Lane.HEAVY
        yield db


def lanes_of(db: Database) -> Lanes:
    assert db._engine is not None
    assert db._engine.lanes is not None
    return db._engine.lanes


async def test_rows_are_made_in_the_lane_a_slice_at_a_time(db: Database, spy: Spy) -> None:
    rows = await db.fetch_all(ALL_ROWS)
    assert [row.id for row in rows] == list(range(ROWS))
    assert rows[-1].asdict() == {"id": ROWS - 1, "body": "text"}
    assert spy.threads == {"millpond-lane"}
    assert spy.sizes == [SLICE] * math.ceil(ROWS / SLICE)


@pytest.mark.parametrize("rows", [0, 1, SLICE - 1, SLICE, SLICE + 1, 2 * SLICE])
async def test_a_result_of_any_length_is_whole(db: Database, rows: int) -> None:
    sql = "SELECT id FROM t WHERE id < ? ORDER BY id"
    (await db._profile(sql)).cost.lane = Lane.HEAVY
    assert await db.fetch_all(sql, (rows,)) == [(i,) for i in range(rows)]


async def test_snapshots_do_the_same(db: Database, spy: Spy) -> None:
    async with db.snapshot() as snap:
        assert len(await snap.fetch_all(ALL_ROWS)) == ROWS
        assert spy.sizes == [SLICE] * math.ceil(ROWS / SLICE)
        assert await snap.fetch_value("SELECT count(*) FROM t") == ROWS


class Held:
    """Holds the first slice until it is let go, so that all that comes then comes between two slices."""

    def __init__(self, spy: Spy) -> None:
        self.first = threading.Event()
        self.go_on = threading.Event()
        spy.after = self._after

    def _after(self) -> None:
        self.first.set()
        assert self.go_on.wait(20)


async def test_a_cancelled_result_ends_between_two_slices(
    db: Database, spy: Spy, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held(spy)
    read = asyncio.create_task(db.fetch_all(ALL_ROWS))
    await until(held.first.is_set)
    lanes = lanes_of(db)
    for lane in lanes._lanes:
        monkeypatch.setattr(lane, "interrupt", lambda _call: None)  # without SQLite's help
    read.cancel()
    with pytest.raises(asyncio.CancelledError):
        await read
    held.go_on.set()
    await until(lambda: not lanes.busy)
    assert len(spy.sizes) == 1


async def test_one_whose_time_is_up_does_too(db: Database, spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(spy)
    read = asyncio.create_task(db.fetch_all(ALL_ROWS))
    await until(held.first.is_set)
    lanes = lanes_of(db)
    (lane,) = [lane for lane in lanes._lanes if lane.current is not None]
    monkeypatch.setattr(lane, "interrupt", lambda _call: None)  # without SQLite's help
    db._late(lane.current)  # as if its time were up now
    with pytest.raises(errors.DeadlineExceeded):
        await read
    held.go_on.set()
    await until(lambda: not lanes.busy)
    assert len(spy.sizes) == 1


async def test_closing_stops_it_after_the_grace(db: Database, spy: Spy) -> None:
    held = Held(spy)
    read = asyncio.create_task(db.fetch_all(ALL_ROWS))
    await until(held.first.is_set)
    lanes = lanes_of(db)
    real = lanes.interrupt_all

    def interrupt_all() -> None:
        real()
        held.go_on.set()

    lanes.interrupt_all = interrupt_all  # type: ignore[method-assign]  # so the slice ends just after it
    await db.close()
    with pytest.raises(errors.OperationalError):
        await read
    assert len(spy.sizes) == 1


@dataclass
class Item:
    id: int
    body: str


async def test_others_run_while_many_rows_become_the_callers_own_type(db: Database) -> None:
    turns, running, threads = 0, True, set()

    @dataclass
    class Noted(Item):
        def __post_init__(self) -> None:
            threads.add(threading.get_ident())

    async def count() -> None:
        nonlocal turns
        while running:
            turns += 1
            await asyncio.sleep(0)

    raw = await db.fetch_all(ALL_ROWS)
    counting = asyncio.create_task(count())
    before = turns
    shaped = await db._shaped_in_slices(raw, Noted, ALL_ROWS)
    assert turns - before >= ROWS // SLICE
    running = False
    await counting
    assert len(shaped) == ROWS
    assert threads == {threading.get_ident()}
    assert await db.fetch_all(ALL_ROWS, into=Item) == [Item(i, "text") for i in range(ROWS)]
    with pytest.raises(errors.DataError) as caught:
        await db.fetch_all(ALL_ROWS, into=int)
    assert caught.value.sql == ALL_ROWS


async def test_a_stream_keeps_a_slice_and_no_more(db: Database, spy: Spy) -> None:
    stream = db.iterate(ALL_ROWS)
    assert (await anext(stream)).id == 0
    assert spy.sizes == [64], "the first rows come soon"
    assert sum([1 async for _ in stream]) == ROWS - 1
    assert max(spy.sizes) == 1_000


async def test_an_error_between_two_slices_is_the_readers_and_frees_the_lane(db: Database, spy: Spy) -> None:
    def fail() -> None:
        raise errors.OperationalError("a fault")

    spy.after = fail
    with pytest.raises(errors.OperationalError, match="a fault"):
        await db.fetch_all(ALL_ROWS)
    spy.after = lambda: None
    assert len(await db.fetch_all(ALL_ROWS)) == ROWS
    await db.execute("DELETE FROM t")
    assert (await db.fetch_all("PRAGMA wal_checkpoint(TRUNCATE)"))[0][0] == 0, "no reader is left that pins the log"
