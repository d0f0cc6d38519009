"""What is wrongly given is refused at once, with the line to write, and harms nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import millpond
import millpond.sync
from millpond import Database, ParameterError, ProgrammingError
from millpond.streams import RowStream


@pytest_asyncio.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db") as db:
        await db.execute("CREATE TABLE t(a, b)")
        yield db


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[millpond.sync.Database]:
    with millpond.sync.Database(tmp_path / "b.db") as twin:
        twin.execute("CREATE TABLE t(a, b)")
        yield twin


@pytest.mark.parametrize("text", [5, b"SELECT 1", ["SELECT 1"], None])
async def test_a_script_that_is_no_text_harms_no_neighbour(db: Database, text: Any) -> None:
    async def inside() -> None:
        async with db.transaction() as tx:
            await tx.execute_script(text)

    wrong = [db.execute_script(text), inside(), db.write(lambda tx: tx.execute_script(text))]
    right = [db.execute("INSERT INTO t VALUES (?, 0)", (i,)) for i in range(4)]
    found = await asyncio.gather(*wrong, *right, return_exceptions=True)
    for error in found[:3]:
        assert isinstance(error, ProgrammingError), repr(error)
        assert "a statement is text" in str(error)
    assert [one for one in found[3:] if isinstance(one, BaseException)] == []
    assert await db.fetch_value("SELECT count(*) FROM t") == 4


async def test_a_statement_that_is_no_text_is_refused_everywhere(db: Database) -> None:
    nothing: Any
    for nothing in (5, ["SELECT 1"], b"SELECT 1", None):
        async with db.transaction() as tx, db.snapshot() as snap:
            for call in (
                db.execute, db.fetch_all, db.fetch_one, db.fetch_value, tx.execute, tx.fetch_all, snap.fetch_all,
            ):  # fmt: skip
                with pytest.raises(ProgrammingError, match="a statement is text"):
                    await call(nothing)
        for name in ("execute", "fetch_all", "fetch_one", "fetch_value", "execute_script"):
            with pytest.raises(ProgrammingError, match="a statement is text"):
                await db.write(lambda tx, name=name, text=nothing: getattr(tx, name)(text))  # type: ignore[misc]  # bound now


@pytest.mark.parametrize("params", ["7b", b"7b", {7, 8}, iter((7, 8)), 7])
async def test_a_function_is_told_of_wrong_parameters(db: Database, params: Any) -> None:
    for name in ("execute", "fetch_all", "fetch_one", "fetch_value"):
        with pytest.raises(ParameterError) as caught:
            await db.write(lambda tx, name=name: getattr(tx, name)("INSERT INTO t VALUES (?, ?)", params))  # type: ignore[misc]  # bound now
        assert caught.value.applied == "no"
    assert await db.fetch_value("SELECT count(*) FROM t") == 0


@pytest.mark.parametrize("rows", [["ab", "cd"], 5, "ab", [{1, 2}]])
async def test_a_function_is_told_of_wrong_rows(db: Database, rows: Any) -> None:
    with pytest.raises(ParameterError):
        await db.write(lambda tx: tx.execute_many("INSERT INTO t VALUES (?, ?)", rows))
    assert await db.fetch_value("SELECT count(*) FROM t") == 0


@pytest.mark.parametrize("into", [5, "User", int | None, list[int]])
async def test_a_wrong_into_is_refused_before_anything_runs(db: Database, into: Any) -> None:
    write = "INSERT INTO t VALUES (1, 2) RETURNING a"
    async with db.transaction() as tx, db.snapshot() as snap:
        for call in (
            lambda: db.fetch_all("SELECT 1", into=into),
            lambda: db.fetch_one("SELECT 1", into=into),
            lambda: tx.fetch_all(write, into=into),
            lambda: tx.fetch_one(write, into=into),
            lambda: snap.fetch_all("SELECT 1", into=into),
        ):
            with pytest.raises(ProgrammingError, match="into="):
                await call()
    for refused in (db.fetch_all(write, into=into), db.write(lambda tx: tx.fetch_all(write, into=into))):
        with pytest.raises(ProgrammingError, match="into="):
            await refused
    with pytest.raises(ProgrammingError, match="into="):
        db.iterate("SELECT 1", into=into)
    assert await db.fetch_value("SELECT count(*) FROM t") == 0
    with pytest.raises(ProgrammingError, match="row_factory="):
        Database(":memory:", row_factory=into)


@pytest.mark.parametrize("priority", ["high", 99, [], -1, 1.5])
async def test_a_wrong_priority_is_refused_for_reads_too(db: Database, priority: Any) -> None:
    async def snapshot() -> None:
        async with db.snapshot(priority=priority):
            pass

    async def stream() -> None:
        async for _ in db.iterate("SELECT 1", priority=priority):
            pass

    calls = [db.fetch_all("SELECT 1, 2", priority=priority), snapshot(), stream()]
    for call in (*calls, db.execute("INSERT INTO t VALUES (1, 2)", priority=priority)):
        with pytest.raises(ProgrammingError, match="priority="):
            await call


async def test_parameters_as_arguments_are_answered_with_the_line_to_write(
    db: Database, twin: millpond.sync.Database
) -> None:
    given: Any = (1, 2)
    async with db.transaction() as tx, db.snapshot() as snap:
        for owner in (db, tx, snap):
            for name in ("execute", "fetch_all", "fetch_one", "fetch_value"):
                if owner is snap and name == "execute":
                    continue
                with pytest.raises(ParameterError) as caught:
                    await getattr(owner, name)("SELECT ?, ?", *given)
                assert f"{name}(sql, (a, b))" in (caught.value.hint or "")
    with twin.transaction() as tx, twin.snapshot() as snap:
        for owner in (twin, tx, snap):
            for name in ("execute", "fetch_all", "fetch_one", "fetch_value", "iterate"):
                if owner is snap and name == "execute":
                    continue
                with pytest.raises(ParameterError, match="one sequence"):
                    list(getattr(owner, name)("SELECT ?, ?", *given))
    with pytest.raises(ParameterError, match="one sequence"):
        await db.write(lambda tx: tx.execute("INSERT INTO t VALUES (?, ?)", *given))
    with pytest.raises(ParameterError, match="one sequence"):
        db.iterate("SELECT ?, ?", *given)


async def test_a_generator_is_no_function_for_write(db: Database, twin: millpond.sync.Database) -> None:
    def rows(tx: Any) -> Iterator[int]:
        tx.execute("INSERT INTO t VALUES (1, 2)")
        yield 1

    with pytest.raises(ProgrammingError, match="generator"):
        await db.write(rows)
    with pytest.raises(ProgrammingError, match="generator"):
        twin.write(rows)


async def test_an_ended_snapshot_is_not_entered_again(db: Database, twin: millpond.sync.Database) -> None:
    snap = db.snapshot()
    async with snap:
        pass
    with pytest.raises(ProgrammingError, match="begun already"):
        async with snap:
            pass
    old = twin.snapshot()
    with old:
        pass
    with pytest.raises(ProgrammingError, match="begun already"), old:
        pass


@pytest.mark.filterwarnings("error")
async def test_a_wrong_argument_to_iterate_leaves_nothing_behind(db: Database, twin: millpond.sync.Database) -> None:
    for owner in (db, twin):
        with pytest.raises(ProgrammingError):
            owner.iterate("SELECT 1", timeout="x")  # type: ignore[attr-defined]  # that is the point
    wrong: Any = "x"
    with pytest.raises(ProgrammingError):
        RowStream(db, "SELECT 1", None, None, wrong, millpond.Priority.NORMAL, "here")


async def test_a_statement_of_a_block_has_no_priority_of_its_own(db: Database) -> None:
    high: Any = millpond.Priority.HIGH
    async with db.transaction() as tx, db.snapshot() as snap:
        for call in (
            lambda: tx.execute("INSERT INTO t VALUES (1, 2)", priority=high),
            lambda: tx.execute_many("INSERT INTO t VALUES (1, 2)", [()], priority=high),
            lambda: tx.fetch_all("SELECT 1", priority=high),
            lambda: snap.fetch_value("SELECT 1", priority=high),
        ):
            with pytest.raises(ProgrammingError, match="takes no priority="):
                await call()
    with pytest.raises(ProgrammingError, match="takes no priority="):
        await db.write(lambda tx: tx.execute("INSERT INTO t VALUES (1, 2)", priority=high))
