"""After a barrier a power cut takes nothing that was acknowledged before it, however it came into the log."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from random import Random

import apsw
import pytest

from millpond import Database
from tests.torture.shims.disk import Disk, Loss
from tests.torture.shims.recording import Record, recording


@pytest.fixture
def life(tmp_path: Path) -> Path:
    """Where the databases are whose writes are recorded."""
    folder = tmp_path / "life"
    folder.mkdir()
    return folder


async def left_by_a_power_cut(record: Record, folder: Path) -> list[str]:
    """What is in the table if the power goes now, and takes all that it can."""
    disk = Disk(record.found)
    for moment, event in enumerate(record.events):
        disk.take(moment, event)
    folder.mkdir()
    for name, content in disk.after_cut(Loss.ALL, Random(0)).items():
        (folder / name).write_bytes(content)
    async with Database(folder / "a.db") as db:
        return [row[0] for row in await db.fetch_all("SELECT name FROM t ORDER BY rowid")]


async def test_a_synced_write_to_an_attached_file_syncs_nothing_of_the_main_one(life: Path, tmp_path: Path) -> None:
    with closing(apsw.Connection(str(life / "side.db"))) as side:
        side.pragma("journal_mode", "wal")
        side.execute("CREATE TABLE note(name)")
    with recording(life) as record:
        async with Database(life / "a.db") as db:
            await db.execute("ATTACH ? AS side", (str(life / "side.db"),))
            await db.execute("CREATE TABLE t(name)")
            await db.execute("INSERT INTO t VALUES ('normal')", durability="normal")
            await db.execute("INSERT INTO side.note VALUES ('full')", durability="full")
            await db.barrier()
            left = await left_by_a_power_cut(record, tmp_path / "left")
    assert left == ["normal"]


async def test_what_an_earlier_database_left_in_the_log_is_synced_too(life: Path, tmp_path: Path) -> None:
    """Somebody else has the file open, so that closing it leaves the log as it is."""
    with recording(life) as record, closing(apsw.Connection(str(life / "a.db"))) as neighbour:
        async with Database(life / "a.db") as db:
            await db.execute("CREATE TABLE t(name)")
            neighbour.execute("SELECT * FROM t").fetchall()
            await db.execute("INSERT INTO t VALUES ('normal')", durability="normal")
        async with Database(life / "a.db") as db:
            await db.barrier()
            left = await left_by_a_power_cut(record, tmp_path / "left")
    assert left == ["normal"]


async def test_what_somebody_else_wrote_meanwhile_is_synced_too(life: Path, tmp_path: Path) -> None:
    with recording(life) as record, closing(apsw.Connection(str(life / "a.db"))) as neighbour:
        async with Database(life / "a.db") as db:
            await db.execute("CREATE TABLE t(name)")
            neighbour.pragma("synchronous", 1)
            neighbour.execute("INSERT INTO t VALUES ('theirs')")
            await db.barrier()
            left = await left_by_a_power_cut(record, tmp_path / "left")
    assert left == ["theirs"]


async def test_who_writes_alone_has_barriers_for_nothing(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as db:
        await db.barrier()
        await db.execute("CREATE TABLE t(name)")
        await db.write(lambda tx: tx.execute("DELETE FROM t"))
        await db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        await db.execute("INSERT INTO t VALUES ('full')")
        await db.execute("VACUUM")
        before = db.stats().batches
        await db.barrier()
        assert db.stats().batches == before
