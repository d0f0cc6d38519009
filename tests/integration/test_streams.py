"""Row streams: an end that is no end is an error, and closing is an end."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

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
