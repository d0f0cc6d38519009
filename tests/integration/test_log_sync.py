"""Commits that wait for the disk in the log: nothing is acknowledged before it, nobody else waits."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from millpond import Database, DatabaseClosed, StorageError, Transaction
from millpond.engine.sqlite.aio import FileSync, _Block
from millpond.engine.sqlite.log_sync import LogSync
from millpond.engine.sqlite.writer import Writer
from tests.waiting import IN_TIME_S, until

from .outside import ask

INSERT = "INSERT INTO t(name) VALUES (?)"
BROKEN = OSError(errno.EIO, os.strerror(errno.EIO))


class Disk(FileSync):
    """One whose syncs end when the test says so."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.begun = self.synced_now = self.rewritten = 0
        self.failure: OSError | None = None
        self.holds = True

    def start(self) -> None:
        self.begun += 1
        self.is_running = True
        if not self.holds:
            self.finish()

    def finish(self) -> None:
        """The sync that is under way is done."""
        os.eventfd_write(self.descriptor, 1)

    def ended(self) -> bool:
        os.eventfd_read(self.descriptor)
        self.is_running = False
        if self.failure is not None:
            raise self.failure
        return True

    def wait(self) -> None:
        if self.is_running:
            self.is_running = False
            super().now()

    def now(self) -> None:
        self.synced_now += 1
        if self.failure is not None:
            raise self.failure
        super().now()

    def rewrite(self) -> None:
        self.rewritten += 1
        if self.failure is not None:
            raise self.failure
        super().rewrite()


def writer(db: Database) -> Writer:
    assert db._engine is not None
    return db._engine.writer


def log_sync(db: Database) -> LogSync:
    found = writer(db)._log_sync
    assert found is not None
    return found


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db", {"cache_bytes": 0}) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")
        for i in range(8):
            await db.execute(INSERT, (f"s{i}",))
            await by_transaction(db, f"t{i}")
        yield db


async def by_transaction(db: Database, name: str, then: float = 0.0) -> None:
    async with db.transaction() as tx:
        await tx.execute(INSERT, (name,))
        if then:
            await asyncio.sleep(then)


async def held(db: Database) -> Disk:
    """The disk under the log, after a write has shown that the loop commits and waits for it."""
    sync = log_sync(db)
    real = sync._sync
    disk = Disk(str(db._location.path) + "-wal")
    db._engine.port.on_readable(disk.descriptor, sync._ended)  # type: ignore[union-attr]  # it is open
    sync._sync = disk
    sync._port.off_readable(real.descriptor, real.close)
    for i in range(100):
        task = asyncio.create_task(db.execute(INSERT, (f"warm{i}",)))
        await asyncio.sleep(0)
        ran_here = writer(db)._turn_batch is not None
        await asyncio.sleep(0)
        if ran_here:
            assert disk.begun == 1
            disk.finish()
            await task
            return disk
        await task
    raise AssertionError("100 cheap writes, and none ran on the loop")


async def count(db: Database, name: str) -> int:
    found = await db.fetch_value("SELECT count(*) FROM t WHERE name = ?", (name,))
    assert isinstance(found, int)
    return found


async def until_seen(db: Database, name: str) -> None:
    async with asyncio.timeout(IN_TIME_S):
        while not await count(db, name):
            pass


async def test_a_write_is_seen_at_once_and_acknowledged_when_the_disk_has_it(db: Database) -> None:
    disk = await held(db)
    full = asyncio.create_task(db.execute(INSERT, ("x",)))
    normal = asyncio.create_task(db.execute(INSERT, ("y",), durability="normal"))
    async with asyncio.timeout(20):
        await normal
    assert await count(db, "x") == 1
    assert ask(db._location.path, "SELECT count(*) FROM t WHERE name = 'x'") == "[(1,)]"
    assert not full.done()
    assert writer(db).commits.needs_barrier()
    disk.finish()
    await full
    assert not writer(db).commits.needs_barrier()


