"""Threads share a kept read transaction too: as fresh as a new one, and ended when nobody reads any more."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from millpond import Settings
from millpond.engine.sqlite import idle_reads, platform
from millpond.engine.sqlite.inline import InlineReader
from millpond.sync import Database

from .outside import ask

VALUE = "SELECT n FROM t WHERE id = ?"

pytestmark = pytest.mark.skipif(not platform.linux_facts, reason="the WAL index is mapped on Linux alone")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "a.db", Settings(cache_bytes=0)) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, n)")
        db.execute_many("INSERT INTO t VALUES (?, 0)", ((i,) for i in range(8)))
        yield db


def inline(db: Database) -> InlineReader:
    assert db._engine is not None
    assert db._engine.inline is not None
    return db._engine.inline


def is_held(db: Database) -> bool:
    return inline(db).connection.db.in_transaction


def hold(db: Database) -> None:
    """Read until a transaction is kept."""
    for _ in range(2_000):
        db.fetch_one(VALUE, (1,))
        if is_held(db):
            return
    raise AssertionError("2,000 reads, and no transaction is kept")


@pytest.fixture
def for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody ends a kept transaction but a read."""
    monkeypatch.setattr(idle_reads, "IDLE_S", 60.0)


def test_a_commit_of_another_process_is_seen_by_the_next_read(db: Database, for_ever: None) -> None:
    hold(db)
    ask(db._location.path, "UPDATE t SET n = 7")
    assert is_held(db)
    assert db.fetch_value(VALUE, (1,)) == 7


def test_it_ends_when_nobody_reads_any_more(db: Database) -> None:
    ended = threading.Event()
    let_go = inline(db).let_go

    def seen() -> None:
        let_go()
        if threading.current_thread().name == "millpond-idle-reads":
            ended.set()

    hold(db)
    inline(db).let_go = seen  # type: ignore[method-assign]  # to see who calls it
    hold(db)
    assert ended.wait(10)
    assert not is_held(db)
    assert ask(db._location.path, "PRAGMA wal_checkpoint(TRUNCATE)").startswith("[(0,")
    hold(db)  # and it begins anew


def test_a_checkpoint_through_the_database_does_not_meet_it(db: Database, for_ever: None) -> None:
    db.execute("UPDATE t SET n = 1")
    hold(db)
    assert db.fetch_all("PRAGMA wal_checkpoint(TRUNCATE)") == [(0, 0, 0)]


def test_closing_ends_it_and_its_watch(tmp_path: Path) -> None:
    with Database(tmp_path / "b.db", Settings(cache_bytes=0)) as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, n)")
        hold(db)
    for thread in threading.enumerate():
        if thread.name == "millpond-idle-reads":
            thread.join(10)
            assert not thread.is_alive()


def test_each_thread_sees_what_it_wrote_and_nothing_goes_backwards(db: Database) -> None:
    """Eight threads count up a row each beside another process that does the same."""
    code = (
        "import apsw, sys; c = apsw.Connection(sys.argv[1]); c.set_busy_timeout(60000)\n"
        "for i in range(1, 101): c.execute('UPDATE t SET n = ? WHERE id = 0', (i,))"
    )
    wrong: list[str] = []

    def count(me: int) -> None:
        outside = 0
        for i in range(1, 101):
            db.execute("UPDATE t SET n = ? WHERE id = ?", (i, me))
            for _ in range(4):
                mine, theirs = db.fetch_value(VALUE, (me,)), db.fetch_value(VALUE, (0,))
                if mine != i:
                    wrong.append(f"thread {me} wrote {i} and read {mine}")
                if theirs < outside:
                    wrong.append(f"thread {me} saw {outside}, then {theirs}")
                outside = theirs

    threads = [threading.Thread(target=count, args=(me,)) for me in range(1, 8)]
    with subprocess.Popen([sys.executable, "-c", code, db._location.path]) as process:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert process.returncode == 0
    assert not wrong, wrong[:5]
    assert db.fetch_value(VALUE, (0,)) == 100
    assert inline(db).reads > 1_000
