"""The write-ahead log under load: it is begun anew, cut to its limit, and grows only while a reader pins it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import pytest

from millpond import Database, Settings
from millpond.engine.sqlite.checkpointer import Checkpointer

from .outside import ask

PAGES = 50
FRAME = 4096 + 24


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db", Settings(checkpoint_pages=PAGES, wal_limit_bytes=2**18)) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
        yield db


def log_bytes(db: Database) -> int:
    return os.stat(db._location.path + "-wal").st_size


def checkpointer(db: Database) -> Checkpointer:
    assert db._engine is not None
    return db._engine.checkpointer


async def write(db: Database, times: int) -> None:
    """Workers that leave the writer no rest."""

    async def worker() -> None:
        for _ in range(times):
            await db.execute("INSERT INTO t(body) VALUES (?)", ("x" * 3_000,), durability="normal")

    await asyncio.gather(*(worker() for _ in range(25)))


async def test_under_endless_load_the_log_is_begun_anew(db: Database) -> None:
    await write(db, 80)
    written = 2_000 * FRAME
    assert log_bytes(db) < written / 4
    assert checkpointer(db).finishes >= 2
    assert await db.fetch_value("SELECT count(*) FROM t") == 2_000
    assert ask(db._location.path, "SELECT count(*), (SELECT * FROM pragma_integrity_check) FROM t") == "[(2000, 'ok')]"


async def test_a_log_that_a_reader_pinned_is_cut_to_its_limit_afterwards(db: Database) -> None:
    async with db.snapshot() as snap:
        assert await snap.fetch_value("SELECT count(*) FROM t") == 0
        await write(db, 20)
        assert await snap.fetch_value("SELECT count(*) FROM t") == 0
        pinned = log_bytes(db)
        assert pinned > 500 * FRAME
    await write(db, 20)
    assert log_bytes(db) <= 2**18 + FRAME * PAGES
    assert await db.fetch_value("SELECT count(*) FROM t") == 1_000


async def test_a_checkpoint_that_fails_harms_nobody_and_is_made_later(
    db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> tuple[int, int]:
        raise apsw.IOError("disk I/O error")

    engine = db._engine
    assert engine is not None
    opened = engine.open_checkpointer
    with monkeypatch.context() as patch:
        patch.setattr(engine, "open_checkpointer", fail)
        await write(db, 8)
        assert checkpointer(db).checkpoints == 0
    assert engine.open_checkpointer == opened
    assert "checkpoint failed, the log stays as it is: disk I/O error" in caplog.text
    await write(db, 40)
    assert checkpointer(db).checkpoints >= 1
    assert log_bytes(db) < 1_000 * FRAME
    assert await db.fetch_value("SELECT count(*) FROM t") == 1_200
