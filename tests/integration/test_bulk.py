"""execute_many(atomic=False): slices, between which others get through, and what is told when they end early."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

import millpond.sync
from millpond import Database, Settings, bulk, errors, events
from millpond.scheduling import slices

MOST = 50
"""Rows of a slice, so that there are many of them."""
INSERT = "INSERT INTO t(a) VALUES (?)"
SCHEMA = "CREATE TABLE t(id INTEGER PRIMARY KEY, a INTEGER UNIQUE NOT NULL)"
Outside = Callable[[str, str], list[Any]]


@pytest.fixture(autouse=True)
def _short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "MOST", MOST)
    monkeypatch.setattr(slices, "FIRST", MOST)


@pytest.fixture
async def db(db_path: str) -> AsyncIterator[Database]:
    async with Database(db_path, Settings(cache_bytes=0)) as db:
        await db.execute(SCHEMA)
        yield db


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[millpond.sync.Database]:
    with millpond.sync.Database(tmp_path / "twin.db", Settings(cache_bytes=0)) as twin:
        twin.execute(SCHEMA)
        yield twin


async def later(rows: Iterable[Any]) -> AsyncIterator[Any]:
    for row in rows:
        await asyncio.sleep(0)
        yield row


def given(rows: Iterable[Any]) -> Iterator[Any]:
    yield from rows


NUMBERS = [(a,) for a in range(1_010)]


@pytest.mark.parametrize("how", [list, given, later])
async def test_all_rows_are_written_in_their_order(db: Database, how: Callable[[Any], Any]) -> None:
    before = db.stats().writes
    result = await db.execute_many(INSERT, how(NUMBERS), atomic=False)
    assert result == (len(NUMBERS), None)
    assert await db.fetch_all("SELECT a FROM t ORDER BY id") == NUMBERS
    assert db.stats().writes - before >= len(NUMBERS) / MOST, "in slices"


def test_threads_write_in_slices_too(twin: millpond.sync.Database) -> None:
    before = twin.stats().writes
    assert twin.execute_many(INSERT, given(NUMBERS), atomic=False) == (len(NUMBERS), None)
    assert twin.fetch_all("SELECT a FROM t ORDER BY id") == NUMBERS
    assert twin.stats().writes - before >= len(NUMBERS) / MOST


@pytest.mark.parametrize("how", [list, given, later])
async def test_few_rows_and_none_are_no_special_case(db: Database, how: Callable[[Any], Any]) -> None:
    assert await db.execute_many(INSERT, how([]), atomic=False) == (0, None)
    assert await db.execute_many("INSERT INTO t(a) VALUES (:a)", how([{"a": 1}]), atomic=False) == (1, None)
    assert await db.execute_many(INSERT, how([(a,) for a in range(2, 2 + MOST)]), atomic=False) == (MOST, None)
    assert await db.execute_many("UPDATE t SET a = -a WHERE a > ?", how([(10,)] * 3), atomic=False) == (MOST - 9, None)


def test_no_rows_are_none_for_threads_either(twin: millpond.sync.Database) -> None:
    assert twin.execute_many(INSERT, [], atomic=False) == (0, None)
    assert twin.execute_many(INSERT, given([(1,)]), atomic=False) == (1, None)


class SourceFailed(Exception):
    """What rows come from broke."""


def broken_after(number: int) -> Iterator[Any]:
    for a in range(number):
        yield (a,)
    raise SourceFailed


@pytest.mark.parametrize("how", [given, later])
async def test_rows_are_taken_as_they_are_needed(db: Database, how: Callable[[Any], Any]) -> None:
    """A source that breaks has given little more than is in the file by then."""
    with pytest.raises(SourceFailed) as caught:
        await db.execute_many(INSERT, how(broken_after(1_000)), atomic=False)
    applied = caught.value.rows_applied  # type: ignore[attr-defined]  # given to what is not Millpond's too
    assert 1_000 - MOST <= applied <= 1_000
    assert caught.value.__notes__ == [f"execute_many: the first {applied:,} rows are in"]
    assert await db.fetch_value("SELECT count(*) FROM t") == applied


def test_rows_are_taken_as_they_are_needed_by_threads(twin: millpond.sync.Database) -> None:
    with pytest.raises(SourceFailed) as caught:
        twin.execute_many(INSERT, broken_after(1_000), atomic=False)
    applied = caught.value.rows_applied  # type: ignore[attr-defined]  # given to what is not Millpond's too
    assert 1_000 - MOST <= applied <= 1_000
    assert twin.fetch_value("SELECT count(*) FROM t") == applied


async def test_others_get_through_between_the_slices(db: Database) -> None:
    """Each slice's last row is only given when a small write is done that was begun after the one before."""
    await db.execute("CREATE TABLE small(a)")
    done = 0

    async def rows() -> AsyncIterator[Any]:
        nonlocal done
        for a in range(20 * MOST):
            if a % MOST == MOST - 1:
                await db.execute("INSERT INTO small VALUES (?)", (a,))
                done += 1
            yield (a,)

    assert (await db.execute_many(INSERT, rows(), atomic=False)).rowcount == 20 * MOST
    assert done == 20
    assert await db.fetch_value("SELECT count(*) FROM small") == 20


