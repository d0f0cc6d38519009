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
                await db.write(lambda tx, name=name, text=nothing: getattr(tx, name)(text))  # type: ignore[misc]


@pytest.mark.parametrize("params", ["7b", b"7b", {7, 8}, iter((7, 8)), 7])
async def test_a_function_is_told_of_wrong_parameters(db: Database, params: Any) -> None:
    for name in ("execute", "fetch_all", "fetch_one", "fetch_value"):
        with pytest.raises(ParameterError) as caught:
            await db.write(lambda tx, name=name: getattr(tx, name)("INSERT INTO t VALUES (?, ?)", params))  # type: ignore[misc]
        assert caught.value.applied == "no"
    assert await db.fetch_value("SELECT count(*) FROM t") == 0


@pytest.mark.parametrize("rows", [["ab", "cd"], 5, "ab", [{1, 2}]])
async def test_a_function_is_told_of_wrong_rows(db: Database, rows: Any) -> None:
    with pytest.raises(ParameterError):
        await db.write(lambda tx: tx.execute_many("INSERT INTO t VALUES (?, ?)", rows))
    assert await db.fetch_value("SELECT count(*) FROM t") == 0
