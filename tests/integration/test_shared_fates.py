"""Who shares a batch, a connection or a turn of the loop with something that goes wrong is not harmed by it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from millpond import Database, Settings, Transaction, database, errors, front

from .outside import ask, run

INSERT = "INSERT INTO t(a) VALUES (?)"
ENOUGH = 12
"""So often a statement, or a line that opens transactions, is run to be known as cheap."""
SLOW = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < ?) SELECT count(*) FROM c"


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db", Settings(converters={"JSON": json.loads}, batch_budget_ms=1_000)) as db:
        await db.execute_script(
            "CREATE TABLE t(a); CREATE TABLE j(id INTEGER PRIMARY KEY, j JSON); CREATE TABLE u(a INTEGER PRIMARY KEY);"
            "CREATE TABLE p(id INTEGER PRIMARY KEY);"
            "CREATE TABLE c(p REFERENCES p(id) DEFERRABLE INITIALLY DEFERRED); INSERT INTO p VALUES (1)"
        )
        yield db


async def quick(db: Database, a: object, *, timeout: float | None = None, hold: float = 0.0) -> None:
    async with db.transaction(timeout=timeout) as tx:
        await tx.execute(INSERT, (a,))
        if hold:
            await asyncio.sleep(hold)


async def values(db: Database, table: str = "t") -> list[Any]:
    return [row[0] for row in await db.fetch_all(f"SELECT a FROM {table} ORDER BY rowid", cache=False)]


async def test_the_step_budget_strikes_reads_and_never_the_transaction_around_them(tmp_path: Path) -> None:
    """Ticks of a read that has ended once interrupted the BEGIN after it: stale reads for ever."""
    async with Database(tmp_path / "a.db", Settings(cache_bytes=0, step_budget=1_000)) as db:
        await db.execute("CREATE TABLE t(a)")
        await db.execute_many(INSERT, [(0,)] * 90)
        expected = 90

        async def read() -> None:
            assert await db.fetch_value("SELECT count(a) FROM t") == expected

        for turn in range(600):
            await asyncio.gather(*(read() for _ in range(4)))
            if turn % 100 == 0:
                await db.execute(INSERT, (0,))
                expected += 1
        assert db.stats().reads_inline > 1_200


async def test_the_writer_tired_of_a_slow_loop_leaves_no_transaction_behind(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop loses the processor between taking the connection and BEGIN; meanwhile the thread gives up on it."""
    for i in range(ENOUGH):
        await db.execute(INSERT, (i,))
    engine, loop_thread = db._engine, threading.get_ident()
    assert engine is not None
    real, struck = engine.verify_files, threading.Event()

    def slow() -> errors.Error | None:
        batch = engine.writer._turn_batch
        if threading.get_ident() == loop_thread and batch is not None and not struck.is_set():
            struck.set()
            while batch.grant.open:
                threading.Event().wait(0.005)
        return real()

    monkeypatch.setattr(engine, "verify_files", slow)
    for i in range(50):
        await db.execute(INSERT, (i,))
        if struck.is_set():
            break
    assert struck.is_set()
    connection = engine.writer.connection
    assert connection is not None
    assert not connection.db.in_transaction
    await db.execute("INSERT INTO t SELECT 'queued'")
    assert (await values(db))[-1] == "queued"


@pytest.mark.parametrize("warm", [0, 6], ids=["in the thread", "on the loop"])
@pytest.mark.parametrize("company", [False, True], ids=["alone", "in company"])
async def test_a_write_whose_rows_cannot_be_given_is_not_applied(db: Database, warm: int, company: bool) -> None:
    sql = "INSERT INTO j(j) VALUES (?) RETURNING j"
    for _ in range(warm):
        await db.fetch_value(sql, ("{}",))
    before = await db.fetch_value("SELECT count(*) FROM j")
    calls = [db.fetch_value(sql, ("not json",))]
    if company:
        calls.insert(0, db.execute(sql, ("{}",)))
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(found[-1], errors.DataError)
    assert found[-1].applied == "no"
    assert await db.fetch_value("SELECT count(*) FROM j") == before + company


async def test_a_failing_statement_of_a_profile_that_is_out_of_date_leaves_nothing(db: Database) -> None:
    sql = "INSERT INTO t(a) VALUES (?), (?)"
    await db.execute(sql, (1, 2))
    path = db._location.path
    trigger = "CREATE TRIGGER g BEFORE INSERT ON t WHEN new.a < 0 BEGIN SELECT RAISE(FAIL, 'no'); END"
    assert run(f"import apsw; apsw.Connection({path!r}).execute({trigger!r})").returncode == 0
    found = await asyncio.gather(db.execute(sql, (3, -3)), db.execute(INSERT, (4,)), return_exceptions=True)
    assert isinstance(found[0], errors.Error)
    assert found[0].applied == "no"
    assert await values(db) == [1, 2, 4]


async def test_a_deadline_that_passes_before_the_commit_is_not_called_unapplied(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "LATE_GRACE_S", 0.05)
    monkeypatch.setattr(database, "LATE_GRACE_S", 0.05)
    for _ in range(ENOUGH):
        await quick(db, -1)
    found = await asyncio.gather(quick(db, 1, timeout=0.05), quick(db, 2, hold=1.0), return_exceptions=True)
    applied = getattr(found[0], "applied", "yes")
    assert (1 in await values(db)) or applied != "yes"
    assert applied != "no" or 1 not in await values(db)