async def test_small_writes_are_answered_while_it_runs(db: Database) -> None:
    await db.execute("CREATE TABLE small(a)")
    answered: list[int] = []
    running = True

    async def small() -> None:
        while running:
            await db.execute("INSERT INTO small VALUES (1)")
            answered.append(1)

    writers = [asyncio.create_task(small()) for _ in range(5)]
    await db.execute_many(INSERT, [(a,) for a in range(100 * MOST)], atomic=False)
    during = len(answered)
    running = False
    await asyncio.gather(*writers)
    assert during >= 100, "5 writers beside some 100 slices"


async def broken_row(db: Database, number: int, **how: Any) -> errors.Error:
    rows = [(a,) for a in range(number)]
    rows[-1] = (0,)
    with pytest.raises(errors.UniqueViolation) as caught:
        await db.execute_many(INSERT, rows, atomic=False, **how)
    return caught.value


async def test_an_error_in_the_middle_tells_what_is_in_the_file(db: Database) -> None:
    error = await broken_row(db, 1_000)
    assert error.rows_applied is not None
    assert 1_000 - MOST <= error.rows_applied < 1_000
    assert error.applied == "yes"
    assert not error.retryable
    assert str(error).endswith(f"the first {error.rows_applied} rows are in")
    assert not any("Not applied" in note for note in error.__notes__)
    assert await db.fetch_value("SELECT count(*) FROM t") == error.rows_applied
    assert await db.fetch_value("SELECT max(a) FROM t") == error.rows_applied - 1, "the first ones, and no other"


async def test_an_error_in_the_first_slice_is_that_of_a_write_that_is_not_applied(db: Database) -> None:
    error = await broken_row(db, 10)
    assert (error.applied, error.rows_applied) == ("no", 0)
    assert "rows are in" not in str(error)
    assert any("Not applied" in note for note in error.__notes__)
    assert await db.fetch_value("SELECT count(*) FROM t") == 0


def test_threads_are_told_the_same(twin: millpond.sync.Database) -> None:
    rows = [(a,) for a in range(1_000)]
    rows[-1] = (0,)
    with pytest.raises(errors.UniqueViolation, match=r"the first \d+ rows are in") as caught:
        twin.execute_many(INSERT, rows, atomic=False)
    assert caught.value.applied == "yes"
    assert twin.fetch_value("SELECT count(*) FROM t") == caught.value.rows_applied


