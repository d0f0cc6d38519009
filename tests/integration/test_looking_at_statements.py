"""Looking at a statement before it runs: it must neither fail nor leave anything open."""

from __future__ import annotations

from pathlib import Path

import pytest

from millpond import Database


@pytest.mark.parametrize("sql", ["INSERT INTO t(j) VALUES (x'89504e47ff')", "UPDATE t SET j = x'00ff'"])
async def test_a_blob_written_in_a_statement_is_no_text(tmp_path: Path, sql: str) -> None:
    async with Database(tmp_path / "a.db") as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, j)")
        await db.execute("INSERT INTO t(j) VALUES (0)")
        assert (await db.execute(sql)).rowcount == 1
        assert (await db.write(lambda tx: tx.execute(sql + " -- in the writer"))).rowcount == 1
        assert await db.fetch_value("SELECT x'c328'") == b"\xc3\x28"
        await db.execute_script("INSERT INTO t VALUES (7, x'89504e470d0a1a0a');")
        assert await db.fetch_value("SELECT j FROM t WHERE j = x'89504e470d0a1a0a'") == b"\x89PNG\r\n\x1a\n"


async def test_a_statement_that_was_looked_at_does_not_pin_the_commit(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as db:
        await db.execute("CREATE TABLE t(a)")
        for sql in ("SELECT count(*) FROM t WHERE a <> x'ff'", "SELECT count(*) FROM t WHERE a = 'x' -- plain"):
            await db.fetch_value(sql)
            assert db._engine is not None
            assert db._engine.inline is not None
            connection = db._engine.inline.connection.db
            assert connection.txn_state("main") == 0
        for number in range(4):
            await db.execute("INSERT INTO t VALUES (?)", (number,))
            assert await db.fetch_value("SELECT count(*) FROM t") == number + 1
