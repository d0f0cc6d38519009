"""Where a backup may go, and what becomes of it when its progress function fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import millpond
import millpond.sync
from millpond import Database

COUNT = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9000)"
ROWS = f"{COUNT} INSERT INTO x SELECT randomblob(900) FROM n"
"""More pages than one step of the copy takes."""


@pytest.fixture(params=["file", "memory"])
def source(request: pytest.FixtureRequest, db_path: str) -> str:
    return db_path if request.param == "file" else ":memory:"


@pytest.mark.parametrize(
    ("target", "kind", "text"),
    [
        ("folder", millpond.StorageError, "cannot write the backup folder: a folder has that name"),
        ("nowhere/copy.db", millpond.StorageError, "cannot write the backup copy.db: its folder does not exist"),
    ],
)
async def test_a_target_that_cannot_be_is_named(
    source: str, tmp_path: Path, target: str, kind: type[millpond.Error], text: str
) -> None:
    (tmp_path / "folder").mkdir()
    async with Database(source) as db:
        with pytest.raises(kind) as caught:
            await db.backup(tmp_path / target)
        assert str(caught.value) == text
        assert caught.value.path == str(tmp_path / target)


@pytest.mark.parametrize("target", [":memory:", "sqlite://", "sqlite:///:memory:"])
async def test_a_backup_into_memory_is_refused(
    source: str, target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with Database(source) as db:
        with pytest.raises(millpond.ProgrammingError, match="a backup goes to a file"):
            await db.backup(target)
    assert [path.name for path in tmp_path.iterdir() if "memory" in path.name] == []


@pytest.mark.parametrize("failing_call", ["first", "last"])
async def test_what_progress_raises_stops_it_and_comes_out(source: str, tmp_path: Path, failing_call: str) -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    def progress(done: int, pages: int) -> None:
        if failing_call == "first" or done == pages:
            raise ZeroDivisionError("mine")

    async with Database(source) as db:
        await db.execute("CREATE TABLE x(a)")
        await db.execute(ROWS)
        (tmp_path / "copy.db").write_text("the old one")
        with pytest.raises(ZeroDivisionError, match="mine"):
            await db.backup(tmp_path / "copy.db", progress=progress)
        assert (tmp_path / "copy.db").read_text() == "the old one"
        assert not (tmp_path / "copy.db.part").exists()
        await db.backup(tmp_path / "copy.db")
    assert complaints == []
    async with Database(tmp_path / "copy.db") as copy:
        assert await copy.fetch_value("SELECT count(*) FROM x") == 9000


@pytest.mark.parametrize("failing_call", ["first", "last"])
def test_the_same_in_threads(source: str, tmp_path: Path, failing_call: str) -> None:
    def progress(done: int, pages: int) -> None:
        if failing_call == "first" or done == pages:
            raise ZeroDivisionError("mine")

    with millpond.sync.Database(source) as db:
        db.execute("CREATE TABLE x(a)")
        db.execute(ROWS)
        with pytest.raises(ZeroDivisionError, match="mine"):
            db.backup(tmp_path / "copy.db", progress=progress)
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith("copy")] == []
        told: list[tuple[int, int]] = []
        db.backup(tmp_path / "copy.db", progress=lambda done, pages: told.append((done, pages)))
        assert len(told) > 1
        assert told[-1][0] == told[-1][1]


async def test_a_cancelled_backup_leaves_nothing(db_path: str, tmp_path: Path) -> None:
    async with Database(db_path) as db:
        await db.execute("CREATE TABLE x(a)")
        await db.execute(ROWS)
        begun = asyncio.Event()
        task = asyncio.create_task(db.backup(tmp_path / "copy.db", progress=lambda *_: begun.set()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("copy")] == []