async def test_a_function_that_goes_on_after_its_transaction_was_ended_is_stopped(db: Database) -> None:
    await db.execute("INSERT INTO u VALUES (1)")

    def careless(tx: Transaction) -> None:
        tx.execute(INSERT, ("debit",))
        try:
            tx.execute("INSERT OR ROLLBACK INTO u VALUES (1)")
        except errors.UniqueViolation:
            tx.execute(INSERT, ("credit",))

    with pytest.raises(errors.TransactionLost):
        await db.write(careless)

    def silent(tx: Transaction) -> None:
        tx.execute(INSERT, ("debit",))
        try:
            tx.execute("INSERT OR ROLLBACK INTO u VALUES (1)")
        except errors.UniqueViolation:
            return

    found = await asyncio.gather(db.write(silent), db.execute(INSERT, ("neighbour",)), return_exceptions=True)
    assert isinstance(found[0], errors.TransactionLost)
    assert await values(db) == ["neighbour"]


async def lateness(end: asyncio.Event) -> float:
    """How late a ticker on the loop is at worst, in seconds."""
    worst = 0.0
    loop = asyncio.get_running_loop()
    while not end.is_set():
        due = loop.time() + 0.01
        await asyncio.sleep(0.01)
        worst = max(worst, loop.time() - due)
    return worst


async def test_the_loop_goes_on_while_the_thread_runs_a_statement_of_a_transaction(db: Database) -> None:
    """A new statement beside a slow one of the same transaction once stopped the loop, and with it the timeouts."""
    end = asyncio.Event()
    ticker = asyncio.create_task(lateness(end))

    async def later(tx: Any) -> Any:
        await asyncio.sleep(0.1)
        return await tx.fetch_value("SELECT count(*) FROM t -- new")

    async with db.transaction() as tx:
        slow = tx.fetch_value(SLOW, (2_000_000_000,), timeout=0.5)
        found = await asyncio.gather(slow, later(tx), return_exceptions=True)
    end.set()
    assert isinstance(found[0], errors.DeadlineExceeded)
    assert found[1] == 0
    assert await ticker < 0.3


async def test_the_end_of_a_turn_does_not_wait_for_a_statement_in_the_thread(db: Database) -> None:
    async def slow() -> None:
        async with db.transaction() as tx:
            await tx.execute(INSERT, (1,))
            await tx.fetch_value(SLOW, (rows,), timeout=0.5)

    rows = 1
    for _ in range(ENOUGH):
        await slow()
    await db.fetch_value(SLOW, (1_000_000,))
    end = asyncio.Event()
    ticker = asyncio.create_task(lateness(end))
    await asyncio.sleep(0.03)
    rows = 2_000_000_000
    with pytest.raises(errors.DeadlineExceeded):
        await slow()
    end.set()
    assert await ticker < 0.3


async def test_a_file_that_is_replaced_during_a_transaction_gets_no_commit(db: Database, tmp_path: Path) -> None:
    await db.backup(tmp_path / "new.db")
    with pytest.raises(errors.StorageError, match="replaced"):
        async with db.transaction() as tx:
            await tx.execute(INSERT, ("never acknowledged",))
            os.replace(tmp_path / "new.db", tmp_path / "a.db")
    assert ask(tmp_path / "a.db", "SELECT count(*) FROM t") == "[(0,)]"


async def test_a_deferred_violation_costs_no_transaction_that_ended_before_it(db: Database) -> None:
    child = "INSERT INTO c VALUES (?)"
    for _ in range(ENOUGH):
        await quick(db, 0)
        await db.execute(child, (1,))
    found = await asyncio.gather(quick(db, 7), db.execute(child, (99,)), quick(db, 8), return_exceptions=True)
    assert found[0] is None
    assert isinstance(found[1], errors.ForeignKeyViolation)
    assert found[2] is None
    assert (await values(db))[-2:] == [7, 8]


async def test_a_line_that_can_end_the_transaction_shares_none(db: Database) -> None:
    await db.execute("INSERT INTO u VALUES (1)")

    async def risky(a: int) -> None:
        async with db.transaction() as tx:
            await tx.execute("INSERT OR ROLLBACK INTO u VALUES (?)", (a,))

    for i in range(ENOUGH):
        await quick(db, 0)
        await risky(100 + i)
    found = await asyncio.gather(quick(db, 7), quick(db, 8), risky(1), return_exceptions=True)
    assert found[:2] == [None, None]
    assert isinstance(found[2], errors.UniqueViolation)


async def test_a_connection_that_cannot_be_reopened_at_once_costs_no_job(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = db._engine
    assert engine is not None
    connection = engine.writer.connection
    assert connection is not None
    opened, ran = engine.open_writer, connection.run
    failed: list[str] = []

    def open_later() -> Any:
        if "open" not in failed:
            failed.append("open")
            raise errors.StorageError("cannot open")
        return opened()

    def commit_later(sql: str) -> None:
        if sql == "COMMIT" and "commit" not in failed:
            failed.append("commit")
            ran("ROLLBACK")
            raise apsw.IOError("disk I/O error")
        ran(sql)

    monkeypatch.setattr(engine, "open_writer", open_later)
    monkeypatch.setattr(connection, "run", commit_later)
    await asyncio.gather(*(db.execute(INSERT, (i,)) for i in range(3)))
    assert sorted(await values(db)) == [0, 1, 2]
    assert failed == ["commit", "open"]
    assert engine.writer.crashes == 0
