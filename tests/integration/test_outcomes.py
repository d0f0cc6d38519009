"""`applied` tells what is in the file, also where a call was refused before it ran."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

import millpond
import millpond.sync
from millpond import Database, DataError, DeadlineExceeded, Error, ParameterError, ProgrammingError

INSERT = "INSERT INTO t(n) VALUES (?)"
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "


@dataclass
class Misfit:
    id: int
    nope: int


@pytest_asyncio.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db") as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, n)")
        yield db


async def test_wrong_parameters_of_a_write_are_not_applied(db: Database) -> None:
    for wrong in ("ab", {1}, (object(),), (2**80,), (1, 2)):
        for call in (
            db.execute(INSERT, wrong),
            db.fetch_all(INSERT + " RETURNING id", wrong),
            db.execute_many(INSERT, [wrong]),
            db.write(lambda tx, wrong=wrong: tx.execute(INSERT, wrong)),  # type: ignore[misc]  # bound now
            db.write(lambda tx, wrong=wrong: tx.execute_many(INSERT, [wrong])),  # type: ignore[misc]  # bound now
        ):
            with pytest.raises(ParameterError) as caught:
                await call
            assert caught.value.applied == "no", wrong
            assert (caught.value.sql or "").startswith(INSERT), wrong
        for name in ("execute", "fetch_all"):
            with pytest.raises(ParameterError) as caught:
                async with db.transaction() as tx:
                    await getattr(tx, name)(INSERT, wrong)
            assert caught.value.applied == "no", wrong
    assert await db.fetch_value("SELECT count(*) FROM t") == 0


async def test_a_read_has_no_outcome(db: Database) -> None:
    for wrong in ("ab", {1}, (object(),), (1, 2)):
        with pytest.raises(ParameterError) as caught:
            await db.fetch_all("SELECT ?", wrong)
        assert caught.value.applied is None
    with pytest.raises(ProgrammingError) as refused:
        await db.fetch_all("SELECT 1", timeout=-1)
    assert refused.value.applied is None


async def test_a_would_be_write_is_not_applied(db: Database) -> None:
    for call in (
        db.execute("INSERT INTO t(n) VALUES (1); INSERT INTO t(n) VALUES (2)"),
        db.execute("INSERT INTO t(n) VALUES (1)", timeout=-1),
        db.execute("INSERT INTO t(n) VALUES (1)", timeout="5"),  # type: ignore[arg-type]  # that is the point
        db.execute("INSERT INTO t(n) VALUES (1)", durability="FULL"),  # type: ignore[arg-type]  # that is the point
        db.execute("INSERT INTO t(n) VALUES (1)", priority=99),  # type: ignore[arg-type]  # that is the point
        db.execute("INSERT INTO t(n) VALUES (1)", priority=[]),  # type: ignore[arg-type]  # that is the point
    ):
        with pytest.raises(ProgrammingError) as caught:
            await call
        assert caught.value.applied == "no"
    assert await db.fetch_value("SELECT count(*) FROM t") == 0


async def test_rows_that_do_not_fit_do_not_undo_the_write(db: Database) -> None:
    with pytest.raises(DataError) as caught:
        await db.fetch_all("INSERT INTO t(n) VALUES (1) RETURNING id", into=Misfit)
    assert caught.value.applied == "yes"
    assert caught.value.sql == "INSERT INTO t(n) VALUES (1) RETURNING id"
    with pytest.raises(DataError) as caught:
        await db.fetch_one("INSERT INTO t(n) VALUES (1) RETURNING id", into=Misfit)
    assert caught.value.applied == "yes"
    with pytest.raises(DataError) as caught:
        await db.fetch_all("SELECT id FROM t", into=Misfit)
    assert caught.value.applied is None
    assert await db.fetch_value("SELECT count(*) FROM t") == 2


async def test_a_statement_of_a_transaction_that_ran_out_of_time_is_not_applied(db: Database) -> None:
    with pytest.raises(DeadlineExceeded) as caught:
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t(n) " + ENDLESS + "SELECT x FROM c", timeout=0.05)
    assert caught.value.applied == "no"
    with pytest.raises(DeadlineExceeded) as caught:
        async with db.transaction() as tx:
            await tx.fetch_value(ENDLESS.strip() + " SELECT count(*) FROM c", timeout=0.05)
    assert await db.fetch_value("SELECT count(*) FROM t") == 0


async def test_a_read_of_a_replaced_file_has_no_outcome(db: Database, tmp_path: Path) -> None:
    await db.execute(INSERT, (1,))
    with millpond.sync.Database(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, n)")
    for name in ("-wal", "-shm"):
        (tmp_path / f"a.db{name}").rename(tmp_path / f"gone.db{name}")
    os.replace(tmp_path / "other.db", tmp_path / "a.db")
    with pytest.raises(Error) as caught:
        async with db.snapshot() as snap:
            await snap.fetch_all("SELECT * FROM t")
    assert caught.value.applied is None
    with pytest.raises(Error) as caught:
        await db.execute(INSERT, (2,))
    assert caught.value.applied == "no"


async def test_no_time_at_all_runs_nothing(db: Database, tmp_path: Path) -> None:
    for _ in range(30):
        await db.fetch_value("SELECT count(*) FROM t")
    assert await db.fetch_value("SELECT count(*) FROM t") == 0

    async def stream() -> None:
        async for _ in db.iterate("SELECT 1", timeout=0):
            pass

    async def snapshot() -> None:
        async with db.snapshot(timeout=0):
            pass

    async def transaction() -> None:
        async with db.transaction(timeout=0):
            pass

    async def inside() -> None:
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t(n) VALUES (1)", timeout=0)

    for call in (
        db.execute("INSERT INTO t(n) VALUES (1)", timeout=0),
        db.execute_many(INSERT, [(1,)], timeout=0),
        db.execute_script("INSERT INTO t(n) VALUES (1)", timeout=0),
        db.write(lambda tx: tx.execute("INSERT INTO t(n) VALUES (1)"), timeout=0),
        db.fetch_value("SELECT count(*) FROM t", timeout=0),
        db.fetch_all("SELECT count(*), 1 FROM t", timeout=0),
        db.fetch_one("INSERT INTO t(n) VALUES (1) RETURNING id", timeout=0.0),
        stream(), snapshot(), transaction(), inside(),
    ):  # fmt: skip
        with pytest.raises(DeadlineExceeded):
            await call
    assert await db.fetch_value("SELECT count(*) FROM t") == 0
    with millpond.sync.Database(tmp_path / "b.db") as twin:
        twin.execute("CREATE TABLE t(n)")
        with pytest.raises(DeadlineExceeded) as caught:
            twin.execute("INSERT INTO t VALUES (1)", timeout=0)
        assert caught.value.applied == "no"
        with pytest.raises(DeadlineExceeded):
            twin.fetch_all("SELECT * FROM t", timeout=0)
        assert twin.fetch_value("SELECT count(*) FROM t") == 0
