"""What errors say beside the line: the statement, the column, the versions, the function."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

import millpond
import millpond.sync
from millpond import Database
from tests.integration.outside import lock_held, run


class Odd:
    """Nothing that SQLite stores."""


async def test_transaction_control_knows_its_statement(db_path: str) -> None:
    async with Database(db_path) as db:
        for call in (db.execute, db.execute_script, lambda sql: db.write(lambda tx: tx.execute(sql))):
            with pytest.raises(millpond.TransactionControl) as caught:
                await call("BEGIN IMMEDIATE")
            assert caught.value.sql == "BEGIN IMMEDIATE"


@pytest.mark.parametrize(
    ("sql", "where"),
    [
        ("INSERT INTO message(id, sent) VALUES (?, ?)", " (column message.sent)"),
        ("insert or ignore into message (id, sent)\nvalues (?,?) RETURNING id;", " (column message.sent)"),
        ("INSERT INTO message VALUES (?, ?)", " (column message.sent)"),
        ("INSERT INTO message(id, sent) VALUES (?1, ?2)", ""),
        ("INSERT INTO message(id, sent) VALUES (1 + ?, ?)", ""),
        ("UPDATE message SET id = ?, sent = ?", ""),
        ("SELECT ?, ?", ""),
    ],
)
async def test_a_parameter_is_named_by_its_column_where_that_is_sure(sql: str, where: str, db_path: str) -> None:
    async with Database(db_path) as db:
        await db.execute("CREATE TABLE message(id, sent)")
        with pytest.raises(millpond.ParameterError) as caught:
            await db.fetch_all(sql, (1, Odd()))
        text = str(caught.value)
        assert text.startswith(f"parameter 2{where} has type ")
        assert caught.value.sql == sql
        with pytest.raises(millpond.ParameterError) as inside:
            await db.write(lambda tx: tx.execute(sql, (1, Odd())))
        assert str(inside.value) == text


async def test_a_missing_column_tells_the_version_of_the_schema(db_path: str) -> None:
    async with Database(db_path) as db:
        await db.execute("CREATE TABLE message(author)")
        version = await db.fetch_value("PRAGMA schema_version")
        with pytest.raises(millpond.NoSuchColumn) as caught:
            await db.fetch_all("SELECT auther FROM message")
        assert f"schema version {version}; columns of message: author" in (caught.value.detail or "")


def test_a_function_that_waits_is_named(db_path: str) -> None:
    def award(tx: millpond.Transaction) -> None:
        tx.execute("INSERT INTO x VALUES (1)")

    with millpond.sync.Database(db_path) as db:
        db.execute("CREATE TABLE x(a)")
        with lock_held(db_path), pytest.raises(millpond.LockTimeout) as caught:
            db.write(award, timeout=0.2)
    assert str(caught.value).startswith("write(award) waited 0.")
    assert caught.value.sql == "write(award)"


CONFLICT = """
import sqlite3, sys, warnings, millpond.sync
warnings.simplefilter("always")
with millpond.sync.Database(sys.argv[1]) as db:
    sqlite3.connect(sys.argv[1])
"""


def test_the_other_library_is_named_with_its_version(tmp_path: Path) -> None:
    told = run(CONFLICT, str(tmp_path / "a.db")).stderr
    assert f"EngineConflict: sqlite3 {sqlite3.sqlite_version} (module __main__, line 5) has a.db open" in told
