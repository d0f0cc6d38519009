"""Reads on the event loop: what bounds them, one by one and together, and what sends them to the lanes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any

import apsw
import pytest

from millpond import Database, Settings
from millpond import database as database_module
from millpond.engine.sqlite import inline as inline_module
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.disk_waits import DiskWaits
from millpond.engine.sqlite.inline import MISS, InlineReader
from millpond.scheduling.stalls import STALL_S, Mode
from millpond.statements.cost import MOST_ROWS, Cost, Lane

from .outside import lock_held

POINT = "SELECT n FROM t WHERE id = ?"
ROWS = 50_000


class Clock:
    """Stands still but for `step_s` at each look."""

    def __init__(self, step_s: float) -> None:
        self.now = 1_000.0
        self.step_s = step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db", Settings(cache_bytes=0)) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, n)")
        await db.execute_many("INSERT INTO t VALUES (?, ?)", [(i, i) for i in range(100)])
        yield db


def reader_of(db: Database) -> InlineReader:
    assert db._engine is not None
    assert db._engine.inline is not None
    return db._engine.inline


async def inline(db: Database, sql: str = POINT) -> Cost:
    """The statement has proven cheap."""
    cost = (await db._profile(sql)).cost
    cost.lane = Lane.INLINE
    return cost


async def turns_of(reads: int, read: Callable[[int], Any]) -> tuple[int, int]:
    """Read one after another beside a task that only counts: its turns, and the most reads without one."""
    turns = last = most = 0
    running = True

    async def count() -> None:
        nonlocal turns
        while running:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await asyncio.sleep(0)
    since = 0
    for i in range(reads):
        await read(i)
        since += 1
        if turns != last:
            last, since = turns, 0
        most = max(most, since)
    running = False
    await counting
    return turns, most


@pytest.mark.parametrize("cache", [False, True])
async def test_a_loop_of_awaited_reads_gives_every_turn_back_in_time(
    db: Database, monkeypatch: pytest.MonkeyPatch, cache: bool
) -> None:
    """By a clock that goes on by 10 microseconds a look, so that the machine has no say: 1 ms per turn."""
    cost = await inline(db)
    clock = Clock(0.00001)
    monkeypatch.setattr(database_module, "perf_counter", clock)
    monkeypatch.setattr(inline_module, "perf_counter", clock)

    async def read(i: int) -> None:
        assert await db.fetch_value(POINT, (i % 100,), cache=cache) == i % 100

    turns, most = await turns_of(20_000, read)
    assert cost.inline
    assert db.stats().reads_inline + db.stats().reads_kept >= 20_000
    assert most <= 101, "each read looks twice"
    assert turns >= 20_000 // 101


@pytest.mark.slow
async def test_a_ticker_beside_a_million_reads_is_punctual(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the time that this thread had a core: what other processes take is not the reads' doing."""
    await inline(db)
    loop = asyncio.get_running_loop()
    late: list[float] = []

    async def tick() -> None:
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            late.append(loop.time() - due)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "time", thread_time)  # the loop never waits here, so this clock always goes on
        ticking = asyncio.create_task(tick())
        await asyncio.sleep(0)
        for i in range(1_000_000):
            await db.fetch_value(POINT, (i % 100,))
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
    late.sort()
    middle, p99 = late[len(late) // 2], late[int(len(late) * 0.99)]
    print(f"{len(late)} ticks, late by {middle * 1000:.2f} ms, P99 {p99 * 1000:.2f} ms")
    assert len(late) > 100
    assert p99 < 0.005


class Inline:
    """Counts the runs on the loop, and those of them that went over what a run may take.

    By a clock of its own, so that no run is long because the machine is busy.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float] | None = None) -> None:
        clock = clock or Clock(0.00001)
        monkeypatch.setattr(database_module, "perf_counter", clock)
        monkeypatch.setattr(inline_module, "perf_counter", clock)
        self.runs = self.over = 0
        real = InlineReader.run

        def run(reader: InlineReader, profile: Any, *args: Any) -> Any:
            self.runs += 1
            found = real(reader, profile, *args)
            if not profile.cost.inline:
                self.over += 1
            return found

        monkeypatch.setattr(InlineReader, "run", run)


LONGER: dict[str, tuple[str, int, int]] = {
    "more steps": ("SELECT total(n) FROM t WHERE id < ?", 3, ROWS),
    "more rows": ("SELECT id FROM t ORDER BY id LIMIT ?", 3, ROWS),
}


@pytest.mark.parametrize("kind", LONGER)
async def test_other_parameters_that_make_a_read_long_hold_the_loop_up_once(
    db: Database, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    sql, few, many = LONGER[kind]
    await db.execute_many("INSERT INTO t VALUES (?, ?)", [(i, 1) for i in range(100, ROWS)])
    cost = await inline(db, sql)
    seen = Inline(monkeypatch)
    for _ in range(10):
        await db.fetch_all(sql, (few,))
    assert (seen.runs, seen.over) == (10, 0)
    for _ in range(10):
        await db.fetch_all(sql, (many,))
    assert (seen.runs, seen.over) == (11, 1)
    assert cost.lane is not Lane.INLINE


async def test_data_that_grew_holds_the_loop_up_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    sql = "SELECT total(n) FROM t"
    await inline(db, sql)
    seen = Inline(monkeypatch)
    for _ in range(10):
        assert await db.fetch_value(sql) == sum(range(100))
    await db.execute_many("INSERT INTO t VALUES (?, ?)", [(i, 0) for i in range(100, ROWS)])
    for _ in range(10):
        assert await db.fetch_value(sql) == sum(range(100))
    assert (seen.runs, seen.over) == (11, 1)


def busy(ms: Any) -> int:
    """One step of SQLite's that needs so much of a core."""
    until = thread_time() + ms / 1000
    while thread_time() < until:
        pass
    return 1


def with_function(db: Database, name: str, function: Callable[..., Any]) -> None:
    """For the readers that there are, and those to come."""
    engine = db._engine
    assert engine is not None
    real = engine.open_reader

    def open_reader() -> Connection:
        connection = real()
        connection.db.create_scalar_function(name, function)
        return connection

    engine.open_reader = open_reader  # type: ignore[method-assign]  # each reader has the function
    reader_of(db).connection.db.create_scalar_function(name, function)


async def test_one_long_step_which_nothing_can_interrupt_holds_the_loop_up_once(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `count(*)` of a table that has grown is one."""
    with_function(db, "busy", busy)
    sql = "SELECT busy(?)"
    await inline(db, sql)
    seen = Inline(monkeypatch, perf_counter)
    for _ in range(5):
        assert await db.fetch_value(sql, (STALL_S * 1000 + 1,)) == 1
    assert (seen.runs, seen.over) == (1, 1)


async def test_many_short_steps_that_need_a_core_for_long_are_interrupted(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few enough for the budget of steps, and each of them slow."""
    with_function(db, "busy", busy)
    await db.execute_many("INSERT INTO t VALUES (?, ?)", [(i, 0) for i in range(100, 5_000)])
    sql = "SELECT total(busy(0.1)) FROM t WHERE id < 1000"
    await inline(db, sql)
    seen = Inline(monkeypatch)
    reader = reader_of(db)
    before = thread_time()
    assert reader.run(await db._profile(sql), None, 2, perf_counter()) is MISS  # type: ignore[arg-type]  # a shape
    assert thread_time() - before < 0.09, "a thousand rows would take as much"
    assert (seen.runs, seen.over) == (1, 1)


async def test_large_results_now_and_then_keep_a_statement_off_the_loop(db: Database) -> None:
    """However quick the others are: each would hold the loop up, and nobody knows which it will be."""
    await db.execute_many("INSERT INTO t VALUES (?, ?)", [(i, 0) for i in range(100, 3 * MOST_ROWS)])
    sql = "SELECT id FROM t ORDER BY id LIMIT ?"
    cost = (await db._profile(sql)).cost
    cost.proof = 8
    for _ in range(5):
        for limit in (1, 2, 3, 4, 5, 2 * MOST_ROWS):
            assert len(await db.fetch_all(sql, (limit,))) == limit
    assert not cost.inline
    for _ in range(8):
        await db.fetch_all(sql, (1,))
    assert cost.inline


async def test_a_lock_is_not_waited_for_on_the_loop(db: Database, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    await db.execute("ATTACH ? AS other", (str(other),))
    await db.execute("CREATE TABLE other.u(n)")
    await db.execute("INSERT INTO other.u VALUES (7)")
    sql = "SELECT n FROM other.u"
    cost = await inline(db, sql)
    assert await db.fetch_value(sql) == 7
    with lock_held(other, "BEGIN EXCLUSIVE") as process:
        profile = await db._profile(sql)
        found = reader_of(db).run(profile, None, 2, perf_counter())  # type: ignore[arg-type]  # a shape
        assert found is MISS
        assert cost.inline, "it is not the statement's fault"
        read = asyncio.create_task(db.fetch_value(sql))
        await asyncio.sleep(0)
        assert not read.done()
        assert process.stdin is not None
        process.stdin.close()
        assert await read == 7


async def test_a_connection_that_cannot_be_had_at_once_is_not_waited_for(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await inline(db)
    reader = reader_of(db)
    clock = Clock(0.0)
    monkeypatch.setattr(database_module, "perf_counter", clock)
    monkeypatch.setattr(inline_module, "perf_counter", clock)
    waits: list[int] = []
    real = reader._open

    def open_reader(wait_ms: int) -> Connection:
        waits.append(wait_ms)
        if len(waits) < 3:
            raise apsw.BusyError("database is locked")
        return real(wait_ms)

    monkeypatch.setattr(reader, "_open", open_reader)
    broken = reader.connection
    reader._replace()
    runs = reader.reads
    assert await db.fetch_value(POINT, (5,)) == 5
    clock.now += 2
    assert await db.fetch_value(POINT, (5,)) == 5
    assert reader.connection is broken
    clock.now += 2
    assert await db.fetch_value(POINT, (5,)) == 5
    assert reader.connection is not broken
    assert waits == [0, 0, 0]
    assert reader.reads == runs
    assert await db.fetch_value(POINT, (5,)) == 5
    assert reader.reads == runs + 1


class SlowDisk(apsw.VFS):
    """Every page that is read from the file takes a while, once it is told so."""

    def __init__(self, usual: str) -> None:
        self.usual = usual
        self.is_slow = False
        self.by_thread: dict[int, int] = {}
        super().__init__("slow disk", usual, makedefault=True)

    def xOpen(self, name: Any, flags: Any) -> Any:  # noqa: N802  # apsw's name
        return SlowFile(self, name, flags)


class SlowFile(apsw.VFSFile):
    def __init__(self, disk: SlowDisk, name: Any, flags: Any) -> None:
        self._disk = disk
        super().__init__(disk.usual, name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802  # apsw's name
        if self._disk.is_slow:
            thread = threading.get_ident()
            self._disk.by_thread[thread] = self._disk.by_thread.get(thread, 0) + 1
            threading.Event().wait(STALL_S * 1.5)
        return super().xRead(amount, offset)


@pytest.fixture
def disk() -> Iterator[SlowDisk]:
    usual = apsw.vfs_names()[0]
    disk = SlowDisk(usual)
    yield disk
    apsw.set_default_vfs(usual)
    disk.unregister()


async def test_a_disk_that_stalls_sends_reads_to_the_lanes_until_it_is_good(disk: SlowDisk, tmp_path: Path) -> None:
    """Each page comes late: only the first few reads hold the loop up."""
    async with Database(tmp_path / "a.db", Settings(cache_bytes=0, page_cache_kib=16)) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, n, filler)")
        await db.execute_many("INSERT INTO t VALUES (?, ?, ?)", [(i, i, "x" * 2_000) for i in range(400)])
        cost = await inline(db)
        reader = reader_of(db)
        disk.is_slow = True
        for i in range(200):
            cost.lane = Lane.INLINE  # whatever the single slow runs say of the statement
            assert await db.fetch_value(POINT, (i,)) == i
            if reader._stalls.mode is Mode.OFF:
                break
        assert reader._stalls.mode is Mode.OFF
        on_the_loop = disk.by_thread[threading.get_ident()]
        for i in range(200, 210):
            cost.lane = Lane.INLINE
            assert await db.fetch_value(POINT, (i,)) == i
        assert disk.by_thread[threading.get_ident()] == on_the_loop
        assert reader._stalls.mode is Mode.OFF
        disk.is_slow = False
        reader._stalls.until = perf_counter()  # its time is over
        cost.lane = Lane.INLINE
        before = reader.reads
        assert await db.fetch_value(POINT, (300,)) == 300
        assert reader.reads == before + 1
        assert reader._stalls.mode is Mode.WATCH
        reader._stalls.until = perf_counter()
        assert await db.fetch_value(POINT, (301,)) == 301
        assert reader._stalls.mode is Mode.TRUST
        assert "run" not in vars(reader), "and nothing is left of it in the way of a read"


async def test_the_loop_is_held_up_three_times_by_a_disk_that_stalls(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two slow reads raise the suspicion, the third is measured."""
    cost = await inline(db)
    clock = Clock(STALL_S * 1.1)
    monkeypatch.setattr(database_module, "perf_counter", clock)
    monkeypatch.setattr(inline_module, "perf_counter", clock)
    monkeypatch.setattr(DiskWaits, "waited_s", lambda *_: STALL_S)
    runs = db.stats().reads_inline
    for _ in range(20):
        cost.lane = Lane.INLINE
        await db.fetch_value(POINT, (1,))
    assert db.stats().reads_inline - runs == 3


async def test_a_read_that_waited_for_something_else_is_not_the_disks_fault(db: Database) -> None:
    """No page was missing: whatever it waited for, a lane would not help."""

    def wait(ms: Any) -> int:
        threading.Event().wait(ms / 1000)
        return 1

    with_function(db, "wait", wait)
    connection = reader_of(db).connection
    waits = DiskWaits()
    waits.begin(connection)
    assert connection.db.execute("SELECT wait(8)").fetchall() == [(1,)]
    assert waits.waited_s(connection, STALL_S) == 0.0
    waits.begin(connection)
    connection.db.execute("SELECT total(n) FROM t").fetchall()
    connection.db.release_memory()
    waits.close()
    waits.close()


async def test_computing_is_no_waiting(db: Database) -> None:
    with_function(db, "busy", busy)
    await db.execute("INSERT INTO t VALUES (1000, 1)")  # so that the next read finds its pages gone
    connection = reader_of(db).connection
    waits = DiskWaits()
    waits.begin(connection)
    connection.db.execute("SELECT busy(8), total(n) FROM t").fetchall()
    assert waits.waited_s(connection, STALL_S) == 0.0
    waits.close()
