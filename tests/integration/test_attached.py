"""Writes to an attached file that is not in WAL mode: its readers and its commits exclude each other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import monotonic

import pytest

from millpond import Database, errors
from millpond.engine.sqlite import platform

from .outside import lock_held

READ = "BEGIN; SELECT * FROM q"


async def attached(db: Database, tmp_path: Path) -> str:
    other = str(tmp_path / "other.db")
    await db.execute("ATTACH ? AS o", (other,))
    await db.execute("CREATE TABLE o.q(x)")
    await db.execute("INSERT INTO o.q VALUES (0)")
    await db.execute("CREATE TABLE t(x)")
    assert await db.fetch_value("PRAGMA o.journal_mode") == "delete"
    return other


async def test_a_commit_waits_for_a_snapshot_of_the_attached_file_to_end(db_path: str, tmp_path: Path) -> None:
    async with Database(db_path) as db:
        await attached(db, tmp_path)
        async with db.snapshot() as snapshot:
            assert await snapshot.fetch_value("SELECT count(*) FROM o.q") == 1
            write = asyncio.create_task(db.execute("INSERT INTO o.q VALUES (1)"))
            await asyncio.wait([write], timeout=0.3)
            assert not write.done()
        assert (await write).rowcount == 1
        assert await db.fetch_value("SELECT count(*) FROM o.q") == 2


async def test_it_gives_up_at_its_deadline_and_names_the_file(db_path: str, tmp_path: Path) -> None:
    async with Database(db_path) as db:
        other = await attached(db, tmp_path)
        async with db.snapshot() as snapshot:
            await snapshot.fetch_value("SELECT count(*) FROM o.q")
            started = monotonic()
            with pytest.raises(errors.LockTimeout) as caught:
                await db.execute("INSERT INTO o.q VALUES (1)", timeout=0.3)
            assert 0.29 <= monotonic() - started < 5
        error = caught.value
        assert "for other.db, which is attached and locked by" in str(error)
        assert "bot.db" not in str(error)
        assert error.waited is not None
        assert 0.29 <= error.waited < 5
        assert (error.applied, error.path, error.retryable) == ("no", other, True)
        assert await db.fetch_value("SELECT count(*) FROM o.q") == 1
        await db.execute("INSERT INTO o.q VALUES (1)")


async def test_the_process_that_reads_it_is_named(db_path: str, tmp_path: Path) -> None:
    async with Database(db_path) as db:
        other = await attached(db, tmp_path)
        with lock_held(other, READ) as process:
            with pytest.raises(errors.LockTimeout) as caught:
                await db.execute("INSERT INTO o.q VALUES (1)", timeout=0.3)
            if platform.linux_facts:
                assert caught.value.holder is not None
                assert (caught.value.holder.pid, caught.value.holder.ours) == (process.pid, False)
                assert f"pid {process.pid}" in str(caught.value)


async def test_neighbours_with_more_time_are_not_failed_with_the_first(db_path: str, tmp_path: Path) -> None:
    async with Database(db_path) as db:
        await attached(db, tmp_path)
        async with db.snapshot() as snapshot:
            await snapshot.fetch_value("SELECT count(*) FROM o.q")
            first = asyncio.create_task(db.execute("INSERT INTO o.q VALUES (1)", timeout=0.4))
            others = [asyncio.create_task(db.execute("INSERT INTO t VALUES (1)", timeout=20)) for _ in range(5)]
            await asyncio.wait([first], timeout=10)
            assert isinstance(first.exception(), errors.LockTimeout | errors.DeadlineExceeded)
            assert not any(task.done() for task in others)
        await asyncio.gather(*others)
        assert await db.fetch_value("SELECT count(*) FROM t") == 5
        assert await db.fetch_value("SELECT count(*) FROM o.q") == 1


async def test_a_transaction_waits_too(db_path: str, tmp_path: Path) -> None:
    async with Database(db_path) as db:
        await attached(db, tmp_path)

        async def in_transaction() -> None:
            async with db.transaction() as tx:
                await tx.execute("INSERT INTO o.q VALUES (1)")

        async with db.snapshot() as snapshot:
            await snapshot.fetch_value("SELECT count(*) FROM o.q")
            task = asyncio.create_task(in_transaction())
            await asyncio.wait([task], timeout=0.3)
            assert not task.done()
        await task
        assert await db.fetch_value("SELECT count(*) FROM o.q") == 2