async def test_what_is_committed_during_a_sync_waits_for_the_next_one(db: Database) -> None:
    disk = await held(db)
    first = asyncio.create_task(db.execute(INSERT, ("x1",)))
    await until(lambda: disk.begun == 2)
    second = asyncio.create_task(db.execute(INSERT, ("x2",)))
    await until_seen(db, "x2")
    assert disk.begun == 2
    disk.finish()
    await first
    assert not second.done()
    assert disk.begun == 3
    disk.finish()
    await second


async def test_a_transaction_that_outlives_its_turn_is_synced_before_it_is_acknowledged(db: Database) -> None:
    disk = await held(db)
    disk.holds = False
    await by_transaction(db, "x", then=0.001)
    assert disk.synced_now == 1
    assert not writer(db).commits.needs_barrier()


async def test_a_sync_that_fails_is_told_to_those_who_waited_and_the_log_is_written_again(db: Database) -> None:
    disk = await held(db)
    lost = [asyncio.create_task(db.execute(INSERT, (f"x{i}",))) for i in range(2)]
    await until(lambda: disk.begun == 2)
    late = asyncio.create_task(db.execute(INSERT, ("late",)))
    await until_seen(db, "late")
    disk.failure = BROKEN
    disk.finish()
    for task in (*lost, late):
        with pytest.raises(StorageError, match="could not be synced to the disk") as caught:
            await task
        assert caught.value.applied == "unknown"
        assert caught.value.extended_code == apsw.SQLITE_IOERR_FSYNC
        assert caught.value.sql == INSERT
    disk.failure = None
    disk.holds = False
    await db.execute(INSERT, ("after",))
    assert disk.rewritten == 1
    assert await count(db, "after") == 1
    await db.execute(INSERT, ("after",))
    assert disk.rewritten == 1


async def test_nothing_is_written_behind_a_gap_in_the_log(db: Database) -> None:
    disk = await held(db)
    lost = asyncio.create_task(db.execute(INSERT, ("x",)))
    await until(lambda: disk.begun == 2)
    disk.failure = BROKEN
    disk.finish()
    with pytest.raises(StorageError):
        await lost
    for _ in range(2):
        with pytest.raises(StorageError) as caught:
            await db.execute(INSERT, ("refused",))
        assert caught.value.applied == "no"
    assert disk.rewritten == 2
    assert await count(db, "refused") == 0
    disk.failure = None
    disk.holds = False
    await db.execute(INSERT, ("after",))


async def test_closing_waits_for_the_disk_and_answers(tmp_path: Path) -> None:
    db = Database(tmp_path / "b.db")
    await db.open()
    await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")
    for i in range(8):
        await db.execute(INSERT, (f"s{i}",))
    disk = await held(db)
    under_way = asyncio.create_task(db.execute(INSERT, ("x1",)))
    await until(lambda: disk.begun == 2)
    following = asyncio.create_task(db.execute(INSERT, ("x2",)))
    await until(lambda: log_sync(db)._next)
    await db.close()
    await asyncio.gather(under_way, following)
    assert disk.synced_now == 1
    with pytest.raises(DatabaseClosed):
        await db.execute(INSERT, ("x3",))


async def test_a_commit_on_the_loop_that_fails_is_told_to_the_culprit_alone(db: Database) -> None:
    await held(db)
    log_sync(db)._sync.holds = False  # type: ignore[attr-defined]  # it is a Disk
    commits, real = writer(db).commits, writer(db).commits.commit
    failures = [apsw.FullError("database or disk is full")]

    def commit(connection, done, is_over):  # type: ignore[no-untyped-def]  # as the one it stands for
        if failures:
            connection.run("ROLLBACK")
            return failures.pop()
        return real(connection, done, is_over)

    commits.commit = commit  # type: ignore[method-assign]  # for this test
    await asyncio.gather(*(db.execute(INSERT, (f"x{i}",)) for i in range(3)))
    assert not failures
    assert await db.fetch_value("SELECT count(*) FROM t WHERE name LIKE 'x%'") == 3
    assert db.stats().reruns == 3


