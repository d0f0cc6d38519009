"""The logs of attached databases are checkpointed as that of the main one, whenever they were attached."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from millpond import Database, Settings

from .outside import ask

PAGES = 50


async def write(db: Database, table: str, times: int) -> None:
    for _ in range(times):
        await db.execute(f"INSERT INTO {table} VALUES (zeroblob(20000))", durability="normal")


async def test_a_database_that_is_attached_after_the_first_checkpoint_gets_its_own(tmp_path: Path) -> None:
    beside = str(tmp_path / "beside.db")
    ask(beside, "PRAGMA journal_mode = wal")
    async with Database(tmp_path / "a.db", Settings(checkpoint_pages=PAGES)) as db:
        await db.execute("CREATE TABLE t(a)")
        async with asyncio.timeout(20):
            while not db.stats().checkpoints:
                await write(db, "main.t", 10)
        await db.execute("ATTACH ? AS beside", (beside,))
        await db.execute("CREATE TABLE beside.x(a)")
        async with asyncio.timeout(20):
            while os.stat(beside).st_size < 200 * 4096:  # it grows by checkpoints alone
                await write(db, "beside.x", 10)
        written = await db.fetch_value("SELECT count(*) FROM beside.x")
        await db.execute("DETACH beside")
        before = db.stats().checkpoints
        async with asyncio.timeout(20):
            while db.stats().checkpoints == before:
                await write(db, "main.t", 10)
    assert ask(beside, "SELECT count(*) FROM x") == f"[({written},)]"


async def test_no_thread_for_checkpoints_is_no_fault_of_the_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "millpond-checkpoint":
            raise RuntimeError("can't start new thread")
        real(thread)

    async with Database(tmp_path / "a.db", Settings(checkpoint_pages=PAGES)) as db:
        await db.execute("CREATE TABLE t(a)")
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            await write(db, "t", 40)
            assert db.stats().checkpoints == 0
        assert "can't start new thread" in caplog.text
        async with asyncio.timeout(20):
            while not db.stats().checkpoints:
                await write(db, "t", 10)
