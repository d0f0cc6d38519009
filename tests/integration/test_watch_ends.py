"""How a loop over `watch` ends: left early, closed, cancelled, failed, in a child; and that nothing of it stays."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import millpond
from millpond import Database, DatabaseClosed, DeadlineExceeded, StorageError
from millpond.engine.sqlite import calls
from millpond.engine.sqlite import watchers as looking_after
from tests.waiting import until

from .outside import run
from .watching import BY_OTHERS, BY_OURS, following, watchers_of

COUNT = "SELECT count(*) FROM t"
INSERT = "INSERT INTO t VALUES (1)"


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db", BY_OURS) as db:
        await db.execute("CREATE TABLE t(n)")
        yield db


def no_thread() -> None:
    for thread in threading.enumerate():
        if thread.name == "millpond-watch":
            thread.join(20)
            assert not thread.is_alive()


async def test_a_loop_that_is_left_leaves_nothing(db: Database) -> None:
    async for _ in db.watch(COUNT):
        break
    assert db.stats().watchers == 0
    feed = db.watch(COUNT)
    await following(feed)
    assert feed._watcher is not None
    kept = weakref.ref(feed)
    plan = watchers_of(db)._plan
    assert len(plan) >= 1
    del feed
    assert kept() is None, "nobody holds the feed but its loop"
    assert db.stats().watchers == 0
    await asyncio.to_thread(no_thread)
    assert (len(plan), plan._readers) == (0, {})


async def test_a_feed_in_a_cycle_is_collected_wherever_that_happens(db: Database) -> None:
    """Its finalizer may run in a thread that holds the lock of those who watch."""
    feed = db.watch(COUNT)
    await following(feed)
    feed.itself = feed  # type: ignore[attr-defined]  # a cycle
    kept = weakref.ref(feed)
    del feed
    with watchers_of(db)._lock:
        gc.collect()
    assert kept() is None
    assert db.stats().watchers == 0


async def test_closing_the_feed_ends_the_loop_that_waits(db: Database) -> None:
    feed = db.watch(COUNT, into=int)
    seen = []

    async def read() -> None:
        async for rows in feed:
            seen.append(rows)

    task = asyncio.create_task(read())
    await until(lambda: feed._watcher is not None and feed._watcher.waits)
    await feed.aclose()
    await feed.aclose()
    await asyncio.wait_for(task, 20)
    assert seen == [[0]]
    with pytest.raises(StopAsyncIteration):
        await anext(feed)


async def test_aclosing_works(db: Database) -> None:
    async with aclosing(db.watch(COUNT)) as feed:
        await anext(feed)
        assert db.stats().watchers == 1
    assert db.stats().watchers == 0


async def test_closing_the_database_ends_it_with_an_error_that_says_so(tmp_path: Path) -> None:
    db = Database(tmp_path / "a.db", BY_OURS)
    await db.open()
    await db.execute("CREATE TABLE t(n)")
    waiting, busy = db.watch(COUNT), db.watch(COUNT)
    await following(waiting)
    await following(busy)
    task = asyncio.ensure_future(following(waiting))
    await until(lambda: waiting._watcher is not None and waiting._watcher.waits)
    await db.close()
    for ended in (task, following(busy), following(waiting)):
        with pytest.raises(DatabaseClosed, match=r"closed at test_watch_ends\.py"):
            await ended
    no_thread()
    with pytest.raises(DatabaseClosed):
        db.watch(COUNT)


async def test_a_feed_goes_on_with_a_database_that_was_opened_anew(tmp_path: Path) -> None:
    db = Database(tmp_path / "a.db", BY_OURS)
    await db.open()
    await db.execute("CREATE TABLE t(n)")
    feed = db.watch(COUNT, into=int)
    assert await following(feed) == [0]
    await db.execute(INSERT)
    await db.close()
    await db.open()
    assert await following(feed) == [1]
    await db.execute(INSERT)
    assert await following(feed) == [2]
    await db.close()


async def test_a_cancelled_wait_loses_nothing(db: Database) -> None:
    feed = db.watch(COUNT, into=int)
    await following(feed)
    for turn in range(3):
        task = asyncio.ensure_future(anext(feed))
        await until(lambda: feed._watcher is not None and feed._watcher.waits)
        task.cancel()
        if turn % 2:
            await db.execute(INSERT)
        with pytest.raises(asyncio.CancelledError):
            await task
        if not turn % 2:
            await db.execute(INSERT)
        assert await following(feed) == [turn + 1]
    assert db.stats().watchers == 1


async def test_a_query_that_was_cancelled_is_asked_again(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", BY_OURS.with_(inline="off", cache_bytes=0)) as db:
        await db.execute("CREATE TABLE t(n)")
        feed = db.watch(COUNT, into=int)
        await following(feed)
        await db.execute(INSERT)
        asked = db.stats().watch_queries
        task = asyncio.ensure_future(anext(feed))
        await until(lambda: db.stats().watch_queries > asked, every_s=0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await following(feed) == [1]


async def test_a_query_that_is_too_late_says_so_and_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`timeout` is for each query, and not for the wait between them."""
    async with Database(tmp_path / "a.db", BY_OURS.with_(inline="off", cache_bytes=0)) as db:
        await db.execute("CREATE TABLE t(n)")
        go_on = threading.Event()
        all_rows = calls.all_rows

        def held(*args: Any) -> list[Any]:
            go_on.wait(20)
            return all_rows(*args)

        feed = db.watch(COUNT, into=int, timeout=0.05)
        monkeypatch.setattr(calls, "all_rows", held)
        with pytest.raises(DeadlineExceeded):
            await following(feed)
        go_on.set()
        monkeypatch.undo()
        assert await following(feed) == [0]
        with pytest.raises(DeadlineExceeded):
            db.watch(COUNT, timeout=0)


