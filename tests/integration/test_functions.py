"""The `tx` of a function given to `write` has what the other transactions have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import millpond.sync
from millpond import Database, ProgrammingError


@pytest_asyncio.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db", row_factory=dict) as db:
        await db.execute("CREATE TABLE t(n)")
        yield db


async def test_rows_are_made_as_elsewhere(db: Database, tmp_path: Path) -> None:
    def read(tx: Any) -> list[Any]:
        tx.execute("INSERT INTO t VALUES (1), (2)")
        return [
            tx.fetch_one("SELECT n FROM t ORDER BY n"),
            tx.fetch_all("SELECT n FROM t ORDER BY n"),
            tx.fetch_all("SELECT n FROM t ORDER BY n", into=int),
            tx.fetch_one("SELECT n FROM t ORDER BY n", into=int),
            tx.fetch_one("SELECT n FROM t WHERE n = 9", into=int),
            tx.fetch_value("SELECT max(n) FROM t"),
            list(tx.iterate("SELECT n FROM t ORDER BY n", into=int)),
        ]

    wanted = [{"n": 1}, [{"n": 1}, {"n": 2}], [1, 2], 1, None, 2, [1, 2]]
    assert await db.write(read) == wanted
    with millpond.sync.Database(tmp_path / "b.db", row_factory=dict) as twin:
        twin.execute("CREATE TABLE t(n)")
        assert twin.write(read) == wanted


async def test_rows_that_do_not_fit_undo_the_function(db: Database) -> None:
    with pytest.raises(millpond.DataError):
        await db.write(lambda tx: tx.fetch_all("INSERT INTO t VALUES (1) RETURNING n, 'x'", into=int))
    assert await db.fetch_value("SELECT count(*) FROM t") == 0


async def test_a_part_can_be_undone(db: Database) -> None:
    def parts(tx: Any) -> None:
        tx.execute("INSERT INTO t VALUES (1)")
        try:
            with tx.savepoint():
                tx.execute("INSERT INTO t VALUES (2)")
                with tx.savepoint() as same:
                    same.execute("INSERT INTO t VALUES (3)")
                raise KeyError
        except KeyError:
            pass
        with tx.savepoint():
            tx.execute("INSERT INTO t VALUES (4)")

    await db.write(parts)
    assert await db.fetch_all("SELECT n FROM t ORDER BY n", into=int) == [1, 4]


async def test_a_statement_that_ends_the_whole_transaction_inside_a_part(db: Database) -> None:
    await db.execute("CREATE TABLE u(n UNIQUE ON CONFLICT ROLLBACK)")

    def parts(tx: Any) -> None:
        tx.execute("INSERT INTO u VALUES (1)")
        with tx.savepoint():
            tx.execute("INSERT INTO u VALUES (1)")

    with pytest.raises(millpond.UniqueViolation):
        await db.write(parts)
    assert await db.fetch_value("SELECT count(*) FROM u") == 0


async def test_guessed_names_are_answered(db: Database) -> None:
    async with db.snapshot() as snap:
        with pytest.raises(AttributeError, match=r"write: value = await snap\.fetch_value"):
            snap.fetchval  # noqa: B018  # the look-up is what is tested
    with pytest.raises(AttributeError, match=r"write: value = tx\.fetch_value"):
        await db.write(lambda tx: tx.fetchval("SELECT 1"))
    with pytest.raises(AttributeError, match=r"write: async with db\.transaction\(\) as tx"):
        async with db.transaction() as tx:
            tx.commit  # noqa: B018  # the look-up is what is tested
    with pytest.raises(ProgrammingError, match="timeout="):
        await db.write(lambda tx: tx.execute("SELECT 1", timeout=1))
