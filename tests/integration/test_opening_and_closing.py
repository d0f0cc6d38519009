"""Opening that fails leaves nothing behind; closing has one end, for all who close."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path
from typing import Any

import apsw
import pytest

from millpond import Database, errors
from millpond.engine.sqlite.connection import VALUE
from millpond.sync import Database as SyncDatabase


def threads_of_ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("millpond")]


async def test_opening_that_fails_leaves_no_thread(tmp_path: Path) -> None:
    with pytest.raises(errors.StorageError):
        await Database(tmp_path / "missing" / "a.db", observers=[lambda event: None]).open()
    async with asyncio.timeout(5):
        while threads_of_ours():  # noqa: ASYNC110  # the writer's ends by itself
            await asyncio.sleep(0.01)


async def test_whoever_closes_waits_for_the_same_end(tmp_path: Path) -> None:
    db = Database(tmp_path / "a.db")
    await db.open()
    await db.execute("CREATE TABLE t(a)")
    engine = db._engine
    assert engine is not None
    begun, go_on = threading.Event(), threading.Event()
    take_down = engine._take_down

    def slow(grace_s: float) -> None:
        begun.set()
        go_on.wait(10)
        take_down(grace_s)

    engine._take_down = slow  # type: ignore[method-assign]  # held up on purpose
    first = asyncio.create_task(db.close())
    await asyncio.to_thread(begun.wait, 10)
    second = asyncio.create_task(db.close())
    done, _ = await asyncio.wait([first, second], timeout=0.1)
    assert not done
    go_on.set()
    await asyncio.wait_for(asyncio.gather(first, second), 10)
    assert not engine.writer.is_alive
    await db.close()


def test_threads_that_close_wait_for_the_same_end(tmp_path: Path) -> None:
    db = SyncDatabase(tmp_path / "a.db")
    db.open()
    engine = db._engine
    assert engine is not None
    begun, go_on = threading.Event(), threading.Event()
    take_down = engine._take_down
    alive: list[bool] = []

    def slow(grace_s: float) -> None:
        begun.set()
        go_on.wait(10)
        take_down(grace_s)

    def close() -> None:
        db.close()
        alive.append(engine.writer.is_alive)

    engine._take_down = slow  # type: ignore[method-assign]  # held up on purpose
    threads = [threading.Thread(target=close) for _ in range(3)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    threads[1].join(0.1)
    assert not alive
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert alive == [False] * 3


@pytest.mark.parametrize("method", ["execute", "write", "transaction", "execute_script", "execute_many"])
def test_a_function_in_the_writer_that_writes_through_the_database_is_told_at_once(tmp_path: Path, method: str) -> None:
    def fn(tx: Any) -> None:
        tx.execute("INSERT INTO t VALUES (1)")
        assert db.fetch_value("SELECT count(*) FROM t") == 0  # reading is no wait for itself
        match method:
            case "execute":
                db.execute("INSERT INTO t VALUES (2)")
            case "write":
                db.write(lambda inner: None)
            case "transaction":
                with db.transaction():
                    raise AssertionError("it waits for itself")
            case "execute_script":
                db.execute_script("INSERT INTO t VALUES (2)")
            case _:
                db.execute_many("INSERT INTO t VALUES (?)", [(2,)])

    with SyncDatabase(tmp_path / "a.db", {"timeout_s": 2.0}) as db:
        db.execute("CREATE TABLE t(a)")
        with pytest.raises(errors.WouldWaitForItself, match=f"db.{method}.* inside a function given to `write`"):
            db.write(fn)
        assert db.fetch_value("SELECT count(*) FROM t") == 0
        db.write(lambda tx: tx.execute("INSERT INTO t VALUES (3)"))
        assert db.fetch_value("SELECT count(*) FROM t") == 1


async def test_a_reader_that_broke_is_not_replaced_by_one_of_another_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with Database(path) as db:
        await db.execute("CREATE TABLE t(a)")
        profile = await db._profile("SELECT count(*) FROM t")
        assert db._engine is not None
        inline = db._engine.inline
        assert inline is not None

        def broken(*_: object) -> None:
            raise apsw.IOError("disk I/O error")

        os.rename(path, tmp_path / "moved.db")
        other = apsw.Connection(str(path))
        other.execute("CREATE TABLE t(a); INSERT INTO t VALUES ('of another file')")
        inline.connection.query = broken  # type: ignore[method-assign, assignment]  # as if the disk had failed
        with pytest.raises(errors.StorageError, match="replaced by another file"):
            inline.run(profile, None, VALUE, 0.0)
        other.close()
