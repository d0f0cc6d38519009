"""Columns, when others change the schema: names, values and converters belong to the rows that come."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millpond import Database
from millpond.sync import Database as SyncDatabase

SWAP = "ALTER TABLE x RENAME COLUMN a TO z; ALTER TABLE x RENAME COLUMN b TO a"

Outside = Callable[[str, str], list[Any]]


async def test_a_stream_has_the_names_of_the_schema_that_it_reads(tmp_path: Path, outside: Outside) -> None:
    path = tmp_path / "a.db"
    async with Database(path) as db:
        await db.execute_script("CREATE TABLE x(a, b); INSERT INTO x VALUES (1, 2)")

        async def stream() -> list[dict[str, Any]]:
            return [row.asdict() async for row in db.iterate("SELECT * FROM x")]

        assert await stream() == await stream() == [{"a": 1, "b": 2}]
        outside(str(path), SWAP)
        assert await stream() == [{"z": 1, "a": 2}]
        assert await stream() == [{"z": 1, "a": 2}]


def test_a_stream_of_a_thread_has_them_too(tmp_path: Path, outside: Outside) -> None:
    path = tmp_path / "a.db"
    with SyncDatabase(path) as db:
        db.execute_script("CREATE TABLE x(a, b); INSERT INTO x VALUES (1, 2)")
        assert [row.asdict() for row in db.iterate("SELECT * FROM x")] == [{"a": 1, "b": 2}]
        outside(str(path), SWAP)
        assert [row.asdict() for row in db.iterate("SELECT * FROM x")] == [{"z": 1, "a": 2}]


@pytest.mark.parametrize("inline", ["auto", "off"])
async def test_an_attached_database_that_another_process_changes(tmp_path: Path, outside: Outside, inline: str) -> None:
    beside = str(tmp_path / "beside.db")
    async with Database(tmp_path / "a.db", {"inline": inline}) as db:
        await db.execute("CREATE TABLE t(a)")
        await db.execute("ATTACH ? AS beside", (beside,))
        await db.execute_script("CREATE TABLE beside.x(a, b); INSERT INTO beside.x VALUES (1, 2)")
        for _ in range(4):
            row = await db.fetch_one("SELECT * FROM beside.x")
            assert row is not None
            assert row.asdict() == {"a": 1, "b": 2}
        outside(beside, SWAP)
        for _ in range(2):
            row = await db.fetch_one("SELECT * FROM beside.x")
            assert row is not None
            assert row.asdict() == {"z": 1, "a": 2}
        assert [row.asdict() async for row in db.iterate("SELECT * FROM beside.x")] == [{"z": 1, "a": 2}]


async def test_converters_see_the_columns_that_were_added(tmp_path: Path, outside: Outside) -> None:
    path = tmp_path / "a.db"
    async with Database(path, {"converters": {"JSON": json.loads}}) as db:
        await db.execute_script("CREATE TABLE t(a, j JSON); INSERT INTO t VALUES (1, '[2]')")
        for _ in range(3):
            await db.fetch_all("SELECT * FROM t")
        assert [tuple(row) async for row in db.iterate("SELECT * FROM t")] == [(1, [2])]
        outside(str(path), "ALTER TABLE t ADD COLUMN k JSON DEFAULT '[7]'")
        (row,) = await db.fetch_all("SELECT * FROM t")
        assert row.asdict() == {"a": 1, "j": [2], "k": [7]}
        outside(str(path), "ALTER TABLE t ADD COLUMN l JSON DEFAULT '[8]'")
        found = [row.asdict() async for row in db.iterate("SELECT * FROM t")]
        assert found == [{"a": 1, "j": [2], "k": [7], "l": [8]}]


async def test_detaching_leaves_a_stream_alone_that_reads_from_it(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as db:
        await db.execute("ATTACH ? AS beside", (str(tmp_path / "beside.db"),))
        await db.execute("CREATE TABLE beside.x(a)")
        await db.execute_many("INSERT INTO beside.x VALUES (?)", [(n,) for n in range(3_000)])
        seen = 0
        async for row in db.iterate("SELECT a FROM beside.x ORDER BY rowid"):
            assert row[0] == seen
            seen += 1
            if seen == 10:
                await db.execute("DETACH beside")
        assert seen == 3_000
        async with db.snapshot() as snap:  # the same reader, which has caught up
            assert await snap.fetch_value("SELECT count(*) FROM pragma_database_list WHERE name = 'beside'") == 0


async def test_incremental_vacuum_frees_all_pages(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as db:
        await db.execute("PRAGMA auto_vacuum = 2")
        await db.execute("VACUUM")
        await db.execute("CREATE TABLE t(a)")
        await db.execute("INSERT INTO t VALUES (zeroblob(400000))")
        await db.execute("DROP TABLE t")
        assert await db.fetch_value("PRAGMA freelist_count") > 50
        await db.execute("PRAGMA incremental_vacuum")
        assert await db.fetch_value("PRAGMA freelist_count") == 0
