"""Cheap writes that run on the loop, in a batch of its turn: committed at its end, harmless to each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from millpond import Database, Settings, Transaction, errors
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.writer import Writer

from .outside import ask, lock_held, run

INSERT = "INSERT INTO t(name) VALUES (?)"


@pytest.fixture(params=["committed", "synced"])
async def db(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """One whose loop commits by itself, and one whose thread does."""
    settings = Settings(max_lease=0.3, batch_budget_ms=1_000, visible=request.param)
    async with Database(tmp_path / "a.db", settings) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        for i in range(8):
            await prove(db, i)
        yield db


def by_function(db: Database, name: str) -> Any:
    def insert(tx: Transaction) -> None:
        tx.execute(INSERT, (name,))

    return db.write(insert)


async def by_transaction(db: Database, name: str, then: float = 0.0) -> None:
    async with db.transaction() as tx:
        await tx.execute(INSERT, (name,))
        if then:
            await asyncio.sleep(then)


async def prove(db: Database, i: int) -> None:
    """Each kind of write is queued until it is known to be cheap."""
    await db.execute(INSERT, (f"s{i}",))
    await by_function(db, f"f{i}")
    await by_transaction(db, f"t{i}")


def writer(db: Database) -> Writer:
    assert db._engine is not None
    return db._engine.writer


async def warm(db: Database) -> None:
    """Until a write finds the writer awake, and runs on the loop."""
    for i in range(100):
        task = asyncio.create_task(db.execute("INSERT OR IGNORE INTO t(name) VALUES (?)", (f"warm{i}",)))
        await asyncio.sleep(0)
        if writer(db)._turn_batch is not None:
            await task
            return
        await task
    raise AssertionError("100 cheap writes, and none ran on the loop")


async def here(db: Database, *writes: Any) -> list[asyncio.Task[Any]]:
    """Start writes in one turn of the loop, which all run there."""
    tasks = [asyncio.ensure_future(write) for write in writes]
    await asyncio.sleep(0)
    batch = writer(db)._turn_batch
    assert batch is not None, "the writer was not free"
    assert len(batch.done) + batch.leases >= 1
    return tasks


async def names(db: Database, like: str = "x%") -> list[str]:
    return [row[0] for row in await db.fetch_all("SELECT name FROM t WHERE name LIKE ? ORDER BY id", (like,))]


async def test_writes_of_a_turn_share_one_commit(db: Database) -> None:
    await warm(db)
    before = db.stats()
    writes = [kind(f"x{i}{n}") for i in range(8) for n, kind in enumerate(kinds(db))]
    await asyncio.gather(*await here(db, *writes))
    after = db.stats()
    assert after.writes - before.writes == 24
    assert after.batches - before.batches == 1
    assert after.leases - before.leases == 8
    assert len(await names(db)) == 24
    assert ask(db._location.path, "SELECT count(*) FROM t WHERE name LIKE 'x%'") == "[(24,)]"


def kinds(db: Database) -> list[Any]:
    return [
        lambda name: db.execute(INSERT, (name,)),
        lambda name: by_function(db, name),
        lambda name: by_transaction(db, name),
    ]


async def test_who_fails_hears_it_and_harms_nobody(db: Database) -> None:
    await warm(db)
    writes = [kind(name) for name in ("x1", "s0") for kind in kinds(db)]
    found = await asyncio.gather(*await here(db, *writes), return_exceptions=True)
    assert [type(one) for one in found[1:]] == [errors.UniqueViolation] * 5  # the first x1 is in
    assert await names(db) == ["x1"]


async def test_a_write_is_seen_by_nobody_before_its_commit(db: Database) -> None:
    await warm(db)
    tasks = await here(db, db.execute(INSERT, ("x",)))
    assert not tasks[0].done()
    assert await db.fetch_value("SELECT count(*) FROM t WHERE name = 'x'") in (0, 1)
    await tasks[0]
    assert await names(db) == ["x"]


async def test_where_the_transaction_is_lost_the_innocent_run_again(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await warm(db)
    real = Connection.query

    def full(self: Connection, profile: Any, params: Any, shape: Any) -> Any:
        if params == ("poison",):
            self.run("ROLLBACK")
            raise apsw.FullError("database or disk is full")
        return real(self, profile, params, shape)

    monkeypatch.setattr(Connection, "query", full)
    before = db.stats().reruns
    tasks = await here(
        db,
        db.execute(INSERT, ("x1",)),
        by_function(db, "x2"),
        by_transaction(db, "x3"),
        db.execute(INSERT, ("poison",)),
    )
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [
        type(found[0]),
        type(None),
        errors.TransactionLost,
        errors.DiskFull,
    ]
    assert not isinstance(found[0], BaseException)
    assert db.stats().reruns - before == 2
    assert await names(db) == ["x1", "x2"]


async def test_a_loop_that_hangs_does_not_keep_the_lock(db: Database) -> None:
    await warm(db)
    tasks = await here(db, db.execute(INSERT, ("x1",)))
    other = run(
        "import apsw, sys; c = apsw.Connection(sys.argv[1]); c.set_busy_timeout(10_000); "
        "c.execute(\"INSERT INTO t(name) VALUES ('x2')\")",
        db._location.path,
    )  # this loop does nothing else meanwhile
    assert other.returncode == 0, other.stderr
    assert await names(db) == ["x1", "x2"]
    await asyncio.gather(*tasks)


async def test_a_lease_that_outlives_its_turn_keeps_the_others_waiting_and_no_longer_than_its_limit(
    db: Database,
) -> None:
    await warm(db)
    tasks = await here(db, by_transaction(db, "x1", then=0.05), db.execute(INSERT, ("x2",)))
    await asyncio.gather(*tasks)
    assert await names(db) == ["x1", "x2"]
    for i in range(20):
        await by_transaction(db, f"again{i}")
    await warm(db)
    tasks = await here(db, by_transaction(db, "x3", then=5.0), db.execute(INSERT, ("x4",)))
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], errors.LeaseExpired)
    assert await names(db) == ["x1", "x2", "x4"]


async def test_a_cancelled_lease_of_a_turn_is_undone(db: Database) -> None:
    await warm(db)
    tasks = await here(db, by_transaction(db, "x1", then=5.0))
    tasks[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    await db.execute(INSERT, ("x2",))
    assert await names(db) == ["x2"]


async def test_nothing_overtakes_what_waits(db: Database) -> None:
    await warm(db)
    many = ", ".join("(?)" for _ in range(3))
    first, queued, last = await here(
        db,
        db.execute(INSERT, ("x1",)),
        db.execute(f"INSERT INTO t(name) VALUES {many}", ("x2", "x3", "x4")),  # never seen: not known to be cheap
        db.execute(INSERT, ("x5",)),
    )
    await asyncio.gather(first, queued, last)
    assert await names(db) == ["x1", "x2", "x3", "x4", "x5"]


async def test_another_process_with_the_lock_is_waited_for_in_the_thread(db: Database) -> None:
    await warm(db)
    with lock_held(db._location.path):
        task = asyncio.create_task(db.execute(INSERT, ("x1",)))
        started = asyncio.get_running_loop().time()
        await asyncio.sleep(0.02)
        assert asyncio.get_running_loop().time() - started < 1.0
        assert not task.done()
    await task
    assert await names(db) == ["x1"]


async def test_a_write_that_wants_a_sync_joins_those_without_if_the_log_is_synced_apart(
    db: Database,
) -> None:
    await warm(db)
    tasks = await here(
        db,
        db.execute(INSERT, ("x1",), durability="normal"),
        db.execute(INSERT, ("x2",), durability="full"),
    )
    batch = writer(db)._turn_batch
    assert batch is not None
    mixes = db._settings.visible == "committed"
    assert (batch.full, len(batch.done)) == ((True, 2) if mixes else (False, 1))
    await asyncio.gather(*tasks)
    assert await names(db) == ["x1", "x2"]


async def test_closing_answers_what_ran(tmp_path: Path) -> None:
    db = Database(tmp_path / "b.db")
    await db.open()
    await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    for i in range(8):
        await prove(db, i)
    await warm(db)
    tasks = await here(db, *(kind(f"x{n}") for n, kind in enumerate(kinds(db))))
    await db.close()
    await asyncio.gather(*tasks)
    assert ask(tmp_path / "b.db", "SELECT count(*) FROM t WHERE name LIKE 'x%'") == "[(3,)]"


async def test_a_function_that_was_slow_on_the_loop_goes_to_the_thread(db: Database) -> None:
    import threading
    import time

    seen: list[tuple[str, float]] = []
    wait = 0.0

    def work(tx: Transaction) -> None:
        seen.append((threading.current_thread().name, wait))
        end = time.perf_counter() + wait
        while time.perf_counter() < end:
            pass
        tx.execute("UPDATE t SET name = name WHERE id = 1")

    for _ in range(50):
        await db.write(work)
    assert seen[-1][0] != "millpond-writer"
    wait = 0.02
    for _ in range(5):
        await db.write(work)
    slow = [thread for thread, length in seen if length]
    assert slow.count("millpond-writer") >= 4, slow


async def test_a_forgotten_coroutine_does_not_hold_the_writer(db: Database) -> None:
    waiting = by_transaction(db, "x1").__await__()

    async def begin() -> None:
        next(waiting)

    with lock_held(db._location.path):
        await asyncio.create_task(begin())
        waiting.close()
        last = asyncio.create_task(db.execute(INSERT, ("x2",)))
        await asyncio.sleep(0)
    await asyncio.wait_for(last, 0.25)
    assert await names(db) == ["x2"]
