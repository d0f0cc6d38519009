"""A backup that was acknowledged survives a power cut: what is in it, and its name."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest

import millpond.sync
from millpond import Database
from tests.torture.shims.disk import Disk, Loss
from tests.torture.shims.recording import recording


async def backed_up(facade: str, source: Path | str, target: Path) -> None:
    if facade == "async":
        async with Database(source) as db:
            await db.execute_script("CREATE TABLE t(name); INSERT INTO t VALUES ('kept')")
            await db.backup(target)
        return

    def by_threads() -> None:
        with millpond.sync.Database(source) as db:
            db.execute_script("CREATE TABLE t(name); INSERT INTO t VALUES ('kept')")
            db.backup(target)

    await asyncio.to_thread(by_threads)


@pytest.mark.parametrize("source", ["file", "memory"])
@pytest.mark.parametrize("facade", ["async", "sync"])
async def test_a_backup_is_on_the_disk_before_it_gets_its_name_and_then_the_name_is(
    source: str, facade: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life, left = tmp_path / "life", tmp_path / "left"
    life.mkdir()
    left.mkdir()
    happened: list[str] = []
    rename, sync = os.replace, os.fsync

    def replace(part: Any, target: Any) -> None:
        disk = Disk(record.found)
        for moment, event in enumerate(record.events):
            disk.take(moment, event)
        (left / "copy.db").write_bytes(disk.after_cut(Loss.ALL, Random(0))["copy.db.part"])
        happened.append("named")
        rename(part, target)

    def fsync(descriptor: int) -> None:
        if os.path.sameopenfile(descriptor, folder):
            happened.append("folder synced")
        sync(descriptor)

    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(os, "fsync", fsync)
    folder = os.open(life, os.O_RDONLY)
    try:
        with recording(life) as record:
            await backed_up(facade, ":memory:" if source == "memory" else tmp_path / "a.db", life / "copy.db")
    finally:
        os.close(folder)
    assert happened == ["named", "folder synced"]
    async with Database(left / "copy.db") as db:
        assert await db.fetch_value("SELECT name FROM t") == "kept"