async def test_a_slice_whose_commit_is_lost_is_not_promised(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = db._engine
    assert engine is not None
    connection = engine.writer.connection
    assert connection is not None
    ran, commits = connection.run, 0

    def third_fails(sql: str) -> None:
        nonlocal commits
        commits += sql == "COMMIT"
        if sql == "COMMIT" and commits == 3:
            ran("ROLLBACK")
            raise apsw.IOError("disk I/O error")
        ran(sql)

    monkeypatch.setattr(connection, "run", third_fails)
    with pytest.raises(errors.StorageError, match=r"rows are in, whether the next \d+ are is not known") as caught:
        await db.execute_many(INSERT, NUMBERS, atomic=False)
    assert caught.value.applied == "unknown"
    assert await db.fetch_value("SELECT count(*) FROM t") == caught.value.rows_applied
    assert caught.value.rows_applied in range(2, 2 * MOST + 1)


async def test_a_row_that_is_none_ends_it_where_it_stands(db: Database) -> None:
    rows: list[Any] = [*NUMBERS, "7", *NUMBERS]
    with pytest.raises(errors.ParameterError, match="rows are in") as caught:
        await db.execute_many(INSERT, rows, atomic=False)
    assert caught.value.rows_applied is not None
    assert len(NUMBERS) - MOST <= caught.value.rows_applied <= len(NUMBERS)
    assert await db.fetch_value("SELECT count(*) FROM t") == caught.value.rows_applied
    wrong: Any
    for wrong in ("ab", 5, None):
        with pytest.raises(errors.ParameterError, match="execute_many takes an iterable of rows") as refused:
            await db.execute_many(INSERT, wrong, atomic=False)
        assert (refused.value.applied, refused.value.rows_applied) == ("no", 0)


async def test_the_deadline_is_that_of_the_whole_call(db: Database) -> None:
    async def rows() -> AsyncIterator[Any]:
        for a in range(3 * MOST):
            yield (a,)
        await asyncio.Event().wait()

    with pytest.raises(errors.DeadlineExceeded) as caught:
        await db.execute_many(INSERT, rows(), atomic=False, timeout=0.3)
    error = caught.value
    assert error.applied == "yes"
    assert error.rows_applied is not None
    assert 2 * MOST <= error.rows_applied <= 3 * MOST
    assert "not done in 0.30 s: queue 0." in str(error)
    assert error.__notes__[0].count("Go on with the rows after them") == 1
    assert str(error).endswith(f"the first {error.rows_applied} rows are in")
    assert await db.fetch_value("SELECT count(*) FROM t") == error.rows_applied


async def test_a_slow_source_does_not_keep_what_it_has_given(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has come by then is written, though it is no whole slice, when the next row comes."""
    monkeypatch.setattr(bulk, "SLOW_S", 0.0)
    await db.execute("CREATE TABLE small(a)")

    async def rows() -> AsyncIterator[Any]:
        for a in range(10):
            yield (a,)
            await db.execute("INSERT INTO small VALUES (1)")  # what was sent before is in the file by then
            for _ in range(5):
                await asyncio.sleep(0)

    before = db.stats().writes
    assert (await db.execute_many(INSERT, rows(), atomic=False)).rowcount == 10
    assert db.stats().writes - before - 10 >= 5, "slices"


async def test_a_slice_whose_time_is_up_in_the_queue_is_not_written(db: Database) -> None:
    held, over = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with db.transaction():
            held.set()
            await over.wait()

    async def rows() -> AsyncIterator[Any]:
        for a in range(MOST):
            yield (a,)
        holder.append(asyncio.create_task(hold()))
        await held.wait()
        for a in range(MOST, 5 * MOST):
            yield (a,)

    holder: list[asyncio.Task[None]] = []
    with pytest.raises(errors.LockTimeout, match="the first 50 rows are in") as caught:
        await db.execute_many(INSERT, rows(), atomic=False, timeout=0.4)
    over.set()
    await asyncio.gather(*holder)
    assert (caught.value.applied, caught.value.rows_applied) == ("yes", MOST)
    assert caught.value.holder is not None
    assert await db.fetch_value("SELECT count(*) FROM t") == MOST


async def test_a_cancel_tells_what_is_in_the_file(db: Database) -> None:
    for at in (0, 1, 3, 10, 40):
        await db.execute("DELETE FROM t")
        started = asyncio.Event()

        async def rows(at: int = at, started: asyncio.Event = started) -> AsyncIterator[Any]:
            for a in range(100_000):
                if a == at * MOST:
                    started.set()
                yield (a,)

        task = asyncio.create_task(db.execute_many(INSERT, rows(), atomic=False))
        await started.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        applied = caught.value.rows_applied  # type: ignore[attr-defined]  # given to cancels too
        assert await db.fetch_value("SELECT count(*) FROM t") == applied
        assert applied >= (at - 2) * MOST
        if applied:
            assert caught.value.__notes__ == [f"execute_many: the first {applied:,} rows are in"]
    assert db.stats().writes_waiting == 0


async def test_a_cancel_takes_back_the_slice_that_waits(db: Database) -> None:
    held, over = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with db.transaction():
            held.set()
            await over.wait()

    holder = asyncio.create_task(hold())
    await held.wait()
    task = asyncio.create_task(db.execute_many(INSERT, given(NUMBERS), atomic=False))
    async with asyncio.timeout(10):
        while not db.stats().writes_waiting:  # noqa: ASYNC110  # counted elsewhere
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.rows_applied == 0  # type: ignore[attr-defined]  # given to cancels too
    over.set()
    await holder
    assert await db.fetch_value("SELECT count(*) FROM t") == 0


async def test_closing_in_the_middle_is_told_with_what_is_in_the_file(db_path: str, outside: Outside) -> None:
    db = Database(db_path, Settings(close_grace_s=0.1))
    await db.open()
    await db.execute(SCHEMA)
    closing: list[asyncio.Task[None]] = []

    async def rows() -> AsyncIterator[Any]:
        for a in range(20 * MOST):
            if a == 10 * MOST:
                closing.append(asyncio.create_task(db.close()))
                await asyncio.sleep(0)
            yield (a,)

    with pytest.raises(errors.DatabaseClosed, match="rows are in") as caught:
        await db.execute_many(INSERT, rows(), atomic=False)
    await closing[0]
    assert caught.value.applied == "yes"
    assert outside(db_path, "SELECT count(*) FROM t") == [[caught.value.rows_applied]]


async def test_an_interrupted_thread_is_told_what_is_in_the_file(twin: millpond.sync.Database) -> None:
    def rows() -> Iterator[Any]:
        for a in range(5 * MOST):
            yield (a,)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        twin.execute_many(INSERT, rows(), atomic=False)
    applied = caught.value.rows_applied  # type: ignore[attr-defined]  # given to what is not Millpond's too
    assert twin.fetch_value("SELECT count(*) FROM t") == applied
    assert applied >= 3 * MOST


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_each_slice_is_as_durable_as_was_asked(db_path: str, durability: Any) -> None:
    seen: list[events.Event] = []
    async with Database(db_path, Settings(durability="full"), observers=[seen.append]) as db:
        await db.execute(SCHEMA)
        await db.execute_many(INSERT, NUMBERS, atomic=False, durability=durability)
    commits = [event for event in seen if isinstance(event, events.BatchCommitted)][1:]
    assert len(commits) >= len(NUMBERS) / MOST
    assert {commit.full for commit in commits} == {durability == "full"}
    done = [event for event in seen if isinstance(event, events.StatementFinished) and event.sql == INSERT]
    assert sum(event.rows for event in done) == len(NUMBERS)


async def test_a_transaction_takes_no_slices(db: Database, twin: millpond.sync.Database) -> None:
    refused = "execute_many inside a transaction takes no atomic=False"
    async with db.transaction() as tx:
        with pytest.raises(errors.ProgrammingError, match=refused) as caught:
            await tx.execute_many(INSERT, NUMBERS, atomic=False)
        assert caught.value.applied == "no"
        assert await tx.execute_many(INSERT, NUMBERS, atomic=True) == (len(NUMBERS), None)
        with pytest.raises(errors.WouldWaitForItself):
            await db.execute_many(INSERT, NUMBERS, atomic=False)
    with twin.transaction() as block, pytest.raises(errors.ProgrammingError, match=refused):
        block.execute_many(INSERT, NUMBERS, atomic=False)
    with pytest.raises(errors.ProgrammingError, match=refused):
        await db.write(lambda tx: tx.execute_many(INSERT, NUMBERS, atomic=False))


async def test_rows_as_arguments_are_answered_with_the_line_to_write(
    db: Database, twin: millpond.sync.Database
) -> None:
    rows: Any = ((1,), (2,))
    async with db.transaction() as tx:
        for owner in (db, tx):
            with pytest.raises(errors.ParameterError, match="as one iterable, not as 2 arguments") as caught:
                await owner.execute_many(INSERT, *rows)
            assert "execute_many(sql, [a, b])" in (caught.value.hint or "")
            assert caught.value.applied == "no"
    with twin.transaction() as block:
        for other in (twin, block):
            with pytest.raises(errors.ParameterError, match="as one iterable"):
                other.execute_many(INSERT, *rows)
    with pytest.raises(errors.ParameterError, match="as one iterable"):
        await db.write(lambda tx: tx.execute_many(INSERT, *rows))


async def test_a_list_is_taken_as_it_was_when_it_was_given(db: Database) -> None:
    rows: list[Any] = [(a,) for a in range(200_000)]
    task = asyncio.create_task(db.execute_many(INSERT, rows))
    await asyncio.sleep(0)
    rows.clear()
    assert (await task).rowcount == 200_000


async def test_what_is_refused_whole_is_refused_in_slices(db: Database) -> None:
    for sql, kind in (
        ("SELECT a FROM t WHERE a = ?", errors.ProgrammingError),
        ("INSERT INTO missing VALUES (?)", errors.NoSuchTable),
        ("BEGIN", errors.TransactionControl),
    ):
        with pytest.raises(kind):
            await db.execute_many(sql, NUMBERS, atomic=False)
    with pytest.raises(errors.DeadlineExceeded):
        await db.execute_many(INSERT, NUMBERS, atomic=False, timeout=0)
    wrong: Any = "soon"
    with pytest.raises(errors.ProgrammingError, match="priority="):
        await db.execute_many(INSERT, NUMBERS, atomic=False, priority=wrong)
    assert await db.fetch_value("SELECT count(*) FROM t") == 0


async def test_a_schema_that_changes_between_slices_is_seen(db: Database) -> None:
    async def rows() -> AsyncIterator[Any]:
        for a in range(4 * MOST):
            if a == 2 * MOST:
                await db.execute("CREATE TABLE copy(a)")
                await db.execute("CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO copy VALUES (new.a); END")
            yield (a,)

    result = await db.execute_many(INSERT, rows(), atomic=False)
    assert result.rowcount == 4 * MOST, "what a trigger writes does not count"
    assert await db.fetch_value("SELECT count(*) FROM copy") >= MOST


async def test_a_database_in_memory_takes_slices_too() -> None:
    async with Database(":memory:") as db:
        await db.execute(SCHEMA)
        assert (await db.execute_many(INSERT, given(NUMBERS), atomic=False)).rowcount == len(NUMBERS)
        assert await db.fetch_value("SELECT count(*) FROM t") == len(NUMBERS)


@pytest.mark.parametrize("atomic", [True, False])
async def test_a_source_that_awaits_nothing_leaves_the_loop_to_others(
    db: Database, monkeypatch: pytest.MonkeyPatch, atomic: bool
) -> None:
    """While rows are taken, others have turns of the loop."""
    monkeypatch.setattr(slices, "MOST", 100_000)
    monkeypatch.setattr(slices, "FIRST", 100_000)
    turns = 0
    running = True

    async def beside() -> None:
        nonlocal turns
        while running:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(beside())

    def rows() -> Iterator[Any]:
        for a in range(64 * 30):
            if not a % 64:
                threading.Event().wait(0.002)  # a chunk takes longer than a turn may
            yield (a,)

    await db.execute_many(INSERT, rows(), atomic=atomic)
    running = False
    await task
    assert turns >= 20
