"""Opening a file that another process is using."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

import millpond.sync
from millpond import Database, Settings, errors
from millpond.engine.sqlite import platform

_HOLD = """
import apsw, sys
db = apsw.Connection(sys.argv[1])
db.execute("PRAGMA journal_mode = " + sys.argv[2])
db.execute("CREATE TABLE t(x); " + sys.argv[3] + "; INSERT INTO t VALUES (1)")
print("held", flush=True)
sys.stdin.readline()
db.execute("COMMIT")
db.close()
"""


@contextmanager
def held(path: str, mode: str = "delete", begin: str = "BEGIN IMMEDIATE") -> Iterator[subprocess.Popen[str]]:
    """Another process has a write transaction open until a line comes to it."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, path, mode, begin], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.communicate("\n", timeout=10)


def release(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


WAYS = [("delete", "BEGIN IMMEDIATE"), ("delete", "BEGIN EXCLUSIVE"), ("wal", "BEGIN IMMEDIATE")]


@pytest.mark.parametrize(("mode", "begin"), WAYS)
async def test_opening_waits_for_another_process_to_end_its_write(db_path: str, mode: str, begin: str) -> None:
    with held(db_path, mode, begin) as process:
        db = Database(db_path)
        opening = asyncio.create_task(db.open())
        await asyncio.wait([opening], timeout=0.3)
        assert not opening.done()
        release(process)
        await asyncio.wait_for(opening, 10)
    assert await db.fetch_value("SELECT count(*) FROM t") == 1
    assert await db.fetch_value("PRAGMA journal_mode") == "wal"
    await db.close()


@pytest.mark.parametrize(("mode", "begin"), WAYS)
async def test_opening_gives_up_after_timeout_s_and_names_who_holds_it(db_path: str, mode: str, begin: str) -> None:
    with held(db_path, mode, begin) as process:
        started = monotonic()
        with pytest.raises(errors.LockTimeout) as caught:
            await Database(db_path, Settings(timeout_s=0.3)).open()
        assert 0.3 <= monotonic() - started < 5
        error = caught.value
        assert error.waited is not None
        assert 0.3 <= error.waited < 5
        assert error.retryable
        assert error.path == db_path
        if platform.linux_facts:
            assert error.holder is not None
            assert error.holder.pid == process.pid
            assert not error.holder.ours
            assert error.holder.since is not None
            assert f"pid {process.pid}" in str(error)
        assert "cannot open bot.db" in str(error)
        assert len(str(error)) <= 160


async def test_an_opening_that_is_cancelled_ends_at_once(db_path: str) -> None:
    with held(db_path):
        opening = asyncio.create_task(Database(db_path, Settings(timeout_s=30)).open())
        await asyncio.wait([opening], timeout=0.2)
        started = monotonic()
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        assert monotonic() - started < 5


def test_threads_wait_and_give_up_too(db_path: str) -> None:
    with held(db_path) as process:
        with pytest.raises(errors.LockTimeout):
            millpond.sync.Database(db_path, {"timeout_s": 0.2}).open()
        release(process)
        with millpond.sync.Database(db_path) as db:
            assert db.fetch_value("SELECT count(*) FROM t") == 1
