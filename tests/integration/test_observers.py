"""Observers: what they are told, and that none can spoil it for the others."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import millpond.sync
from millpond import Database, errors, events
from millpond.engine.sqlite.observers import Observers

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


def finished(seen: list[events.Event], sql: str) -> list[events.StatementFinished]:
    return [event for event in seen if isinstance(event, events.StatementFinished) and event.sql == sql]


async def test_each_statement_that_is_over_is_told(db_path: str) -> None:
    seen: list[events.Event] = []
    many, one = "SELECT x FROM t ORDER BY x", "SELECT x FROM t WHERE rowid = ?"
    insert, wrong = "INSERT INTO t VALUES (?)", "INSERT INTO t VALUES (NULL)"

    def fails(tx: Any) -> None:
        raise LookupError("its own")

    async with Database(db_path, observers=[seen.append]) as db:
        await db.execute("CREATE TABLE t(x NOT NULL)")
        await db.execute_many(insert, [(n,) for n in range(5)])
        await db.fetch_all(many)
        for _ in range(20):
            await db.fetch_one(one, (3,))
        with pytest.raises(errors.NotNullViolation):
            await db.execute(wrong)
        with pytest.raises(errors.DeadlineExceeded):
            await db.fetch_all(ENDLESS, timeout=0.2)
        await db.write(lambda tx: tx.execute("DELETE FROM t WHERE x = 4"))
        with pytest.raises(LookupError):
            await db.write(fails)
    (made,) = finished(seen, "CREATE TABLE t(x NOT NULL)")
    assert (made.route, made.error) == ("writer", None)
    (inserted,) = finished(seen, insert)
    assert (inserted.route, inserted.rows, inserted.error) == ("writer", 5, None)
    assert inserted.ran_s > 0
    assert inserted.waited_s >= 0
    (read,) = finished(seen, many)
    assert (read.rows, read.error) == (5, None)
    assert read.route in ("quick", "heavy")
    reads = finished(seen, one)
    assert len(reads) == 20
    assert {event.rows for event in reads} == {1}
    assert "inline" in {event.route for event in reads}
    (broken,) = finished(seen, wrong)
    assert (broken.route, broken.rows, broken.error) == ("writer", 0, "NotNullViolation")
    (late,) = finished(seen, ENDLESS)
    assert (late.route, late.error) == ("heavy", "DeadlineExceeded")
    assert late.ran_s + late.waited_s >= 0.19
    assert [event.error for name in ("write(<lambda>)", "write(fails)") for event in finished(seen, name)] == [
        None, "LookupError",
    ]  # fmt: skip


async def test_statements_in_transactions_and_snapshots_are_told(db_path: str) -> None:
    seen: list[events.Event] = []
    insert, read, wrong = "INSERT INTO t VALUES (?)", "SELECT x FROM t", "INSERT INTO t VALUES (NULL)"
    async with Database(db_path, observers=[seen.append]) as db:
        await db.execute("CREATE TABLE t(x NOT NULL)")
        async with db.transaction() as tx:
            for n in range(3):
                await tx.execute(insert, (n,))
            with pytest.raises(errors.NotNullViolation):
                await tx.execute(wrong)
            await tx.fetch_all(read)
        async with db.snapshot() as snapshot:
            await snapshot.fetch_all(read)
    assert [(event.route, event.rows, event.error) for event in finished(seen, insert)] == [("writer", 1, None)] * 3
    assert [event.error for event in finished(seen, wrong)] == ["NotNullViolation"]
    assert [(event.route, event.rows) for event in finished(seen, read)] == [("writer", 3), ("heavy", 3)]


def test_threads_tell_their_statements_too(db_path: str) -> None:
    seen: list[events.Event] = []
    with millpond.sync.Database(db_path, observers=[seen.append]) as db:
        db.execute("CREATE TABLE t(x)")
        db.execute("INSERT INTO t VALUES (1)")
        for _ in range(20):
            db.fetch_all("SELECT x FROM t")
        with pytest.raises(errors.DeadlineExceeded):
            db.fetch_all(ENDLESS, timeout=0.2)
    (inserted,) = finished(seen, "INSERT INTO t VALUES (1)")
    assert (inserted.route, inserted.rows) == ("writer", 1)
    reads = finished(seen, "SELECT x FROM t")
    assert [event.rows for event in reads] == [1] * 20
    assert "inline" in {event.route for event in reads}
    assert [event.error for event in finished(seen, ENDLESS)] == ["DeadlineExceeded"]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, RuntimeError])
async def test_an_observer_that_fails_does_not_silence_the_others(db_path: str, kind: type[BaseException]) -> None:
    seen: list[events.Event] = []

    def fails(_event: events.Event) -> None:
        raise kind("broken observer")

    async with Database(db_path, observers=[fails, seen.append]) as db:
        await db.execute("CREATE TABLE t(x)")
        engine = db._engine
        assert engine is not None
    assert [type(event).__name__ for event in seen][-1] == "Closed"
    assert engine.observers.errors == len(seen)


async def coroutine(event: events.Event) -> None:
    raise AssertionError


class Asynchronous:
    async def __call__(self, event: events.Event) -> None:
        raise AssertionError


@pytest.mark.parametrize("observers", [[coroutine], [Asynchronous()], ["print"], print, [None], 5])
@pytest.mark.parametrize("kind", [Database, millpond.sync.Database])
def test_what_is_no_observer_is_refused_at_once(db_path: str, kind: Any, observers: Any) -> None:
    with pytest.raises(errors.ProgrammingError) as caught:
        kind(db_path, observers=observers)
    assert "def tell(event)" in " ".join(caught.value.__notes__)


def test_what_was_not_delivered_when_it_was_closed_is_counted() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def slow(_event: events.Event) -> None:
        entered.set()
        go_on.wait(10)

    observers = Observers([slow])
    observers.start()
    for _ in range(4):
        observers.emit(lambda: events.Opened(0.0, "bot.db", "3"))
    assert entered.wait(10)
    observers.close(0.05)
    assert observers.dropped == 3
    go_on.set()
