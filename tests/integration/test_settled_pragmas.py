"""Scripts written for other libraries: pragmas that change nothing here, and a shell's dump."""

from __future__ import annotations

from typing import Any

import pytest

import millpond
import millpond.sync
from millpond import Database

SO_ALREADY = ["PRAGMA foreign_keys = ON", "PRAGMA journal_mode=WAL", "PRAGMA main.journal_mode='wal'"]


@pytest.mark.parametrize("where", ["file", "memory"])
@pytest.mark.parametrize("pragma", SO_ALREADY)
async def test_what_is_so_already_does_nothing_wherever_it_stands(pragma: str, where: str, db_path: str) -> None:
    async with Database(db_path if where == "file" else ":memory:") as db:
        await db.execute_script(f"{pragma}; CREATE TABLE x(a); INSERT INTO x VALUES (1)")
        assert await db.fetch_value("SELECT a FROM x") == 1
        answers: list[Any] = [await db.fetch_value(pragma), await db.write(lambda tx: tx.fetch_value(pragma))]
        async with db.transaction() as tx:
            answers.append(await tx.fetch_value(pragma))
        await db.execute(pragma)
        assert set(answers) == {1 if "foreign_keys" in pragma else "wal" if where == "file" else "memory"}


async def test_synchronous_as_the_settings_say(db_path: str) -> None:
    async with Database(db_path) as db:
        await db.execute("PRAGMA synchronous = FULL")
        assert await db.fetch_value("PRAGMA synchronous = 2") == 2
        with pytest.raises(millpond.NotSupportedError, match="PRAGMA synchronous") as caught:
            await db.execute("PRAGMA synchronous = NORMAL")
        assert "Settings(durability=" in (caught.value.hint or "")
    async with Database(db_path, {"durability": "normal"}) as db:
        await db.execute("PRAGMA synchronous = NORMAL")
        with pytest.raises(millpond.NotSupportedError):
            await db.execute("PRAGMA synchronous = FULL")


async def test_every_other_value_is_refused_with_its_setting(db_path: str) -> None:
    async with Database(db_path) as db:
        with pytest.raises(millpond.NotSupportedError, match="foreign_keys cannot run inside") as caught:
            await db.execute_script("PRAGMA foreign_keys = OFF; CREATE TABLE x(a)")
        assert "Settings(foreign_keys=...)" in (caught.value.hint or "")
        with pytest.raises(millpond.NotSupportedError):
            await db.execute("PRAGMA journal_mode = DELETE")


async def test_what_is_so_follows_what_was_set_meanwhile(db_path: str) -> None:
    async with Database(db_path) as db:
        await db.execute("PRAGMA foreign_keys = ON")
        await db.execute("PRAGMA foreign_keys = OFF")
        with pytest.raises(millpond.NotSupportedError):
            await db.execute_script("PRAGMA foreign_keys = ON; CREATE TABLE x(a)")
        await db.execute_script("PRAGMA foreign_keys = OFF; CREATE TABLE x(a)")
        await db.execute("PRAGMA foreign_keys = ON")
        assert await db.fetch_value("PRAGMA foreign_keys") == 1
        assert await db.write(lambda tx: tx.fetch_value("PRAGMA foreign_keys")) == 1


async def test_the_log_of_an_attached_file_is_set(db_path: str, tmp_path: Any) -> None:
    async with Database(db_path) as db:
        await db.execute("ATTACH ? AS other", (str(tmp_path / "other.db"),))
        await db.execute("PRAGMA other.journal_mode = WAL")
        assert await db.fetch_value("PRAGMA other.journal_mode") == "wal"


def test_a_dump_is_told_how_to_load_it(db_path: str) -> None:
    dump = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE x(a);\nINSERT INTO x VALUES (1);\nCOMMIT;\n"
    with millpond.sync.Database(db_path) as db:
        with pytest.raises(millpond.NotSupportedError, match="a dump brings its own transaction") as caught:
            db.execute_script(dump)
        assert "sqlite3 new.db < dump.sql" in (caught.value.hint or "")
        assert db.fetch_value("SELECT count(*) FROM sqlite_schema") == 0
