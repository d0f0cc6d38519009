"""Who may close, from where, and which line an error names afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import pytest

import millpond.sync
from millpond import Database, DatabaseClosed, WrongLoop
from millpond.callers.tasks import TaskPort


def line_above() -> str:
    frame = sys._getframe(1)
    return f"test_loops_and_closing.py:{frame.f_lineno - 1} in {frame.f_code.co_name}()"


async def refused(db: Database) -> str:
    with pytest.raises(DatabaseClosed) as caught:
        await db.execute("SELECT 1")
    return str(caught.value)


async def test_closed_at(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as db:
        line = line_above()
    assert f"closed at {line}" in await refused(db)
    await db.open()
    await db.close()
    line = line_above()
    assert f"closed at {line}" in await refused(db)
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(db)
    assert "closed at test_loops_and_closing.py:" in await refused(db)


def test_closed_at_by_the_twin(tmp_path: Path) -> None:
    with millpond.sync.Database(tmp_path / "a.db") as db:
        line = line_above()
    with pytest.raises(DatabaseClosed) as caught:
        db.execute("SELECT 1")
    assert f"closed at {line}" in str(caught.value)


def test_another_loop_may_not_close(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()

    async def opened() -> Database:
        db = Database(tmp_path / "a.db")
        await db.open()
        return db

    db = loop.run_until_complete(opened())

    async def close() -> None:
        with pytest.raises(WrongLoop):
            await db.close()

    asyncio.run(close())

    async def still_good() -> None:
        assert await db.fetch_value("SELECT 1") == 1
        await db.close()

    loop.run_until_complete(still_good())
    loop.close()


def test_when_its_loop_is_gone_any_other_may_close(tmp_path: Path) -> None:
    db = Database(tmp_path / "a.db")

    async def use() -> None:
        await db.open()
        await db.execute("CREATE TABLE t(n)")

    asyncio.run(use())
    asyncio.run(db.close())
    assert "closed" in repr(db)
    with millpond.sync.Database(tmp_path / "a.db") as again:
        assert again.fetch_value("SELECT count(*) FROM t") == 0


def test_a_wait_on_the_wrong_loop_is_not_swallowed() -> None:
    loop = asyncio.new_event_loop()
    port = TaskPort(loop)
    with pytest.raises(RuntimeError, match="loop"):
        asyncio.run(port.in_thread(lambda: 1))
    loop.close()
