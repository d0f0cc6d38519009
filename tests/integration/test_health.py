"""What health() says after something that must not be overlooked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from millpond import Database, errors
from millpond.engine.sqlite import platform

from .outside import ask, run

_BEFORE = """
import asyncio, json, sys, warnings, sqlite3, millpond
async def main():
    if sys.argv[2] == "before":
        theirs = sqlite3.connect(sys.argv[1])
        theirs.execute("SELECT * FROM sqlite_master").fetchall()
    if sys.argv[2] == "same library":
        import apsw
        theirs = apsw.Connection(sys.argv[1])
        theirs.execute("SELECT * FROM sqlite_master").fetchall()
    if sys.argv[2] == "closed":
        sqlite3.connect(sys.argv[1]).close()
    seen = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with millpond.Database(sys.argv[1], observers=[seen.append]) as db:
            if sys.argv[2] == "after":
                sqlite3.connect(sys.argv[1]).close()
            health = await db.health()
    print(json.dumps({
        "status": health.status,
        "bad": [check.name for check in health.checks if not check.ok],
        "told": [str(one.message) for one in caught if issubclass(one.category, millpond.EngineConflict)],
        "events": sum(type(one).__name__ == "EngineConflictSeen" for one in seen),
    }))
asyncio.run(main())
"""


def conflict(path: str, when: str) -> dict[str, Any]:
    ask(path, "CREATE TABLE t(x)")
    done = run(_BEFORE, path, when)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not platform.linux_facts, reason="descriptors can be seen on Linux alone")
def test_another_library_that_had_the_file_open_before_is_told(db_path: str) -> None:
    found = conflict(db_path, "before")
    assert (found["status"], found["bad"], found["events"]) == ("degraded", ["engine"], 1)
    (told,) = found["told"]
    assert told.startswith("bot.db was open in this process before, through sqlite3 ")


def test_another_library_that_opens_the_file_later_degrades_health(db_path: str) -> None:
    found = conflict(db_path, "after")
    assert (found["status"], found["bad"], found["events"]) == ("degraded", ["engine"], 1)
    assert len(found["told"]) == 1


@pytest.mark.parametrize("when", ["never", "closed", "same library"])
def test_nothing_is_told_without_a_conflict(db_path: str, when: str) -> None:
    assert conflict(db_path, when) == {"status": "ok", "bad": [], "told": [], "events": 0}


def damage(path: str) -> None:
    ask(path, "CREATE TABLE t(x); CREATE TABLE u(x); INSERT INTO u VALUES (1)")
    ask(path, "INSERT INTO t SELECT zeroblob(300) FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c "
              "LIMIT 2000) SELECT n FROM c)")  # fmt: skip
    whole = bytearray(Path(path).read_bytes())
    whole[4096 * 10 : 4096 * 40] = b"\xff" * (4096 * 30)
    Path(path).write_bytes(whole)


@pytest.mark.parametrize("sql", ["SELECT sum(length(x)) FROM t", "DELETE FROM t"])
async def test_damage_that_was_met_stays_in_health_until_it_is_opened_anew(db_path: str, sql: str) -> None:
    damage(db_path)
    async with Database(db_path) as db:
        assert (await db.health()).status == "ok"
        with pytest.raises(errors.DatabaseCorrupt):
            await db.fetch_all(sql)
        assert await db.fetch_value("SELECT count(*) FROM u") == 1
        health = await db.health()
        assert health.status == "failing"
        (check,) = [check for check in health.checks if not check.ok]
        assert check.name == "integrity"
        assert "bot.db is damaged" in check.text
    async with Database(db_path) as db:
        assert (await db.health()).status == "ok"


async def test_another_file_that_is_no_database_is_no_damage(db_path: str, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    other.write_bytes(b"this is no database" * 100)
    async with Database(db_path) as db:
        with pytest.raises(errors.DatabaseCorrupt):
            await db.execute("ATTACH ? AS other", (str(other),))
        assert (await db.health()).status == "ok"
