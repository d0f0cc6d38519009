"""Row streams: an end that is no end is an error, and closing is an end."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

import millpond
import millpond.sync
from millpond import Database, DatabaseClosed

ROWS = 5_000


async def filled(path: Path) -> Database:
    db = Database(path)
    await db.open()
    await db.execute("CREATE TABLE t(n)")
    await db.execute_many("INSERT INTO t VALUES (?)", [(i,) for i in range(ROWS)])
    return db


async def test_a_stream_cut_short_by_close_says_so(tmp_path: Path) -> None:
    db = await filled(tmp_path / "a.db")
    begun, closed = asyncio.Event(), asyncio.Event()
    seen = 0

    async def read() -> None:
        nonlocal seen
        async for _ in db.iterate("SELECT n FROM t"):
            seen += 1
            if seen == 1:
                begun.set()
                await closed.wait()

    task = asyncio.create_task(read())
    await begun.wait()
    await db.close()
    closed.set()
    with pytest.raises(DatabaseClosed, match=r"closed at test_streams\.py"):
        await task
    assert 0 < seen < ROWS


async def test_a_stream_read_to_its_last_slice_needs_no_database_any_more(tmp_path: Path) -> None:
    db = await filled(tmp_path / "a.db")
    stream = db.iterate("SELECT n FROM t LIMIT 10")
    first = await anext(stream)
    await db.close()
    assert [first[0], *[row[0] async for row in stream]] == list(range(10))


async def test_a_closed_stream_ends_at_once(tmp_path: Path) -> None:
    db = await filled(tmp_path / "a.db")
    stream = db.iterate("SELECT n FROM t")
    await anext(stream)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    await db.close()


def test_the_twin_says_so_too(tmp_path: Path) -> None:
    db = millpond.sync.Database(tmp_path / "a.db")
    db.open()
    db.execute("CREATE TABLE t(n)")
    db.execute_many("INSERT INTO t VALUES (?)", [(i,) for i in range(ROWS)])
    stream = db.iterate("SELECT n FROM t")
    next(stream)
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)
    stream = db.iterate("SELECT n FROM t")
    next(stream)
    closing = threading.Thread(target=db.close)
    closing.start()
    closing.join()
    with pytest.raises(DatabaseClosed):
        list(stream)


async def test_a_stream_inside_a_block(tmp_path: Path) -> None:
    db = await filled(tmp_path / "a.db")
    async with db.transaction() as tx:
        seen = 0
        async for row in tx.iterate("SELECT n FROM t WHERE n < :most", {"most": 100}):
            await tx.execute("DELETE FROM t WHERE n = ?", row)
            await tx.execute("INSERT INTO t VALUES (-1)")
            seen += 1
        assert seen == 100
        assert [n async for n in tx.iterate("SELECT count(*) FROM t", into=int)] == [ROWS]
    async with db.snapshot() as snap:
        assert len([row async for row in snap.iterate("SELECT n FROM t")]) == ROWS
        streams = [snap.iterate("SELECT n FROM t ORDER BY rowid", into=int) for _ in range(2)]
        assert [await anext(stream) for stream in streams] == [100, 100]
        await db.execute("DELETE FROM t")
        assert len([n async for n in streams[1]]) == ROWS - 1
        assert len([row async for row in snap.iterate("SELECT n FROM t")]) == ROWS
        with pytest.raises(millpond.ProgrammingError, match="only reads"):
            await anext(snap.iterate("DELETE FROM t RETURNING n"))
    with pytest.raises(millpond.ProgrammingError, match="snapshot is over"):
        [n async for n in streams[0]]
    with pytest.raises(millpond.ProgrammingError, match="snapshot is over"):
        snap.iterate("SELECT 1")
    assert await db.fetch_value("SELECT count(*) FROM t") == 0
    await db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (tmp_path / "a.db-wal").stat().st_size == 0, "no reader is left that pins the log"
    await db.close()


async def test_a_stream_of_a_snapshot_in_memory() -> None:
    async with Database(":memory:") as db:
        await db.execute("CREATE TABLE t(n)")
        await db.execute("INSERT INTO t VALUES (1), (2)")
        async with db.snapshot() as snap:
            await db.execute("DELETE FROM t")
            assert [row[0] async for row in snap.iterate("SELECT n FROM t ORDER BY n")] == [1, 2]


def test_streams_inside_a_block_of_the_twin(tmp_path: Path) -> None:
    with millpond.sync.Database(tmp_path / "a.db") as db:
        db.execute("CREATE TABLE t(n)")
        db.execute_many("INSERT INTO t VALUES (?)", [(i,) for i in range(ROWS)])
        with db.transaction() as tx:
            for n in tx.iterate("SELECT n FROM t WHERE n < 10", into=int):
                tx.execute("DELETE FROM t WHERE n = ?", (n,))
        with db.snapshot() as snap:
            left = snap.iterate("SELECT n FROM t")
            next(left)
            db.execute("DELETE FROM t")
            assert len(list(snap.iterate("SELECT n FROM t"))) == ROWS - 10
        with pytest.raises(millpond.ProgrammingError, match="snapshot is over"):
            list(left)
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert (tmp_path / "a.db-wal").stat().st_size == 0, "no reader is left that pins the log"


def unread_for(stream: Any, seconds: float) -> None:
    """As if its last row had been read so long ago."""
    stream._slices.session.last -= seconds


async def test_a_forgotten_stream_is_named_and_one_left_is_not(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as db:
        await db.execute("CREATE TABLE t(n)")
        await db.execute_many("INSERT INTO t VALUES (?)", [(i,) for i in range(ROWS)])
        async for _ in db.iterate("SELECT n FROM t"):
            break
        assert db.stats().leaks == 0
        stream = db.iterate("SELECT n FROM t")
        await anext(stream)
        unread_for(stream, 61)
        with pytest.warns(ResourceWarning, match=r"the iterator opened at test_streams\.py:\d+ in .* was forgotten"):
            del stream
        assert db.stats().leaks == 1
        stream = db.iterate("SELECT n FROM t")
        await anext(stream)
        unread_for(stream, 61)
        await stream.aclose()
        del stream
        assert db.stats().leaks == 1


def test_a_forgotten_stream_of_the_twin_is_named(tmp_path: Path) -> None:
    with millpond.sync.Database(tmp_path / "a.db") as db:
        db.execute("CREATE TABLE t(n)")
        db.execute_many("INSERT INTO t VALUES (?)", [(i,) for i in range(ROWS)])
        stream = db.iterate("SELECT n FROM t")
        next(stream)
        unread_for(stream, 61)
        with pytest.warns(ResourceWarning, match="the iterator opened at test_streams"):
            del stream
        assert db.stats().leaks == 1


async def test_a_stream_has_one_reader_at_a_time(tmp_path: Path) -> None:
    db = await filled(tmp_path / "a.db")
    stream = db.iterate("SELECT n FROM t ORDER BY n", into=int)
    first, second = await asyncio.gather(anext(stream), anext(stream), return_exceptions=True)
    assert first == 0
    assert isinstance(second, millpond.ProgrammingError)
    assert [n async for n in stream] == list(range(1, ROWS))
    await db.close()


async def test_a_stream_whose_beginning_was_cancelled_begins_anew(tmp_path: Path) -> None:
    db = await filled(tmp_path / "a.db")
    stream = db.iterate("SELECT n FROM t ORDER BY n", into=int)
    first = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert [n async for n in stream] == list(range(ROWS))
    await db.close()