async def test_what_an_attached_file_gets_is_synced_by_its_commit(db: Database, tmp_path: Path) -> None:
    ask(tmp_path / "b.db", "CREATE TABLE other(a)")
    assert writer(db)._log_sync is not None
    await db.execute("ATTACH ? AS b", (str(tmp_path / "b.db"),))
    assert writer(db)._log_sync is None
    for i in range(10):
        await db.execute("INSERT INTO b.other VALUES (?)", (i,))
    assert await db.fetch_value("SELECT count(*) FROM b.other") == 10


async def test_who_wants_to_see_synced_commits_alone_gets_them(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", {"visible": "synced"}) as db:
        assert writer(db)._log_sync is None


async def test_a_disk_that_stalls_the_loop_is_left_to_the_thread(db: Database) -> None:
    (await held(db)).holds = False
    here = 0
    stalls = writer(db)._stalls
    for _ in range(3):
        stalls.took(0.0, 1.0)
    stalls.until = float("inf")

    def insert(tx: Transaction) -> None:
        nonlocal here
        here += 1
        tx.execute(INSERT, ("x",))

    begun = log_sync(db)._sync.begun  # type: ignore[attr-defined]  # it is a Disk
    for _ in range(10):
        await db.write(insert)
    assert here == 10
    assert log_sync(db)._sync.begun == begun  # type: ignore[attr-defined]  # as above


def test_a_file_is_synced_without_the_interpreter_and_tells_by_its_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(os.urandom(3_000_000))
    before = path.read_bytes()
    sync = FileSync(str(path))
    assert sync.ended()
    for _ in range(200):
        sync.start()
        sync._poll.poll()
        assert sync.ended()
        sync.start()
        sync.wait()
        assert sync.ended()
        assert not sync._poll.poll(0)
    sync.now()
    sync.rewrite()
    assert path.read_bytes() == before
    sync.close()


def test_a_failure_is_heard_by_both_who_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux tells it once to each open file: the thread must not take it from a sync that is under way."""
    (tmp_path / "log").write_bytes(b"log")
    sync = FileSync(str(tmp_path / "log"))
    asked: list[int] = []
    monkeypatch.setattr(os, "fdatasync", asked.append)
    sync.now()
    by_thread, behind = asked[0], _Block.from_address(sync._address).file
    fcntl.fcntl(by_thread, fcntl.F_SETFL, fcntl.fcntl(by_thread, fcntl.F_GETFL) | os.O_APPEND)
    assert not fcntl.fcntl(behind, fcntl.F_GETFL) & os.O_APPEND, "they share one open file"
    sync.close()


def test_without_descriptors_nothing_is_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log").write_bytes(b"log")
    before = len(os.listdir("/proc/self/fd"))

    def none_left(*_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "eventfd", none_left)
    with pytest.raises(OSError, match="Too many open files"):
        FileSync(str(tmp_path / "log"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_word_that_means_nothing_is_heard_once(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"log")
    sync = FileSync(str(tmp_path / "log"))
    os.eventfd_write(sync.descriptor, 1)
    assert sync.ended()
    assert not sync._poll.poll(0)
    sync.start()
    os.eventfd_write(sync.descriptor, 1)
    sync.wait()
    assert sync.ended()


def test_a_forked_child_says_nothing_when_it_ends(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"log")
    sync = FileSync(str(tmp_path / "log"))
    sync._c.fwrite(b"12345678", 8, 1, sync._stream)
    child = os.fork()
    if not child:
        sync.forked()
        sync._c.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert not sync._poll.poll(0)


def test_a_file_that_is_not_there_cannot_be_synced(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileSync(str(tmp_path / "none"))
