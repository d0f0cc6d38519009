"""The facade for threads: the same promises, without an event loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import millpond
from millpond import Settings, errors
from millpond.sync import Database

from .outside import ask, lock_held


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "a.db") as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER NOT NULL DEFAULT 0)")
        yield db


def in_threads(number: int, work: Callable[[int], object]) -> list[BaseException]:
    """Run `work(i)` in threads that start together; what they raised."""
    together = threading.Barrier(number)
    errors: list[BaseException] = []

    def main(i: int) -> None:
        together.wait()
        try:
            work(i)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=main, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_all_methods_do_what_their_twins_do(db: Database, tmp_path: Path) -> None:
    assert db.execute("INSERT INTO t(name) VALUES (?)", ("a",)) == (1, 1)
    assert db.execute_many("INSERT INTO t(name) VALUES (?)", [("b",), ("c",)]).rowcount == 2
    db.execute_script("INSERT INTO t(name) VALUES ('d'); INSERT INTO t(name) VALUES ('e')")
    assert [row.name for row in db.fetch_all("SELECT name FROM t ORDER BY id")] == list("abcde")
    assert db.fetch_one("SELECT id FROM t WHERE name = :n", {"n": "b"}) == (2,)
    assert db.fetch_value("SELECT count(*) FROM t") == 5
    assert [row[0] for row in db.iterate("SELECT name FROM t ORDER BY id")] == list("abcde")
    assert [row[0] for row in db.iterate("UPDATE t SET n = 1 WHERE id = 1 RETURNING name")] == ["a"]
    with db.snapshot() as snap:
        db.execute("DELETE FROM t WHERE name = 'e'")
        assert snap.fetch_value("SELECT count(*) FROM t") == 5
        with pytest.raises(millpond.ProgrammingError):
            snap.fetch_all("DELETE FROM t RETURNING id")
    with db.transaction() as tx:
        tx.execute("INSERT INTO t(name) VALUES ('f')")
        with pytest.raises(KeyError), tx.savepoint():
            tx.execute("INSERT INTO t(name) VALUES ('g')")
            raise KeyError
        tx.execute_many("UPDATE t SET n = ? WHERE name = ?", [(5, "f")])
        tx.execute_script("UPDATE t SET n = n + 1 WHERE name = 'f'")
        row = tx.fetch_one("SELECT n FROM t WHERE name = 'f'")
        assert row == (6,)
        assert tx.fetch_all("SELECT name FROM t WHERE name = 'g'") == []
        with pytest.raises(millpond.WouldWaitForItself):
            db.execute("DELETE FROM t")
    db.execute("INSERT INTO t(name) VALUES ('n')", durability="normal")
    db.barrier()
    db.backup(tmp_path / "copy.db")
    assert ask(tmp_path / "copy.db", "SELECT count(*) FROM t") == "[(6,)]"
    assert db.health().status == "ok"
    assert db.stats().writes > 0


def test_threads_share_commits_and_lose_nothing(db: Database) -> None:
    db.execute("INSERT INTO t(name) VALUES ('sum')")

    def work(i: int) -> None:
        for k in range(30):
            match (i + k) % 3:
                case 0:
                    db.execute("UPDATE t SET n = n + 1 WHERE name = 'sum'")
                case 1:
                    db.write(lambda tx: tx.execute("UPDATE t SET n = n + 1 WHERE name = 'sum'"))
                case _:
                    with db.transaction() as tx:
                        n = tx.fetch_value("SELECT n FROM t WHERE name = 'sum'")
                        tx.execute("UPDATE t SET n = ? WHERE name = 'sum'", (n + 1,))
            assert db.fetch_value("SELECT n FROM t WHERE name = 'sum'") > 0

    assert in_threads(20, work) == []
    assert db.fetch_value("SELECT n FROM t WHERE name = 'sum'") == 600
    stats = db.stats()
    assert stats.batches < stats.writes, "commits are shared"


def test_an_exception_undoes_the_block_and_only_the_block(db: Database) -> None:
    with pytest.raises(KeyError), db.transaction() as tx:
        tx.execute("INSERT INTO t(name) VALUES ('a')")
        raise KeyError
    assert db.fetch_value("SELECT count(*) FROM t") == 0
    with pytest.raises(millpond.ProgrammingError):
        tx.execute("INSERT INTO t(name) VALUES ('late')")


def test_a_time_out_is_honoured_for_reads_writes_and_locks(db: Database, tmp_path: Path) -> None:
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
    for _ in range(22):
        with pytest.raises(millpond.DeadlineExceeded):
            db.fetch_value(endless, timeout=0.02)
    with pytest.raises(millpond.DeadlineExceeded):
        db.execute(f"INSERT INTO t(name) {endless} WHERE x < 0", timeout=0.1)
    with lock_held(tmp_path / "a.db") as holder:
        with pytest.raises(millpond.LockTimeout) as caught:
            db.execute("INSERT INTO t(name) VALUES ('a')", timeout=0.1)
        assert caught.value.holder is not None
        assert caught.value.holder.pid == holder.pid
    db.execute("INSERT INTO t(name) VALUES ('a')")


def test_a_transaction_of_a_thread_is_taken_back_at_its_limit(tmp_path: Path) -> None:
    with Database(tmp_path / "a.db", Settings(max_lease=0.1)) as db:
        db.execute("CREATE TABLE t(name TEXT)")
        other: list[BaseException] = []
        with pytest.raises(millpond.LeaseExpired), db.transaction() as tx:
            tx.execute("INSERT INTO t VALUES ('held')")
            other = in_threads(1, lambda i: db.execute("INSERT INTO t VALUES ('other')"))
            tx.execute("INSERT INTO t VALUES ('more')")
        assert other == []
        assert [row[0] for row in db.fetch_all("SELECT name FROM t")] == ["other"]


def test_a_statement_of_a_transaction_keeps_its_timeout_and_the_leases_limit(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
    with Database(tmp_path / "a.db", Settings(max_lease=0.4)) as db:
        db.execute("CREATE TABLE t(name TEXT)")
        with db.transaction() as tx:
            tx.execute("INSERT INTO t VALUES ('kept')", timeout=5)
            with pytest.raises(millpond.DeadlineExceeded):
                tx.fetch_value(endless, timeout=0.05)
        with pytest.raises(millpond.OperationalError), db.transaction() as tx:
            tx.fetch_value(endless)
        db.execute("INSERT INTO t VALUES ('next')", timeout=5)
        assert [row[0] for row in db.fetch_all("SELECT name FROM t")] == ["kept", "next"]


def test_a_forgotten_transaction_and_snapshot_are_named_and_given_back(db: Database) -> None:
    tx = db.transaction().__enter__()
    tx.execute("INSERT INTO t(name) VALUES ('forgotten')")
    with pytest.warns(ResourceWarning, match=r"transaction opened at test_sync\.py"):
        del tx
    assert in_threads(1, lambda i: db.execute("INSERT INTO t(name) VALUES ('next')", timeout=5)) == []
    snap = db.snapshot().__enter__()
    with pytest.warns(ResourceWarning, match=r"snapshot opened at test_sync\.py"):
        del snap
    assert [row.name for row in db.fetch_all("SELECT name FROM t")] == ["next"]


def test_closing_while_threads_work_answers_each_of_them(tmp_path: Path) -> None:
    db = Database(tmp_path / "a.db")
    db.open()
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")
    acknowledged: list[int] = []
    begun = threading.Event()

    def work(i: int) -> None:
        if i == 0:
            begun.wait()
            db.close()
            return
        try:
            while True:
                db.execute("INSERT INTO t(name) VALUES ('x')")
                acknowledged.append(1)
                db.fetch_value("SELECT count(*) FROM t")
                if len(acknowledged) > 50:
                    begun.set()
        except millpond.DatabaseClosed:
            return

    assert in_threads(8, work) == []
    assert ask(tmp_path / "a.db", "SELECT count(*) FROM t") == f"[({len(acknowledged)},)]"


def test_in_memory_and_in_threads(tmp_path: Path) -> None:
    with Database(":memory:") as db:
        db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")
        assert in_threads(5, lambda i: [db.execute("INSERT INTO t(name) VALUES ('x')") for _ in range(20)]) == []
        with db.snapshot() as snap:
            db.execute("DELETE FROM t")
            assert snap.fetch_value("SELECT count(*) FROM t") == 100
        assert list(db.iterate("SELECT * FROM t")) == []
        db.backup(tmp_path / "copy.db")
    assert ask(tmp_path / "copy.db", "SELECT count(*) FROM t") == "[(0,)]"


def test_a_thread_that_waits_behind_another_ones_statement_is_told_so(db: Database) -> None:
    """Both waited for a savepoint, which has ended; the first of them runs for long."""
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
    told: dict[str, BaseException] = {}

    def ask(name: str, sql: str, timeout: float) -> threading.Thread:
        def run() -> None:
            try:
                tx.fetch_value(sql, timeout=timeout)
            except errors.Error as exc:
                told[name] = exc

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def until_waiting(count: int) -> None:
        assert tx._nest is not None
        while len(tx._nest._waiting) < count:
            threading.Event().wait(0.001)

    with db.transaction() as tx:
        with tx.savepoint():
            first = ask("first", endless, 1.5)
            until_waiting(1)
            second = ask("second", "SELECT 1", 0.5)
            until_waiting(2)
        first.join(20)
        second.join(20)
    assert isinstance(told["second"], errors.DeadlineExceeded)
    assert "another thread in the same transaction" in "".join(told["second"].__notes__)


def test_closing_does_not_wait_for_a_reader_that_waits_for_it(tmp_path: Path) -> None:
    """The function that the writer runs reads through the database while it is being closed."""
    closing, inside = threading.Event(), threading.Event()
    told: list[BaseException] = []
    db = Database(tmp_path / "c.db", {"close_grace_s": 5.0})
    db.open()
    db.execute("CREATE TABLE t(a)")
    for _ in range(5):
        db.fetch_value("SELECT count(*) FROM t", cache=False)

    def reads(tx: object) -> None:
        inside.set()
        assert closing.wait(10)
        db.fetch_value("SELECT count(*) FROM t", cache=False)

    def writes() -> None:
        try:
            db.write(reads)
        except errors.Error as exc:
            told.append(exc)

    writer = threading.Thread(target=writes)
    writer.start()
    assert inside.wait(10)
    closer = threading.Thread(target=db.close)
    closer.start()
    assert db._engine is not None
    while db._engine.is_open:
        threading.Event().wait(0.001)
    closing.set()
    closer.join(3)
    assert not closer.is_alive()
    writer.join(3)
    assert isinstance(told[0], errors.DatabaseClosed)