async def test_a_file_that_was_replaced_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits to another file would never be seen."""
    monkeypatch.setattr(looking_after, "VERIFY_S", 0.0)
    path = tmp_path / "a.db"
    async with Database(path, BY_OTHERS) as db:
        await db.execute("CREATE TABLE t(n)")
        await db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        feed = db.watch(COUNT, into=int)
        await following(feed)
        task = asyncio.ensure_future(following(feed))
        await asyncio.sleep(0)
        path.rename(tmp_path / "moved.db")
        for ended in (task, following(feed)):
            with pytest.raises(StorageError, match="moved or deleted while it was open"):
                await ended
        (tmp_path / "moved.db").rename(path)
        await until(lambda: watchers_of(db)._problem is None)
        await db.execute(INSERT)
        assert await following(feed) == [1]


async def test_a_fault_of_the_thread_is_told_to_all_who_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Database(tmp_path / "a.db", BY_OURS) as db:
        await db.execute("CREATE TABLE t(n)")
        feed = db.watch(COUNT, into=int)
        await following(feed)
        task = asyncio.ensure_future(following(feed))
        await until(lambda: feed._watcher is not None and feed._watcher.waits)

        def broken() -> bool:
            raise RuntimeError("made by a test")

        monkeypatch.setattr(watchers_of(db), "_look_after", broken)
        watchers_of(db)._bell.ring()
        with pytest.raises(millpond.InternalError, match="the watch for changes failed: RuntimeError"):
            await task
        monkeypatch.undo()
        assert run(f"import apsw; apsw.Connection({db._location.path!r}).execute({INSERT!r})").returncode == 0
        assert await following(feed) == [1], "another thread looks, and sees what came in between"
        assert db.stats().watchers == 1


async def test_without_a_thread_to_be_had_it_says_so(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    feed = db.watch(COUNT, into=int)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refused)
        with pytest.raises(millpond.OperationalError, match="changes cannot be watched: can't start new thread"):
            await following(feed)
    assert db.stats().watchers == 0
    assert await following(feed) == [0]


def test_a_child_after_fork_is_refused_and_ends(tmp_path: Path) -> None:
    """In the child there is no thread that looks, and whoever held the lock is not there."""
    code = """
import asyncio, os, sys, warnings
import millpond
warnings.simplefilter("ignore")
async def main():
    async with millpond.Database(sys.argv[1]) as db:
        await db.execute("CREATE TABLE t(a)")
        feed = db.watch("SELECT count(*) FROM t", into=int)
        await anext(feed)
        with db._engine.watchers._lock:
            pid = os.fork()
            if pid == 0:
                try:
                    await anext(feed)
                except millpond.Forked:
                    del feed
                    os._exit(7)
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        await db.execute("INSERT INTO t VALUES (1)")
        print(await anext(feed))
asyncio.run(main())
"""
    done = run(code, str(tmp_path / "a.db"))
    assert done.stdout.split() == ["7", "[1]"], done.stderr


def test_a_script_that_forgets_everything_ends(tmp_path: Path) -> None:
    code = """
import sys
from millpond.sync import Database
db = Database(sys.argv[1])
db.open()
db.execute("CREATE TABLE t(a)")
feed = db.watch("SELECT a FROM t")
next(feed)
print("end")
"""
    done = run(code, str(tmp_path / "a.db"), timeout=20)
    assert (done.returncode, done.stdout.strip()) == (0, "end"), done.stderr
    assert "unclosed database" in done.stderr
