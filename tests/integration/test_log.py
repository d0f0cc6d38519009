"""The write-ahead log under load: it is begun anew, cut to its limit, and grows only while a reader pins it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from millpond import Database, Settings, errors
from millpond.engine.sqlite.checkpointer import Checkpointer

from .outside import ask

PAGES = 50
FRAME = 4096 + 24
LIMIT = 2**18


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db", Settings(checkpoint_pages=PAGES, wal_limit_bytes=LIMIT)) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
        yield db


def log_bytes(db: Database) -> int:
    return os.stat(db._location.path + "-wal").st_size


def checkpointer(db: Database) -> Checkpointer:
    assert db._engine is not None
    return db._engine.checkpointer


async def write(db: Database, until: Callable[[], object]) -> int:
    """Workers that leave the writer no rest, until something holds. How many rows they wrote."""
    wrote = 0

    async def worker() -> None:
        nonlocal wrote
        while not until():
            await db.execute("INSERT INTO t(body) VALUES (?)", ("x" * 3_000,), durability="normal")
            wrote += 1

    async with asyncio.timeout(30):
        await asyncio.gather(*(worker() for _ in range(25)))
    return wrote


async def test_under_endless_load_the_log_is_begun_anew(db: Database) -> None:
    checks = checkpointer(db)
    wrote = await write(db, lambda: checks.finishes >= 5)
    finished = checks.finishes
    wrote += await write(db, lambda: checks.finishes > finished)
    await db.execute("INSERT INTO t(body) VALUES ('last')")
    assert db.stats().wal_pages < PAGES, "begun anew by the write that came after the last copy"
    count = wrote + 1
    assert await db.fetch_value("SELECT count(*) FROM t") == count
    outside = ask(db._location.path, "SELECT count(*), (SELECT * FROM pragma_integrity_check) FROM t")
    assert outside == f"[({count}, 'ok')]"


async def test_a_log_that_a_reader_pinned_is_cut_to_its_limit_afterwards(db: Database) -> None:
    async with db.snapshot() as snap:
        assert await snap.fetch_value("SELECT count(*) FROM t") == 0
        wrote = await write(db, lambda: log_bytes(db) > 2 * LIMIT)
        assert await snap.fetch_value("SELECT count(*) FROM t") == 0
    wrote += await write(db, lambda: log_bytes(db) <= LIMIT + FRAME * PAGES)
    assert await db.fetch_value("SELECT count(*) FROM t") == wrote


async def test_a_checkpoint_that_fails_harms_nobody_and_is_made_later(
    db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise apsw.IOError("disk I/O error")

    engine = db._engine
    assert engine is not None
    with monkeypatch.context() as patch:
        patch.setattr(engine, "open_checkpointer", fail)
        wrote = await write(db, lambda: "checkpoint failed, the log stays as it is: disk I/O error" in caplog.text)
        assert checkpointer(db).checkpoints == 0
    wrote += await write(db, lambda: checkpointer(db).finishes >= 1)
    assert await db.fetch_value("SELECT count(*) FROM t") == wrote


async def test_files_that_could_not_be_verified_once_do_not_end_checkpoints_for_good(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = db._engine
    assert engine is not None
    real, refused = engine.verify_files, threading.Event()

    def verify() -> errors.Error | None:
        if threading.current_thread().name == "millpond-checkpoint" and not refused.is_set():
            refused.set()
            return errors.StorageError("not to be seen just now")
        return real()

    monkeypatch.setattr(engine, "verify_files", verify)
    wrote = await write(db, refused.is_set)
    wrote += await write(db, lambda: checkpointer(db).finishes >= 1)
    assert await db.fetch_value("SELECT count(*) FROM t") == wrote
