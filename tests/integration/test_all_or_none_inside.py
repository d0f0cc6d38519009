"""Inside a transaction too, execute_many and execute_script are done wholly or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millpond import Database, errors
from millpond.sync import Database as SyncDatabase

SCHEMA = "CREATE TABLE u(a UNIQUE)"
MANY = ("INSERT INTO u VALUES (?)", [(1,), (2,), (1,)])
SCRIPT = "INSERT INTO u VALUES (3); INSERT INTO u VALUES (4); INSERT INTO u VALUES (3);"


async def test_in_an_interactive_transaction(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as db:
        await db.execute(SCHEMA)
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO u VALUES (0)")
            with pytest.raises(errors.UniqueViolation):
                await tx.execute_many(*MANY)
            with pytest.raises(errors.UniqueViolation):
                await tx.execute_many(MANY[0], [(n,) for n in (*range(10, 60), 10)])  # in the writer's thread
            with pytest.raises(errors.UniqueViolation):
                await tx.execute_script(SCRIPT)
            async with tx.savepoint():
                assert (await tx.execute_many(MANY[0], [(7,), (8,)])).rowcount == 2
                await tx.execute_script("INSERT INTO u VALUES (9);")
        assert [row[0] for row in await db.fetch_all("SELECT a FROM u ORDER BY a")] == [0, 7, 8, 9]


def test_in_a_transaction_of_a_thread(tmp_path: Path) -> None:
    with SyncDatabase(tmp_path / "a.db") as db:
        db.execute(SCHEMA)
        with db.transaction() as tx:
            tx.execute("INSERT INTO u VALUES (0)")
            with pytest.raises(errors.UniqueViolation):
                tx.execute_many(*MANY)
            with pytest.raises(errors.UniqueViolation):
                tx.execute_script(SCRIPT)
            assert tx.execute_many(MANY[0], [(7,), (8,)]).rowcount == 2
        assert [row[0] for row in db.fetch_all("SELECT a FROM u ORDER BY a")] == [0, 7, 8]


def _many(tx: Any) -> None:
    tx.execute_many(*MANY)


def _script(tx: Any) -> None:
    tx.execute_script(SCRIPT)


def _broken_rows(tx: Any) -> None:
    def rows() -> Any:
        yield (5,)
        raise ValueError("no more")

    tx.execute_many(MANY[0], rows())


@pytest.mark.parametrize("part", [_many, _script, _broken_rows])
async def test_in_a_function_given_to_write(tmp_path: Path, part: Callable[[Any], None]) -> None:
    def fn(tx: Any) -> None:
        tx.execute("INSERT INTO u VALUES (0)")
        with pytest.raises((errors.Error, ValueError)):
            part(tx)
        tx.execute_many(MANY[0], [(7,), (8,)])

    async with Database(tmp_path / "a.db") as db:
        await db.execute(SCHEMA)
        await db.write(fn)
        assert [row[0] for row in await db.fetch_all("SELECT a FROM u ORDER BY a")] == [0, 7, 8]
