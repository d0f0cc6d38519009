"""Kept results are what a fresh read would find: after own writes, foreign ones, and in the middle of both."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest

from millpond import Database, IntegrityError, Settings
from millpond.engine.sqlite.connection import ONE
from millpond.engine.sqlite.result_cache import NONE, ResultCache

from .outside import run

SCHEMA = """
CREATE TABLE guild(id INTEGER PRIMARY KEY, name TEXT NOT NULL, n INTEGER NOT NULL DEFAULT 0);
CREATE TABLE member(id INTEGER PRIMARY KEY, guild INTEGER REFERENCES guild(id) ON DELETE CASCADE ON UPDATE CASCADE,
                    xp INTEGER NOT NULL DEFAULT 0, twice INTEGER GENERATED ALWAYS AS (xp * 2) VIRTUAL);
CREATE TABLE note(member INTEGER REFERENCES member(id) ON DELETE SET NULL, body TEXT);
CREATE TABLE log(id INTEGER PRIMARY KEY, what TEXT);
CREATE TABLE pair(a TEXT, b TEXT, n INTEGER, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE INDEX member_guild ON member(guild);
CREATE VIEW busy AS SELECT guild, count(*) AS members, sum(xp) AS xp FROM member GROUP BY guild;
CREATE TRIGGER member_logged AFTER UPDATE OF xp ON member BEGIN
    INSERT INTO log(what) VALUES ('xp ' || new.id);
    UPDATE guild SET n = n + 1 WHERE id = new.guild;
END;
CREATE TRIGGER busy_written INSTEAD OF INSERT ON busy BEGIN
    INSERT INTO member(guild, xp) VALUES (new.guild, new.xp);
END;
"""
READS: list[tuple[str, int]] = [
    ("SELECT * FROM guild WHERE id = ?", 1),
    ("SELECT name FROM guild ORDER BY id", 0),
    ("SELECT id, xp, twice FROM member WHERE guild = ? ORDER BY id", 1),
    ("SELECT count(*) FROM member", 0),
    ("SELECT * FROM busy ORDER BY guild", 0),
    ("SELECT count(*), max(what) FROM log", 0),
    ("SELECT body FROM note WHERE member IS NULL ORDER BY rowid", 0),
    ("SELECT g.name, m.xp FROM guild g JOIN member m ON m.guild = g.id WHERE g.id = ? ORDER BY m.id", 1),
    ("WITH top AS (SELECT id, xp FROM member ORDER BY xp DESC, id LIMIT 3) SELECT * FROM top", 0),
    ("SELECT n FROM pair WHERE a = ? AND b = 'x'", 1),
    ("SELECT total(n) FROM pair", 0),
    ("SELECT EXISTS (SELECT 1 FROM member WHERE guild = ?)", 1),
]
WRITES: list[tuple[str, int]] = [
    ("INSERT INTO guild(name) VALUES ('g' || ?)", 1),
    ("INSERT OR REPLACE INTO guild(id, name) VALUES (?, 'replaced')", 1),
    ("INSERT INTO guild(id, name) VALUES (?, 'u') ON CONFLICT (id) DO UPDATE SET name = name || 'u', n = n + 1", 1),
    ("UPDATE guild SET id = id + 100 WHERE id = ?", 1),
    ("DELETE FROM guild WHERE id = ?", 1),
    ("INSERT INTO member(guild, xp) SELECT id, ? FROM guild LIMIT 1", 1),
    ("UPDATE member SET xp = xp + 1 WHERE id = ?", 1),
    ("DELETE FROM member WHERE id = ?", 1),
    ("INSERT INTO busy(guild, xp) SELECT id, ? FROM guild LIMIT 1", 1),
    ("INSERT INTO note SELECT max(id), 'n' || ? FROM member", 1),
    ("INSERT INTO pair VALUES (?, 'x', 1) ON CONFLICT DO UPDATE SET n = n + 1", 1),
    ("DELETE FROM log", 0),
    ("WITH w(k) AS (SELECT ?) UPDATE member SET xp = 0 WHERE guild IN (SELECT k FROM w)", 1),
]


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db", Settings(durability="normal")) as db:
        await db.execute_script(SCHEMA)
        yield db


def cache(db: Database) -> ResultCache:
    assert db._engine is not None
    assert db._engine.cache is not None
    return db._engine.cache


async def kept(db: Database, sql: str, *params: Any) -> list[Any]:
    """Read it until it comes from the cache."""
    for _ in range(20):
        hits = cache(db).hits
        found = await db.fetch_all(sql, params)
        if cache(db).hits > hits:
            return found
    raise AssertionError("never kept")


async def fill(db: Database) -> None:
    await db.execute_many("INSERT INTO guild(id, name) VALUES (?, ?)", [(i, f"g{i}") for i in range(1, 6)])
    await db.execute_many("INSERT INTO member(id, guild) VALUES (?, ?)", [(i, i % 5 + 1) for i in range(1, 21)])


async def test_a_kept_result_is_equal_and_the_list_is_the_callers_own(db: Database) -> None:
    await fill(db)
    first = await kept(db, "SELECT id, name FROM guild ORDER BY id")
    first.clear()
    assert [tuple(row) for row in await kept(db, "SELECT id, name FROM guild ORDER BY id")] == [
        (i, f"g{i}") for i in range(1, 6)
    ]


async def test_parameters_that_are_equal_and_not_the_same_are_told_apart(db: Database) -> None:
    await fill(db)
    sql = "SELECT typeof(?1), count(*) FROM guild"
    for value, kind in (
        (1, "integer"),
        (1.0, "real"),
        (True, "integer"),
        ("1", "text"),
        (b"1", "blob"),
        (None, "null"),
    ):
        for _ in range(4):
            assert (await db.fetch_all(sql, (value,)))[0][0] == kind


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write[0][:40])
async def test_whatever_is_written_no_result_is_stale(db: Database, write: tuple[str, int]) -> None:
    """Each kind of read is kept before each kind of write, and compared with a fresh one after it."""
    await fill(db)
    sql, count = write
    for turn in range(3):
        for read, many in READS:
            await kept(db, read, *(1,) * many)
        await db.execute(sql, (turn + 1,) * count)
        for read, many in READS:
            args = (1,) * many
            assert await db.fetch_all(read, args) == await db.fetch_all(read, args, cache=False), read


async def test_a_write_to_one_table_leaves_the_results_of_others(db: Database) -> None:
    await fill(db)
    await kept(db, "SELECT * FROM guild WHERE id = ?", 1)
    await kept(db, "SELECT count(*) FROM log")
    hits = cache(db).hits
    await db.execute("INSERT INTO log(what) VALUES ('x')")
    assert (await db.fetch_all("SELECT count(*) FROM log"))[0][0] == 1
    assert cache(db).hits == hits
    await db.fetch_all("SELECT * FROM guild WHERE id = ?", (1,))
    assert cache(db).hits == hits + 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT random(), count(*) FROM guild",
        "SELECT datetime('now'), count(*) FROM guild",
        "SELECT 1",
        "SELECT name FROM sqlite_schema",
        "SELECT * FROM pragma_table_info('guild')",
        "PRAGMA user_version",
        "SELECT value FROM json_each('[1]'), guild",
    ],
)
async def test_what_does_not_depend_on_tables_alone_is_never_kept(db: Database, sql: str) -> None:
    await fill(db)
    for _ in range(10):
        await db.fetch_all(sql)
    assert (cache(db).hits, len(cache(db).kept)) == (0, 0)


async def test_a_schema_change_drops_everything(db: Database) -> None:
    await fill(db)
    await kept(db, "SELECT * FROM guild WHERE id = ?", 1)
    await db.execute("ALTER TABLE guild ADD COLUMN more TEXT DEFAULT 'm'")
    assert (await db.fetch_all("SELECT * FROM guild WHERE id = ?", (1,)))[0].more == "m"


async def test_a_commit_of_another_process_drops_everything(db: Database) -> None:
    await fill(db)
    assert (await kept(db, "SELECT name FROM guild WHERE id = ?", 1))[0].name == "g1"
    path = db._location.path
    done = run(f"import apsw; apsw.Connection({path!r}).execute(\"UPDATE guild SET name = 'theirs' WHERE id = 1\")")
    assert done.returncode == 0, done.stderr
    assert (await db.fetch_all("SELECT name FROM guild WHERE id = ?", (1,)))[0].name == "theirs"


def theirs(db: Database, name: str) -> None:
    """Another process renames the first guild."""
    path = db._location.path
    done = run(f"import apsw; apsw.Connection({path!r}).execute('UPDATE guild SET name = ? WHERE id = 1', ({name!r},))")
    assert done.returncode == 0, done.stderr


async def test_a_foreign_commit_just_before_our_own_is_not_overlooked(db: Database) -> None:
    await fill(db)
    sql = "SELECT name FROM guild WHERE id = ?"
    await kept(db, sql, 1)
    theirs(db, "before")
    await db.execute("INSERT INTO log(what) VALUES ('ours, and guilds are not touched')")
    assert (await db.fetch_all(sql, (1,)))[0].name == "before"


async def test_a_foreign_commit_just_after_our_own_is_not_overlooked(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(db)
    sql = "SELECT name FROM guild WHERE id = ?"
    await kept(db, sql, 1)
    committed = cache(db).committed

    def late(tables: set[str], *, wrote: bool) -> None:
        theirs(db, "after")
        committed(tables, wrote=wrote)

    monkeypatch.setattr(cache(db), "committed", late)
    await db.execute("INSERT INTO log(what) VALUES ('ours, and guilds are not touched')")
    assert (await db.fetch_all(sql, (1,)))[0].name == "after"


@pytest.mark.parametrize("way", ["execute", "execute_many", "write", "transaction", "returning"])
async def test_a_trigger_of_another_process_is_not_overlooked(db: Database, way: str) -> None:
    """The profile of the write was made before there was the trigger, so it does not know what it touches."""
    await fill(db)
    insert = "INSERT INTO log(what) VALUES (?)"
    if way == "returning":
        insert += " RETURNING id"
    await db.execute(insert, ("before",))
    path = db._location.path
    trigger = "CREATE TRIGGER late AFTER INSERT ON log BEGIN UPDATE guild SET name = 'by trigger' WHERE id = 1; END"
    assert run(f"import apsw; apsw.Connection({path!r}).execute({trigger!r})").returncode == 0
    sql = "SELECT name FROM guild WHERE id = ?"
    assert (await kept(db, sql, 1))[0].name == "g1"
    match way:
        case "execute":
            await db.execute(insert, ("x",))
        case "execute_many":
            await db.execute_many(insert, [("x",)])
        case "write":
            await db.write(lambda tx: tx.execute(insert, ("x",)))
        case "transaction":
            async with db.transaction() as tx:
                await tx.execute(insert, ("x",))
        case _:
            await db.fetch_all(insert, ("x",))
    assert (await db.fetch_all(sql, (1,)))[0].name == "by trigger"


async def test_after_a_change_of_the_schema_results_are_kept_again(db: Database) -> None:
    await fill(db)
    await db.execute("CREATE TABLE more(x)")
    sql = "SELECT name FROM guild WHERE id = ?"
    await kept(db, sql, 1)
    hits = cache(db).hits
    for _ in range(3):
        await db.execute("INSERT INTO log(what) VALUES ('x')")
        await db.fetch_all(sql, (1,))
    assert cache(db).hits == hits + 3


async def test_a_foreign_commit_beside_a_write_that_changed_nothing_is_not_taken_for_our_own(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(db)
    sql = "SELECT name FROM guild WHERE id = ?"
    nothing = "UPDATE log SET what = 'x' WHERE id = -1"
    await db.execute(nothing)
    await kept(db, sql, 1)
    committed = cache(db).committed

    def late(tables: set[str], *, wrote: bool) -> None:
        theirs(db, "after")
        committed(tables, wrote=wrote)

    monkeypatch.setattr(cache(db), "committed", late)
    await db.execute(nothing)
    assert (await db.fetch_all(sql, (1,)))[0].name == "after"


async def test_a_statement_that_is_gone_keeps_nothing_any_more(db: Database) -> None:
    await fill(db)
    sql = "SELECT name FROM guild WHERE id = ?"
    await kept(db, sql, 1)
    engine = db._engine
    assert engine is not None
    profile = engine.profiles.get(sql)
    assert profile is not None
    await db.fetch_one(sql, (2,))
    pending = cache(db).pending(profile, ONE, (2,))
    assert pending is not None
    cache(db).forget(profile)
    cache(db).keep(pending, ONE, (2,), None)
    assert (len(cache(db).kept), cache(db).kept.bytes) == (0, 0)
    assert cache(db).pending(profile, ONE, (2,)) is None


async def test_long_parameters_count(db: Database) -> None:
    await fill(db)
    for i in range(30):
        for _ in range(3):
            await db.fetch_all("SELECT count(*) FROM guild WHERE name = ?", (f"{i}" * 100_000,))
    assert cache(db).kept.bytes >= 100_000 * len(cache(db).kept)


async def test_who_comes_late_after_closing_keeps_nothing(tmp_path: Path) -> None:
    async with Database(tmp_path / "late.db") as db:
        await db.execute("CREATE TABLE t(a)")
        found, sql = cache(db), "SELECT count(*) FROM t"
        await kept(db, sql)
        engine = db._engine
        assert engine is not None
        profile = engine.profiles.get(sql)
        assert profile is not None
        await db.fetch_one(sql)
        pending = found.pending(profile, ONE, None)
        assert pending is not None
    found.keep(pending, ONE, None, None)
    assert found.look(profile, ONE, None) is NONE
    assert found.pending(profile, ONE, None) is None


async def test_a_temporary_view_is_the_writers(db: Database) -> None:
    await fill(db)
    await db.execute("CREATE TEMP VIEW big AS SELECT * FROM guild WHERE id > 3")
    for _ in range(4):
        assert await db.fetch_value("SELECT count(*) FROM big") == 2
        assert [row.id for row in await db.fetch_all("SELECT id FROM big ORDER BY id")] == [4, 5]
    await db.execute("CREATE TEMP VIEW log AS SELECT 7 AS what")
    for _ in range(4):
        assert await db.fetch_value("SELECT what FROM log") == 7
        assert await db.fetch_value("SELECT count(*) FROM log") == 1


async def test_a_result_that_was_read_before_a_write_is_not_kept_after_it(db: Database) -> None:
    await fill(db)
    sql = "SELECT name FROM guild WHERE id = ?"
    await kept(db, sql, 2)
    assert db._engine is not None
    profile = db._engine.profiles.get(sql)
    assert profile is not None
    await db.fetch_one(sql, (1,))
    pending = cache(db).pending(profile, ONE, (1,))
    assert pending is not None
    old = await db.fetch_one(sql, (1,), cache=False)
    await db.execute("UPDATE guild SET name = 'new' WHERE id = 1")
    cache(db).keep(pending, ONE, (1,), old)
    assert (await db.fetch_one(sql, (1,))).name == "new"


async def test_inside_transactions_and_snapshots_nothing_kept_is_given(db: Database) -> None:
    await fill(db)
    sql = "SELECT name FROM guild WHERE id = ?"
    await kept(db, sql, 1)
    async with db.transaction() as tx:
        await tx.execute("UPDATE guild SET name = 'mine' WHERE id = 1")
        assert await tx.fetch_value(sql, (1,)) == "mine"
        assert (await db.fetch_all(sql, (1,)))[0].name == "g1"
    async with db.snapshot() as snap:
        assert await snap.fetch_value(sql, (1,)) == "mine"
        await db.execute("UPDATE guild SET name = 'later' WHERE id = 1")
        assert await snap.fetch_value(sql, (1,)) == "mine"
        assert (await db.fetch_all(sql, (1,)))[0].name == "later"


async def test_an_attached_database_switches_it_off(db: Database, tmp_path: Path) -> None:
    await fill(db)
    sql = "SELECT count(*) FROM guild"
    await kept(db, sql)
    await db.execute("ATTACH ? AS other", (str(tmp_path / "other.db"),))
    hits = cache(db).hits
    for _ in range(5):
        assert (await db.fetch_all(sql))[0][0] == 5
    assert (cache(db).hits, len(cache(db).kept)) == (hits, 0)


async def test_it_can_be_left_out_by_call_and_by_setting(db: Database, tmp_path: Path) -> None:
    await fill(db)
    await kept(db, "SELECT count(*) FROM guild")
    hits = cache(db).hits
    for _ in range(5):
        await db.fetch_value("SELECT count(*) FROM guild", cache=False)
    assert cache(db).hits == hits
    async with Database(tmp_path / "b.db", Settings(cache_bytes=0)) as other:
        assert other._engine is not None
        assert other._engine.cache is None


def test_a_child_after_fork_gets_nothing_that_was_kept(tmp_path: Path) -> None:
    code = """
import asyncio, os, sys, warnings
import millpond
warnings.simplefilter("ignore")
async def main():
    async with millpond.Database(sys.argv[1]) as db:
        await db.execute("CREATE TABLE t(a)")
        for _ in range(20):
            await db.fetch_value("SELECT count(*) FROM t")
        assert db._engine.cache.hits
        pid = os.fork()
        if pid == 0:
            try:
                await db.fetch_value("SELECT count(*) FROM t")
            except millpond.Error:
                os._exit(7)
            os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
asyncio.run(main())
"""
    done = run(code, str(tmp_path / "a.db"))
    assert done.stdout.strip() == "7", done.stderr


_ONE_OF_FOUR = """
import asyncio, json, sys
from random import Random
from millpond import Database, IntegrityError, Settings
path, seed, reads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ROW = "SELECT n FROM counter WHERE id = ?"
ALL = "SELECT id, n FROM counter ORDER BY id"
async def main():
    chance = Random(seed)
    stale = checked = 0
    async with Database(path, Settings(durability="normal")) as db:
        async def reader():
            nonlocal stale, checked
            while checked < reads:
                key = chance.randrange(20)
                floor = await db.fetch_value(ROW, (key,), cache=False)
                for _ in range(8):
                    found = await db.fetch_value(ROW, (key,))
                    stale += found < floor
                    checked += 1
                floors = await db.fetch_all(ALL, cache=False)
                for _ in range(4):
                    found = await db.fetch_all(ALL)
                    stale += any(mine.n < least.n for mine, least in zip(found, floors))
                    checked += 1
                mine = await db.fetch_value(ROW, (key,))
                if chance.random() < 0.2:
                    await asyncio.sleep(0)
        async def writer():
            while checked < reads:
                key = chance.randrange(20)
                def add(tx):
                    tx.execute("UPDATE counter SET n = n + 1 WHERE id = ?", (key,))
                    return tx.fetch_value(ROW, (key,))
                match chance.randrange(3):
                    case 0:
                        wrote = await db.write(add)
                    case 1:
                        await db.execute("UPDATE counter SET n = n + 1 WHERE id = ?", (key,))
                        wrote = 0
                    case _:
                        await db.execute("UPDATE other SET n = n + 1")
                        wrote = 0
                if wrote and await db.fetch_value(ROW, (key,)) < wrote:
                    raise SystemExit("a write of one's own is not seen")
                await asyncio.sleep(chance.random() * 0.004)
        await asyncio.gather(*(reader() for _ in range(4)), writer(), writer())
        print(json.dumps({"stale": stale, "checked": checked, "hits": db._engine.cache.hits}))
asyncio.run(main())
"""


def four_processes(path: Path, reads: int) -> dict[str, int]:
    """Four processes read and write one file; each read must not be older than a fresh one before it."""
    made = run(
        "import apsw, sys; c = apsw.Connection(sys.argv[1]); c.pragma('journal_mode', 'wal'); "
        "c.execute('CREATE TABLE counter(id INTEGER PRIMARY KEY, n INTEGER); CREATE TABLE other(n INTEGER)'); "
        "c.execute('INSERT INTO other VALUES (0)'); "
        "c.executemany('INSERT INTO counter VALUES (?, 0)', [(i,) for i in range(20)])",
        str(path),
    )
    assert made.returncode == 0, made.stderr
    seed = Random().randrange(10**6)
    print(f"seed {seed}")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _ONE_OF_FOUR, str(path), str(seed + i), str(reads)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for i in range(4)
    ]  # fmt: skip
    total = {"stale": 0, "checked": 0, "hits": 0}
    for process in processes:
        out, err = process.communicate(timeout=550)
        assert process.returncode == 0, err
        for name, number in json.loads(out).items():
            total[name] += number
    return total


def test_four_processes_never_see_a_stale_result(tmp_path: Path) -> None:
    found = four_processes(tmp_path / "a.db", 3_000)
    assert found["stale"] == 0, found
    assert found["hits"] > 1_000, found


@pytest.mark.slow
def test_four_processes_never_see_a_stale_result_in_a_million_reads(tmp_path: Path) -> None:
    found = four_processes(tmp_path / "a.db", 250_000)
    assert found["stale"] == 0, found
    assert found["checked"] >= 1_000_000
    assert found["hits"] > 100_000, found


async def test_random_reads_and_writes_agree_with_fresh_reads(db: Database) -> None:
    seed = Random().randrange(10**6)
    print(f"seed {seed}")
    chance = Random(seed)
    await fill(db)

    async def check() -> None:
        sql, count = chance.choice(READS)
        args = tuple(chance.randrange(1, 4) for _ in range(count))
        mine = await db.fetch_all(sql, args)
        # Nothing is awaited that waits in between, unless a lane was asked: then compare only if nobody wrote.
        assert mine == await db.fetch_all(sql, args, cache=False), (sql, args)

    for _ in range(400):
        for _ in range(chance.randrange(1, 12)):
            await check()
        sql, count = chance.choice(WRITES)
        args = tuple(chance.randrange(1, 8) for _ in range(count))
        with suppress(IntegrityError):
            if chance.random() < 0.5:
                await db.execute(sql, args)
            else:
                async with db.transaction() as tx:
                    await tx.execute(sql, args)
    assert cache(db).hits > 100
    await asyncio.sleep(0)
