"""What only the writer's connection has: temporary tables, and what was written last."""

from __future__ import annotations

import asyncio
import contextvars
from pathlib import Path
from typing import Any

import pytest

from millpond import Database, errors
from millpond.sync import Database as SyncDatabase


async def test_a_temporary_table_that_hides_a_table_hides_it_from_reads_too(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as db:
        await db.execute_script("CREATE TABLE t(a); INSERT INTO t VALUES ('main')")
        for _ in range(40):  # proven cheap, so read where it is asked for
            assert await db.fetch_value("SELECT a FROM t") == "main"
        await db.execute("CREATE TEMP TABLE t(a)")
        await db.execute("INSERT INTO t VALUES ('temp')")
        for _ in range(3):
            assert await db.fetch_value("SELECT a FROM t") == "temp"
        assert [row[0] async for row in db.iterate("SELECT a FROM t")] == ["temp"]
        for _ in range(40):
            async with db.transaction() as tx:
                assert await tx.fetch_value("SELECT a FROM t") == "temp"
        assert await db.fetch_value("SELECT a FROM t") == "temp"
        assert await db.fetch_value("SELECT a FROM main.t") == "main"
        async with db.snapshot() as snap:
            assert await snap.fetch_value("SELECT a FROM main.t") == "main"
            with pytest.raises(errors.ProgrammingError, match="a snapshot has neither temporary tables"):
                await snap.fetch_value("SELECT a FROM t")
        await db.execute("DROP TABLE temp.t")
        assert await db.fetch_value("SELECT a FROM t") == "main"


def test_a_thread_streams_from_a_temporary_table(tmp_path: Path) -> None:
    with SyncDatabase(tmp_path / "a.db") as db:
        db.execute("CREATE TEMP TABLE only_here(a)")
        db.execute_many("INSERT INTO only_here VALUES (?)", [(1,), (2,)])
        assert [row[0] for row in db.iterate("SELECT a FROM only_here")] == [1, 2]
        for _ in range(40):
            with db.transaction() as tx:
                assert tx.fetch_value("SELECT count(*) FROM only_here") == 2
        assert db.fetch_value("SELECT count(*) FROM only_here") == 2


async def test_reading_beside_ones_own_transaction_goes_on_though_there_are_temporary_tables(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as db:
        await db.execute_script("CREATE TABLE t(a); INSERT INTO t VALUES (1); CREATE TEMP TABLE only_here(a);")
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (2)")
            assert await db.fetch_value("SELECT count(*) FROM t") == 1
        assert await db.fetch_value("SELECT count(*) FROM t") == 2


def test_reading_from_within_a_function_in_the_writer_too(tmp_path: Path) -> None:
    def fn(tx: Any) -> Any:
        tx.execute("INSERT INTO t VALUES (2)")
        return db.fetch_value("SELECT count(*) FROM t")

    with SyncDatabase(tmp_path / "a.db") as db:
        db.execute_script("CREATE TABLE t(a); INSERT INTO t VALUES (1); CREATE TEMP TABLE only_here(a);")
        assert db.write(fn) == 1
        with db.transaction() as tx:
            tx.execute("INSERT INTO t VALUES (3)")
            assert db.fetch_value("SELECT count(*) FROM t -- beside") == 2


@pytest.mark.parametrize("where", ["':memory:'", "''", "?"])
async def test_a_database_without_a_file_is_not_attached(tmp_path: Path, where: str) -> None:
    params = (":memory:",) if where == "?" else None
    async with Database(tmp_path / "a.db") as db:
        with pytest.raises(errors.NotSupportedError, match="a database in memory cannot be attached"):
            await db.execute(f'ATTACH {where} AS "a b"', params)
        assert await db.fetch_all("SELECT name FROM pragma_database_list") == [("main",)]
        await db.execute('ATTACH ? AS "a b"', (str(tmp_path / "b.db"),))
    async with Database(":memory:") as db:
        await db.execute(f"ATTACH {where} AS beside", params)
        await db.execute("CREATE TABLE beside.x(a)")
        assert await db.fetch_all("SELECT * FROM beside.x") == []


ASKING = ["SELECT last_insert_rowid()", "SELECT changes()", "SELECT 1 WHERE TOTAL_CHANGES() > 0"]


@pytest.mark.parametrize("sql", ASKING)
@pytest.mark.parametrize("name", ["file", ":memory:"])
async def test_what_was_written_last_is_asked_inside_a_transaction(tmp_path: Path, sql: str, name: str) -> None:
    async with Database(tmp_path / "a.db" if name == "file" else name) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, a)")
        asks: list[Any] = [db.fetch_value, db.fetch_all, db.execute]
        for ask in asks:
            with pytest.raises(errors.ProgrammingError, match="outside a transaction would tell of whoever") as caught:
                await ask(sql)
            assert caught.value.hint is not None
            assert ("rowcount" if "hanges" in sql.lower() else "last_insert_rowid") in caught.value.hint
        with pytest.raises(errors.ProgrammingError, match="outside a transaction"):
            await db.execute("INSERT INTO t(a) VALUES (last_insert_rowid())")
        with pytest.raises(errors.ProgrammingError, match="outside a transaction"):
            await db.execute_many("INSERT INTO t(a) VALUES (changes() + ?)", [(1,)])
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (7, 'x'), (9, 'y')")
            for _ in range(40):
                assert await tx.fetch_value("SELECT last_insert_rowid()") == 9
            assert await tx.fetch_value("SELECT changes()") == 2
        assert await db.write(lambda tx: tx.fetch_value("SELECT last_insert_rowid()")) == 9
        with pytest.raises(errors.ProgrammingError):
            await db.fetch_value(sql)


async def test_a_script_may_refer_to_the_row_it_has_inserted(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as db:
        await db.execute_script("CREATE TABLE p(id INTEGER PRIMARY KEY, a); CREATE TABLE c(p)")
        await db.execute_script("INSERT INTO p VALUES (41, 'x'); INSERT INTO c VALUES (last_insert_rowid());")
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO p VALUES (42, 'x')")
            await tx.execute("INSERT INTO c VALUES (last_insert_rowid())")
        assert await db.fetch_all("SELECT p FROM c ORDER BY p") == [(41,), (42,)]


async def test_a_trigger_may_ask_what_it_has_inserted(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as db:
        await db.execute_script(
            "CREATE TABLE p(id INTEGER PRIMARY KEY, a); CREATE TABLE c(p);"
            "CREATE TRIGGER r AFTER INSERT ON p BEGIN INSERT INTO c VALUES (last_insert_rowid()); END;"
        )
        await db.execute("INSERT INTO p VALUES (5, 'x')")
        assert await db.fetch_all("SELECT count(*) FROM c") == [(1,)]


async def test_parameters_are_those_of_the_call_whatever_becomes_of_the_list(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as db:
        await db.execute("CREATE TABLE t(a, b)")
        row: list[Any] = [1, "first"]
        named: dict[str, Any] = {"a": 2, "b": "second"}
        outside = contextvars.copy_context()
        async with db.transaction():
            writes = [
                asyncio.create_task(db.execute("INSERT INTO t VALUES (?, ?)", row), context=outside),
                asyncio.create_task(db.execute("INSERT INTO t VALUES (:a, :b)", named), context=outside.copy()),
            ]
            async with asyncio.timeout(10):
                while db.stats().writes_waiting < 2:  # noqa: ASYNC110  # counted elsewhere
                    await asyncio.sleep(0)
            row[1] = "changed"
            named["b"] = "changed"
        await asyncio.gather(*writes)
        assert await db.fetch_all("SELECT b FROM t ORDER BY a") == [("first",), ("second",)]
