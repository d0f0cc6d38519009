"""`watch` for threads: the same, in a `for` loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import millpond
import millpond.sync
from millpond.sync import Database, ResultFeed
from tests.waiting import IN_TIME_S

from .outside import run
from .watching import BY_OTHERS, BY_OURS

COUNT = "SELECT count(*) FROM t"
INSERT = "INSERT INTO t VALUES (1)"


@pytest.fixture(params=["file", "memory"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "a.db" if request.param == "file" else ":memory:", BY_OURS) as db:
        db.execute("CREATE TABLE t(n)")
        db.execute("CREATE TABLE other(n)")
        yield db


class Loop:
    """A thread that loops over a feed; what it was given, and how it ended, is there to be waited for."""

    def __init__(self, feed: ResultFeed[Any]) -> None:
        self._given: SimpleQueue[Any] = SimpleQueue()
        self._feed = feed
        self.thread = threading.Thread(target=self._main, daemon=True)
        self.thread.start()

    def _main(self) -> None:
        try:
            for rows in self._feed:
                self._given.put(rows)
        except millpond.Error as exc:
            self._given.put(exc)
        else:
            self._given.put("ended")

    def following(self) -> Any:
        return self._given.get(timeout=IN_TIME_S)


def test_the_result_now_and_after_each_change(db: Database) -> None:
    seen = []
    for rows in db.watch(COUNT, into=int):
        seen.append(rows)
        if len(seen) == 3:
            break
        db.execute(INSERT)
    assert seen == [[0], [1], [2]]
    assert db.stats().watchers == 0


def test_threads_that_wait_are_told(db: Database) -> None:
    loops = [Loop(db.watch(COUNT, into=int)) for _ in range(3)]
    assert [loop.following() for loop in loops] == [[0]] * 3
    for i in range(1, 4):
        db.execute("INSERT INTO other VALUES (1)")
        db.write(lambda tx: tx.execute(INSERT))
        assert [loop.following() for loop in loops] == [[i]] * 3
    assert db.stats().watch_queries == 12


def test_closing_the_feed_from_another_thread_ends_the_loop(db: Database) -> None:
    feed = db.watch(COUNT, into=int)
    loop = Loop(feed)
    assert loop.following() == [0]
    feed.close()
    assert loop.following() == "ended"
    assert list(feed) == []


def test_closing_the_database_ends_it_with_an_error_that_says_so(tmp_path: Path) -> None:
    db = Database(tmp_path / "b.db", BY_OURS)
    db.open()
    db.execute("CREATE TABLE t(n)")
    loops = [Loop(db.watch(COUNT)) for _ in range(3)]
    for loop in loops:
        loop.following()
    db.close()
    for loop in loops:
        ended = loop.following()
        assert isinstance(ended, millpond.DatabaseClosed)
        assert "closed at test_watch_sync.py" in str(ended)


def test_another_processs_commit_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    with Database(path, BY_OTHERS) as db:
        db.execute("CREATE TABLE t(n)")
        loop = Loop(db.watch(COUNT, into=int))
        assert loop.following() == [0]
        assert run(f"import apsw; apsw.Connection({str(path)!r}).execute({INSERT!r})").returncode == 0
        assert loop.following() == [1]


def test_where_it_would_wait_for_itself_it_says_so(tmp_path: Path) -> None:
    with Database(tmp_path / "a.db", BY_OURS) as db:
        db.execute("CREATE TABLE t(n)")
        feed = db.watch(COUNT, into=int)
        with db.transaction() as tx:
            tx.execute(INSERT)
            assert next(feed) == [0]
            with pytest.raises(millpond.WouldWaitForItself, match="inside the transaction opened at test_watch_sync"):
                next(feed)

        def inside(_tx: millpond.Transaction) -> None:
            next(feed)
            next(feed)

        with pytest.raises(millpond.WouldWaitForItself, match="inside a function given to `write`"):
            db.write(inside)
        db.execute(INSERT)
        assert next(feed) == [2]


def test_a_feed_has_one_reader_at_a_time(db: Database) -> None:
    feed = db.watch(COUNT, into=int)
    loop = Loop(feed)
    assert loop.following() == [0]
    with pytest.raises(millpond.ProgrammingError, match="read by another caller"):
        while True:
            next(feed)
    db.execute(INSERT)
    assert loop.following() == [1]


def test_an_interrupt_ends_the_wait(tmp_path: Path) -> None:
    """Ctrl-C while the main thread waits for a change."""
    code = """
import os, signal, sys, threading
from millpond.sync import Database
with Database(sys.argv[1]) as db:
    db.execute("CREATE TABLE t(a)")
    feed = db.watch("SELECT a FROM t")
    next(feed)
    def strike():
        while not feed._watcher.waits:
            pass
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=strike).start()
    try:
        next(feed)
    except KeyboardInterrupt:
        print("interrupted")
    db.execute("INSERT INTO t VALUES (1)")
    print(len(next(feed)))
"""
    done = run(code, str(tmp_path / "a.db"), timeout=20)
    assert done.stdout.split() == ["interrupted", "1"], done.stderr


@pytest.mark.parametrize("sql", ["PRAGMA user_version", "SELECT 1", INSERT])
def test_what_cannot_be_watched_is_refused_at_once(db: Database, sql: str) -> None:
    with pytest.raises(millpond.DatabaseError, match=r"watch|change"):
        next(db.watch(sql))
