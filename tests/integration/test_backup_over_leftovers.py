"""A backup replaces a file whose last user was killed: what that left beside it is not taken for the copy's."""

from __future__ import annotations

from pathlib import Path

import pytest

import millpond
from millpond import Database
from tests.integration import outside

KILLED = """
import apsw, os, signal, sys
c = apsw.Connection(sys.argv[1])
c.pragma("journal_mode", sys.argv[2])
c.execute("CREATE TABLE old(x)")
c.executemany("INSERT INTO old VALUES (?)", [("o" * 3000,)] * 50)
c.execute("PRAGMA cache_size = 5; BEGIN IMMEDIATE; UPDATE old SET x = 'p' || x")
os.kill(os.getpid(), signal.SIGKILL)
"""
"""In WAL mode it leaves a log, else a journal in the middle of a transaction, of which pages are in the file."""


def _kill_a_user_of(path: Path, mode: str) -> Path:
    assert outside.run(KILLED, str(path), mode).returncode == -9
    left = Path(f"{path}-{'wal' if mode == 'wal' else 'journal'}")
    assert left.stat().st_size > 0
    return left


async def _back_up(db_path: str, target: Path) -> None:
    async with Database(db_path) as db:
        await db.execute_script("CREATE TABLE new(x); INSERT INTO new VALUES (1), (2)")
        await db.backup(target)


@pytest.mark.parametrize("mode", ["wal", "delete"])
async def test_what_a_killed_user_left_does_not_come_back(mode: str, db_path: str, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    left = _kill_a_user_of(target, mode)
    await _back_up(db_path, target)
    assert not left.exists()
    assert outside.ask(target, "SELECT count(*) FROM new") == "[(2,)]"
    assert outside.ask(target, "PRAGMA integrity_check") == "[('ok',)]"


@pytest.mark.parametrize("mode", ["wal", "delete"])
async def test_nor_does_it_where_the_file_itself_was_deleted(mode: str, db_path: str, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    left = _kill_a_user_of(target, mode)
    target.unlink()
    await _back_up(db_path, target)
    assert not left.exists()
    assert outside.ask(target, "SELECT count(*) FROM new") == "[(2,)]"


async def test_nor_where_it_was_no_database(db_path: str, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    _kill_a_user_of(target, "wal")
    target.write_bytes(b"no database" * 1000)
    await _back_up(db_path, target)
    assert outside.ask(target, "SELECT count(*) FROM new") == "[(2,)]"


async def test_a_file_that_somebody_writes_is_not_replaced(db_path: str, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    async with Database(target) as old:
        await old.execute("CREATE TABLE old(x)")
    with outside.lock_held(target):
        with pytest.raises(millpond.StorageError, match=r"cannot write the backup copy\.db: .* has it open") as caught:
            await _back_up(db_path, target)
        assert caught.value.path == str(target)
    assert outside.ask(target, "SELECT count(*) FROM old") == "[(0,)]"
    assert not Path(f"{target}.part").exists()
