"""What runs in the heavy lanes at the same time, what they learn, and how the quick lane answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from millpond import Database
from millpond.engine.sqlite import heavy_lane, platform, quick_lane
from millpond.engine.sqlite import lanes as lanes_module
from millpond.engine.sqlite.calls import ReadCall
from millpond.engine.sqlite.connection import ALL, VALUE, Connection
from millpond.engine.sqlite.lanes import Lanes
from millpond.engine.sqlite.thread_meter import ThreadMeter
from millpond.statements import demand as demand_module
from millpond.statements.cost import Lane
from millpond.statements.demand import NOTHING, UNKNOWN, Demand, Spent
from tests.waiting import until

CPU = Spent(wall_s=0.02, cpu_s=0.02, queued_s=0.0, rows=1)
STORAGE = Spent(wall_s=0.02, cpu_s=0.0, queued_s=0.0, rows=1)
ROWS = Spent(wall_s=0.004, cpu_s=0.0035, queued_s=0.0, rows=10_000)
NEVER_S = 1e9
COUNT_TO = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < ?) SELECT count(*) FROM c"
MANY = "SELECT id, 'a text' AS text, 7 AS seven FROM many"
ROW_COUNT = 10_000
HELD = "SELECT held()"
ON_TWO_CORES = pytest.mark.skipif(not platform.linux_facts, reason="only Linux tells what a thread waits for")


class Gate:
    """What `held()` waits at, inside SQLite, until the test lets it go on."""

    def __init__(self) -> None:
        self.inside = 0
        self.open = threading.Event()
        self._lock = threading.Lock()

    def held(self, *_: Any) -> int:
        with self._lock:
            self.inside += 1
        assert self.open.wait(20)
        return 1


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def db(tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(lanes_module, "cores", lambda: 2)
    async with Database(tmp_path / "a.db", {"max_connections": 10, "cache_bytes": 0}) as db:
        engine = db._engine
        assert engine is not None
        real = engine.open_reader

        def open_reader() -> Connection:
            connection = real()
            connection.db.create_scalar_function("held", gate.held, 0)
            return connection

        engine.open_reader = open_reader  # type: ignore[method-assign]  # each reader has the function
        assert engine.inline is not None
        engine.inline.connection.db.create_scalar_function("held", gate.held, 0)
        yield db
        gate.open.set()


def lanes_of(db: Database) -> Lanes:
    assert db._engine is not None
    assert db._engine.lanes is not None
    return db._engine.lanes


async def heavy(db: Database, sql: str, spent: Spent | None = None) -> Any:
    """The statement's cost: it goes to the heavy lanes, and is expected to use what it has spent before."""
    cost = (await db._profile(sql)).cost
    cost.lane = Lane.HEAVY
    cost.demand = None if spent is None else Demand(spent)
    return cost


def begun(db: Database, sql: str, how_many: int) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(db.fetch_value(sql, timeout=60)) for _ in range(how_many)]


async def test_reads_that_wait_for_storage_run_all_at_once(db: Database, gate: Gate) -> None:
    await heavy(db, HELD, STORAGE)
    reads = begun(db, HELD, 8)
    await until(lambda: gate.inside == 8)
    gate.open.set()
    assert await asyncio.gather(*reads) == [1] * 8


@pytest.mark.parametrize(("spent", "at_once"), [(CPU, 2), (ROWS, 1), (None, 1)])
async def test_reads_that_use_cores_or_the_interpreter_run_as_many_as_there_are_tokens(
    db: Database, gate: Gate, monkeypatch: pytest.MonkeyPatch, spent: Spent | None, at_once: int
) -> None:
    monkeypatch.setattr(heavy_lane, "LOOK_AFTER_S", NEVER_S)
    monkeypatch.setattr(heavy_lane, "UNKNOWN_FOR_S", NEVER_S)
    await heavy(db, HELD, spent)
    reads = begun(db, HELD, 5)
    await until(lambda: gate.inside == at_once)
    lanes = lanes_of(db)
    assert len(lanes._queue) == 5 - at_once
    assert len(lanes._lanes) == at_once, "no lane is opened for what would not run"
    gate.open.set()
    assert await asyncio.gather(*reads) == [1] * 5


