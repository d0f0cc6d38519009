"""A transaction kept for a turn of the loop: as fresh as a new one, gone with the turn, harmless to anyone's locks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from millpond import Database, Settings, errors
from millpond.engine.sqlite import platform
from millpond.engine.sqlite.inline import InlineReader
from millpond.engine.sqlite.wal_index import HEAD, WalIndex

from .outside import ask

VALUE = "SELECT value FROM t WHERE id = 1"


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db", Settings(cache_bytes=0)) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, value)")
        await db.execute("INSERT INTO t VALUES (1, 'old')")
        yield db


def inline(db: Database) -> InlineReader:
    assert db._engine is not None
    assert db._engine.inline is not None
    return db._engine.inline


def path_of(db: Database) -> str:
    return db._location.path


def is_held(db: Database) -> bool:
    return inline(db).connection.db.in_transaction


async def hold(db: Database, sql: str = VALUE) -> None:
    """Read until a transaction is kept, which is before this turn of the loop ends."""
    for _ in range(200):
        await db.fetch_one(sql)
        if is_held(db):
            return
    raise AssertionError("200 reads, and no transaction is kept")


@pytest.mark.skipif(not platform.linux_facts, reason="the WAL index is mapped on Linux alone")
class TestKept:
    async def test_a_commit_of_another_process_is_seen_by_the_next_read(self, db: Database) -> None:
        await hold(db)
        ask(path_of(db), "UPDATE t SET value = 'new'")
        assert is_held(db)
        assert await db.fetch_value(VALUE) == "new"

    async def test_a_new_column_of_another_process_is_seen_by_the_next_read(self, db: Database) -> None:
        await hold(db, "SELECT * FROM t")
        ask(path_of(db), "ALTER TABLE t ADD COLUMN more DEFAULT 7")
        row = await db.fetch_one("SELECT * FROM t")
        assert row is not None
        assert row.asdict() == {"id": 1, "value": "old", "more": 7}

    async def test_a_new_table_is_known_in_the_same_turn(self, db: Database) -> None:
        await hold(db)
        ask(path_of(db), "CREATE TABLE u AS SELECT 5 AS five")
        assert await db.fetch_value("SELECT five FROM u") == 5

    async def test_it_ends_with_the_turn(self, db: Database) -> None:
        await hold(db)
        await asyncio.sleep(0)
        assert not is_held(db)
        assert ask(path_of(db), "PRAGMA wal_checkpoint(TRUNCATE)").startswith("[(0,")

    async def test_a_write_waits_and_so_ends_it(self, db: Database) -> None:
        await hold(db)
        await db.execute("UPDATE t SET value = 'mine'")
        assert not is_held(db)
        assert await db.fetch_value(VALUE) == "mine"

    async def test_an_interrupted_read_ends_it_and_is_answered_by_a_lane(self, db: Database) -> None:
        count = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT ?) SELECT count(*) FROM c"
        for _ in range(50):
            assert await db.fetch_value(count, (3,)) == 3
        await hold(db)
        before = inline(db).reads
        assert await db.fetch_value(count, (100_000,)) == 100_000
        assert inline(db).reads == before
        assert not is_held(db)

    async def test_wrong_parameters_leave_it_as_it_was(self, db: Database) -> None:
        await hold(db)
        with pytest.raises(errors.ProgrammingError):
            await db.fetch_value(VALUE, (1, 2))
        assert await db.fetch_value(VALUE) == "old"

    async def test_an_attached_database_has_an_index_of_its_own_so_nothing_is_kept(
        self, db: Database, tmp_path: Path
    ) -> None:
        other = tmp_path / "b.db"
        ask(other, "PRAGMA journal_mode = wal")
        ask(other, "CREATE TABLE o AS SELECT 'old' AS value")
        await db.execute("ATTACH ? AS other", (str(other),))
        for _ in range(50):
            assert await db.fetch_value("SELECT value FROM other.o") == "old"
            assert not is_held(db)
        ask(other, "UPDATE o SET value = 'new'")
        assert await db.fetch_value("SELECT value FROM other.o") == "new"

    async def test_closing_while_it_is_kept(self, tmp_path: Path) -> None:
        db = Database(tmp_path / "c.db", Settings(cache_bytes=0))
        await db.open()
        await hold(db, "SELECT 1")
        await db.close()
        assert not (tmp_path / "c.db-wal").exists()


async def test_without_the_index_reads_are_fresh_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "linux_facts", False)
    async with Database(tmp_path / "a.db", Settings(cache_bytes=0)) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, value)")
        await db.execute("INSERT INTO t VALUES (1, 'old')")
        for _ in range(50):
            assert await db.fetch_value(VALUE) == "old"
            assert not is_held(db)
        ask(path_of(db), "UPDATE t SET value = 'new'")
        assert await db.fetch_value(VALUE) == "new"


def locks_of(path: Path) -> int:
    """This process's locks on the WAL index, as the kernel lists them."""
    inode = str(os.stat(f"{path}-shm").st_ino)
    with open("/proc/locks") as locks:
        lines = [line.split() for line in locks]
    return sum(1 for line in lines if line[4] == str(os.getpid()) and line[5].rsplit(":", 1)[-1] == inode)


@pytest.mark.skipif(not platform.linux_facts, reason="the WAL index is mapped on Linux alone")
class TestIndex:
    def test_each_commit_changes_it_and_a_rollback_does_not(self, tmp_path: Path) -> None:
        path = tmp_path / "a.db"
        db = apsw.Connection(str(path))
        db.execute("PRAGMA journal_mode = wal").fetchall()
        db.execute("CREATE TABLE t(a)")
        index = WalIndex.open(str(path))
        assert index is not None
        before = index.page[HEAD]
        assert WalIndex.whole(before)
        db.execute("BEGIN IMMEDIATE; INSERT INTO t VALUES (1); ROLLBACK")
        assert index.page[HEAD] == before
        ask(path, "INSERT INTO t VALUES (2)")
        assert index.page[HEAD] != before
        db.close()
        index.close()

    def test_a_torn_head_is_not_whole(self) -> None:
        assert WalIndex.whole(b"a" * 96)
        assert not WalIndex.whole(b"a" * 48 + b"b" * 48)

    def test_no_index_no_error(self, tmp_path: Path) -> None:
        assert WalIndex.open(str(tmp_path / "none.db")) is None

    async def test_closing_one_database_keeps_the_locks_of_another_on_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.db"
        async with Database(path) as first:
            await first.execute("CREATE TABLE t(a)")
            async with Database(path) as second:
                await second.fetch_all("SELECT * FROM t")
            assert locks_of(path) > 0
            await first.execute("INSERT INTO t VALUES (1)")
        assert ask(path, "SELECT count(*) FROM t") == "[(1,)]"

    async def test_closing_keeps_the_locks_of_a_connection_that_is_not_ours(self, tmp_path: Path) -> None:
        path = tmp_path / "a.db"
        async with Database(path) as db:
            await db.execute("CREATE TABLE t(a)")
            theirs = apsw.Connection(str(path))
            theirs.execute("SELECT * FROM t").fetchall()
        assert locks_of(path) > 0
        theirs.close()

    async def test_descriptors_do_not_pile_up(self, tmp_path: Path) -> None:
        async def once(number: int) -> None:
            async with Database(tmp_path / f"{number}.db") as db:
                await db.execute("CREATE TABLE t(a)")

        await once(0)
        before = len(os.listdir("/proc/self/fd"))
        for number in range(1, 6):
            await once(number)
        assert len(os.listdir("/proc/self/fd")) <= before