@ON_TWO_CORES
async def test_a_read_that_waits_though_it_was_expected_to_compute_is_found_out_while_it_runs(
    db: Database, gate: Gate
) -> None:
    """Its cores are given to others, again and again: at last all wait at once."""
    await heavy(db, HELD, CPU)
    reads = begun(db, HELD, 6)
    await until(lambda: gate.inside == 6)
    gate.open.set()
    assert await asyncio.gather(*reads) == [1] * 6


@ON_TWO_CORES
async def test_so_is_one_that_runs_for_the_first_time(db: Database, gate: Gate) -> None:
    await heavy(db, HELD)
    reads = begun(db, HELD, 3)
    await until(lambda: gate.inside == 3)
    gate.open.set()
    assert await asyncio.gather(*reads) == [1] * 3


async def test_a_read_known_to_need_the_interpreter_keeps_it_though_it_seems_to_wait(
    db: Database, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[float] = []
    real = ThreadMeter.look

    def look(meter: ThreadMeter) -> Any:
        found = real(meter)
        looked.append(monotonic())
        return found

    monkeypatch.setattr(ThreadMeter, "look", look)
    await heavy(db, HELD, ROWS)
    reads = begun(db, HELD, 3)
    await until(lambda: len(looked) >= 3)
    assert gate.inside == 1
    gate.open.set()
    assert await asyncio.gather(*reads) == [1] * 3


@ON_TWO_CORES
async def test_the_lanes_learn_what_statements_use(db: Database, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demand_module, "ROW_S", 3e-6)  # however busy the machine, these rows are many
    await db.execute("CREATE TABLE many(id INTEGER PRIMARY KEY)")
    await db.execute_many("INSERT INTO many VALUES (?)", [(i,) for i in range(ROW_COUNT)])
    scan, rows, storage = await heavy(db, COUNT_TO), await heavy(db, MANY), await heavy(db, HELD)
    assert await db.fetch_value(COUNT_TO, (400_000,)) == 400_000
    for _ in range(5):
        rows.lane = Lane.HEAVY
        assert len(await db.fetch_all(MANY)) == ROW_COUNT
    read = asyncio.create_task(db.fetch_value(HELD))
    await until(lambda: gate.inside)
    then = monotonic()
    await until(lambda: monotonic() > then + 0.02)
    gate.open.set()
    await read
    assert scan.demand.use.cpu > 0.5
    assert scan.demand.use.gil == 0.0
    assert rows.demand.use.gil > 0.3
    assert storage.demand.use == NOTHING


async def test_the_quick_lane_has_a_guess_for_the_heavy_ones(
    db: Database, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a crowd that asks for something new come to the quick lane, and all but one go on with its guess."""
    spent = count(0.0, 0.0018)
    monkeypatch.setattr(quick_lane, "thread_time", lambda: next(spent))  # as if each took so much of a core
    await db.execute("CREATE TABLE many(id INTEGER PRIMARY KEY)")
    await db.execute_many("INSERT INTO many VALUES (?)", [(i,) for i in range(ROW_COUNT)])
    assert await db.fetch_value("SELECT 1") == 1  # its connection is open from here on
    rows, storage = (await db._profile(MANY)).cost, (await db._profile(HELD)).cost
    assert len(await db.fetch_all(MANY)) == ROW_COUNT
    assert rows.demand is not None
    assert rows.demand.use.gil > 0.0
    read = asyncio.create_task(db.fetch_value(HELD))
    await until(lambda: gate.inside)
    then = monotonic()
    await until(lambda: monotonic() > then + 0.02)
    gate.open.set()
    await read
    assert storage.demand is not None
    assert storage.demand.use == NOTHING
    endless = asyncio.create_task(db.fetch_value(COUNT_TO, (10**12,)))
    lanes = lanes_of(db)
    await until(lambda: any(lane.current is not None for lane in lanes._lanes))
    demand = (await db._profile(COUNT_TO)).cost.demand
    assert demand is not None
    assert demand.use.cpu == 1.0, "it was interrupted by its steps"
    endless.cancel()
    await asyncio.gather(endless, return_exceptions=True)


async def test_what_ends_soon_is_not_measured(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heavy_lane, "TOLD_APART_S", NEVER_S)
    cost = await heavy(db, COUNT_TO)
    assert await db.fetch_value(COUNT_TO, (10,)) == 10
    assert cost.demand is None


@ON_TWO_CORES
async def test_only_a_thread_that_waits_for_something_can_be_measured_from_outside(db: Database) -> None:
    await heavy(db, COUNT_TO)
    read = asyncio.create_task(db.fetch_value(COUNT_TO, (10**12,)))
    lanes = lanes_of(db)
    await until(lambda: any(lane.current is not None for lane in lanes._lanes))
    (lane,) = [lane for lane in lanes._lanes if lane.current is not None]
    meter = lane._meter
    assert meter is not None
    await until(lambda: meter.look() is None)
    read.cancel()
    await asyncio.gather(read, return_exceptions=True)
    await until(lambda: meter.look() is not None)
    meter.close()
    assert meter.look() is None
    meter.close()


async def test_sessions_need_no_tokens(db: Database, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heavy_lane, "LOOK_AFTER_S", NEVER_S)
    await heavy(db, HELD, CPU)
    reads = begun(db, HELD, 4)
    await until(lambda: gate.inside == 2)
    async with db.snapshot() as snap:
        assert await snap.fetch_value("SELECT 7") == 7
        assert [row[0] async for row in db.iterate(COUNT_TO, (3,))] == [3]
    gate.open.set()
    assert await asyncio.gather(*reads) == [1] * 4


def read_call(db: Database, sql: str, params: Any = None, shape: Any = VALUE) -> ReadCall:
    port, now = db._port, monotonic()
    assert db._engine is not None
    profile = db._engine.profiles.get(sql)
    assert profile is not None
    return ReadCall(
        port.waiter(), profile, params, shape, deadline=now + 30, priority=1, caller=port.caller(), submitted=now
    )


async def test_cheap_reads_are_answered_by_one_wake_of_the_loop(
    db: Database, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    for sql in (HELD, "SELECT ?"):
        await db._profile(sql)
    lanes, wakes = lanes_of(db), 0
    real = db._loop.call_soon_threadsafe  # type: ignore[union-attr]  # it is open

    def call_soon_threadsafe(*args: Any) -> Any:
        nonlocal wakes
        wakes += 1
        return real(*args)

    monkeypatch.setattr(db._loop, "call_soon_threadsafe", call_soon_threadsafe)
    now = monotonic()
    monkeypatch.setattr(quick_lane, "monotonic", lambda: now)  # the batch's time is not up before all are done
    lanes.submit_quick(read_call(db, HELD))
    await until(lambda: gate.inside)
    calls = [read_call(db, "SELECT ?", (i,)) for i in range(200)]
    for call in calls:
        lanes.submit_quick(call)
    gate.open.set()
    assert await asyncio.gather(*(call.waiter for call in calls)) == list(range(200))
    assert wakes == 1


async def test_reads_that_turn_out_to_be_long_do_not_wait_in_the_quick_lane(db: Database, gate: Gate) -> None:
    """All come while their statement is unknown; the first has told."""
    cost = (await db._profile(HELD)).cost
    lanes = lanes_of(db)
    reads = begun(db, HELD, 3)
    await until(lambda: gate.inside == 1)
    await until(lambda: lanes.quick is not None and len(lanes.quick.inbox) == 2)
    cost.lane, cost.demand = Lane.HEAVY, Demand(STORAGE)
    gate.open.set()
    assert await asyncio.gather(*reads) == [1] * 3
    assert lanes.quick_reads == 1
    assert lanes.heavy_reads == 2


async def test_the_least_use_is_expected_of_none_that_is_unknown(db: Database) -> None:
    await heavy(db, COUNT_TO)
    assert read_call(db, COUNT_TO).wants is UNKNOWN
    await heavy(db, COUNT_TO, CPU)
    assert read_call(db, COUNT_TO, shape=ALL).wants.cpu == 1.0
