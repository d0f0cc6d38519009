"""`watch`: the first result, then one each time that its tables changed; which tables, and what is passed over."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest

from millpond import Database, IntegrityError, NotSupportedError, ProgrammingError, Settings, WouldWaitForItself
from millpond.engine.sqlite import watchers as looking_after
from millpond.feeds import ResultFeed, is_same
from millpond.rows import row_type
from tests.waiting import until

from .outside import run
from .test_result_cache import READS, SCHEMA, WRITES, fill
from .watching import BY_OTHERS, BY_OURS, Looks, following, queries, watchers_of


@pytest.fixture(params=["file", "memory"])
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """Told by its own commits alone."""
    async with Database(tmp_path / "a.db" if request.param == "file" else ":memory:", BY_OURS) as db:
        await db.execute_script(SCHEMA)
        await fill(db)
        yield db


async def test_the_result_now_and_after_each_change(db: Database) -> None:
    seen = []
    async for rows in db.watch("SELECT name FROM guild WHERE id = :id", {"id": 1}):
        seen.append(rows[0].name)
        if len(seen) == 3:
            break
        await db.execute("UPDATE guild SET name = name || '+' WHERE id = 1")
    assert seen == ["g1", "g1+", "g1++"]


async def test_it_waits_until_there_is_a_change(db: Database) -> None:
    feed = db.watch("SELECT name FROM guild WHERE id = 1")
    await following(feed)
    task = asyncio.ensure_future(following(feed))
    await db.execute("INSERT INTO log(what) VALUES ('another table')")
    assert not task.done()
    assert queries(db) == 1
    await db.execute("UPDATE guild SET name = 'new' WHERE id = 1")
    assert await task == [("new",)]
    assert queries(db) == 2


async def test_many_commits_give_one_next_result_the_newest(db: Database) -> None:
    feed = db.watch("SELECT n FROM guild WHERE id = 1")
    assert await following(feed) == [(0,)]
    for _ in range(10):
        await db.execute("UPDATE guild SET n = n + 1 WHERE id = 1")
    assert await following(feed) == [(10,)]
    assert queries(db) == 2


async def test_a_result_that_is_the_same_is_passed_over(db: Database) -> None:
    feed = db.watch("SELECT name FROM guild WHERE id = 1")
    await following(feed)
    task = asyncio.ensure_future(following(feed))
    for i in range(3):
        await db.execute("UPDATE guild SET n = n + 1 WHERE id = 2")
        await until(lambda: queries(db) == 2 + i)  # noqa: B023  # it is over when the loop goes on
    assert not task.done()
    await db.execute("UPDATE guild SET name = 'new' WHERE id = 1")
    assert await task == [("new",)]


@pytest.mark.parametrize("interval_s", [0.001, 3_600])
async def test_after_it_the_next_change_is_seen_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interval_s: float
) -> None:
    """Not at once, but however often or seldom the thread looks at what others do."""
    monkeypatch.setattr(looking_after, "VERIFY_S", 3_600.0)
    async with Database(tmp_path / "p.db", Settings(watch_interval_s=interval_s)) as db:
        await db.execute("CREATE TABLE t(n)")
        feed = db.watch("SELECT count(*) FROM t WHERE n > 0", into=int)
        await following(feed)
        task = asyncio.ensure_future(following(feed))
        await db.execute("INSERT INTO t VALUES (0)")
        await until(lambda: queries(db) == 2)
        await db.execute("INSERT INTO t VALUES (1)")
        assert await task == [1]


async def test_unless_each_change_is_asked_for(db: Database) -> None:
    feed = db.watch("SELECT name FROM guild WHERE id = 1", changes_only=False)
    for _ in range(4):
        assert await following(feed) == [("g1",)]
        await db.execute("UPDATE guild SET n = n + 1 WHERE id = 2")
    await db.execute("INSERT INTO log(what) VALUES ('another table')")
    assert await following(feed) == [("g1",)]
    assert queries(db) == 5
    assert feed._last is None, "nothing is kept that is not needed"


async def test_what_was_given_out_may_be_changed(db: Database) -> None:
    feed = db.watch("SELECT name FROM guild WHERE id <= 2")
    (await following(feed)).clear()
    await db.execute("UPDATE guild SET name = 'new' WHERE id = 1")
    assert await following(feed) == [("new",), ("g2",)]


async def test_parameters_are_those_of_the_call(db: Database) -> None:
    params = [1]
    feed = db.watch("SELECT name FROM guild WHERE id = ?", params)
    params[0] = 2
    assert await following(feed) == [("g1",)]


@dataclass
class Guild:
    name: str


async def test_rows_are_what_into_says(db: Database) -> None:
    feed = db.watch("SELECT name FROM guild WHERE id = 1", into=Guild)
    assert await following(feed) == [Guild("g1")]
    await db.execute("UPDATE guild SET name = 'new' WHERE id = 1")
    assert await following(feed) == [Guild("new")]
    assert await following(db.watch("SELECT id FROM guild ORDER BY id", into=int)) == [1, 2, 3, 4, 5]


async def test_and_what_the_row_factory_says(tmp_path: Path) -> None:
    async with Database(tmp_path / "f.db", row_factory=dict) as db:
        await db.execute("CREATE TABLE t(a)")
        feed = db.watch("SELECT a FROM t")
        assert await following(feed) == []
        await db.execute("INSERT INTO t VALUES (1)")
        assert await following(feed) == [{"a": 1}]


@pytest.mark.parametrize("way", ["execute", "many", "script", "write", "transaction", "returning", "savepoint"])
async def test_each_way_to_write_tells(db: Database, way: str) -> None:
    insert = "INSERT INTO log(what) VALUES ('x')"
    feed = db.watch("SELECT count(*) FROM log", into=int)
    assert await following(feed) == [0]
    match way:
        case "execute":
            await db.execute(insert)
        case "many":
            await db.execute_many("INSERT INTO log(what) VALUES (?)", [("x",)])
        case "script":
            await db.execute_script(f"SELECT 1; {insert};")
        case "write":
            await db.write(lambda tx: tx.execute(insert))
        case "transaction":
            async with db.transaction() as tx:
                await tx.execute(insert)
        case "returning":
            await db.fetch_all(f"{insert} RETURNING id")
        case _:
            async with db.transaction() as tx, tx.savepoint():
                await tx.execute(insert)
    assert await following(feed) == [1]


@pytest.mark.parametrize("write", WRITES, ids=lambda write: write[0][:40])
async def test_whatever_is_written_whoever_reads_it_is_told(db: Database, write: tuple[str, int]) -> None:
    """Views, common table expressions, triggers and foreign keys' actions included."""
    sql, count = write
    feeds = [(db.watch(read, (1,) * many), read, (1,) * many) for read, many in READS]
    last = [await following(feed) for feed, _, _ in feeds]
    for turn in range(3):
        await db.execute(sql, (turn + 1,) * count)
        for i, (feed, read, params) in enumerate(feeds):
            now = await db.fetch_all(read, params, cache=False)
            if now != last[i]:
                last[i] = await following(feed)
                assert last[i] == now, read


async def test_random_writes_are_seen_by_all_who_watch(db: Database) -> None:
    seed = Random().randrange(10**6)
    print(f"seed {seed}")
    chance = Random(seed)
    feeds = [(db.watch(read, (2,) * many), read, (2,) * many) for read, many in READS]
    last = [await following(feed) for feed, _, _ in feeds]
    for _ in range(60):
        for _ in range(chance.randrange(1, 4)):
            sql, count = chance.choice(WRITES)
            with suppress(IntegrityError):
                await db.execute(sql, tuple(chance.randrange(1, 8) for _ in range(count)))
        i = chance.randrange(len(feeds))
        feed, read, params = feeds[i]
        now = await db.fetch_all(read, params, cache=False)
        if now != last[i]:
            last[i] = await following(feed)
        assert last[i] == now, read


async def test_a_change_of_the_schema_is_a_change(db: Database) -> None:
    feed = db.watch("SELECT * FROM guild WHERE id = 1")
    assert (await following(feed))[0].keys() == ("id", "name", "n")
    await db.execute("ALTER TABLE guild ADD COLUMN more TEXT DEFAULT 'm'")
    assert (await following(feed))[0].more == "m"
    await db.execute("ALTER TABLE guild RENAME COLUMN more TO most")
    assert (await following(feed))[0].most == "m", "other columns are another result, though the values are the same"


async def test_a_view_that_was_made_anew_is_watched_with_its_new_tables(db: Database) -> None:
    await db.execute("CREATE VIEW top AS SELECT count(*) AS n FROM log")
    feed = db.watch("SELECT n FROM top", into=int)
    assert await following(feed) == [0]
    await db.execute_script("DROP VIEW top; CREATE VIEW top AS SELECT count(*) AS n FROM pair")
    await db.execute("INSERT INTO pair VALUES ('a', 'b', 1)")
    assert await following(feed) == [1]
    await db.execute("INSERT INTO pair VALUES ('c', 'd', 1)")
    assert await following(feed) == [2]


async def test_a_table_that_is_gone_is_an_error_and_one_that_is_back_is_watched_again(db: Database) -> None:
    feed = db.watch("SELECT count(*) FROM log", into=int)
    await following(feed)
    await db.execute("ALTER TABLE log RENAME TO old")
    with pytest.raises(ProgrammingError, match="log does not exist"):
        await following(feed)
    await db.execute("ALTER TABLE old RENAME TO log")
    await db.execute("INSERT INTO log(what) VALUES ('x')")
    assert await following(feed) == [1]


async def test_a_full_text_index_is_told_of_by_any_commit(db: Database) -> None:
    await db.execute("CREATE VIRTUAL TABLE found USING fts5(body)")
    feed = db.watch("SELECT body FROM found WHERE found MATCH 'pond'")
    assert await following(feed) == []
    await db.execute("INSERT INTO found VALUES ('a mill pond')")
    assert await following(feed) == [("a mill pond",)]


async def test_the_schema_itself_can_be_watched(db: Database) -> None:
    feed = db.watch("SELECT name FROM sqlite_schema WHERE type = 'table' AND name = 'late'")
    assert await following(feed) == []
    await db.execute("CREATE TABLE late(a)")
    assert await following(feed) == [("late",)]


async def test_what_changes_by_itself_is_asked_again_only_at_a_change_of_its_tables(db: Database) -> None:
    feed = db.watch("SELECT random(), count(*) FROM log")
    first = await following(feed)
    await db.execute("UPDATE guild SET n = 1")
    assert queries(db) == 1
    await db.execute("INSERT INTO log(what) VALUES ('x')")
    assert (await following(feed))[0] != first[0]
    assert queries(db) == 2


async def test_what_was_undone_is_no_change(db: Database) -> None:
    feed = db.watch("SELECT count(*) FROM log", into=int, changes_only=False)
    await following(feed)
    with pytest.raises(ZeroDivisionError):
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO log(what) VALUES ('x')")
            1 / 0  # noqa: B018  # something fails
    with pytest.raises(IntegrityError):
        await db.execute("INSERT INTO guild(id, name) VALUES (1, 'twice')")
    await db.execute("INSERT INTO pair VALUES ('a', 'b', 1)")
    task = asyncio.ensure_future(following(feed))
    await db.execute("INSERT INTO log(what) VALUES ('y')")
    assert await task == [1]
    assert queries(db) == 2


@pytest.mark.parametrize(
    ("sql", "kind", "words"),
    [
        ("PRAGMA user_version", NotSupportedError, "no table tells when the answer of a pragma changes"),
        ("PRAGMA table_info(guild)", NotSupportedError, "no table tells"),
        ("PRAGMA user_version = 3", NotSupportedError, "no table tells"),
        ("DELETE FROM log", ProgrammingError, "is no read, and watch is for reads"),
        ("DELETE FROM log RETURNING id", ProgrammingError, "is no read"),
        ("CREATE TABLE x(a)", ProgrammingError, "is no read"),
        ("BEGIN", ProgrammingError, "is no read"),
        ("SELECT 1", ProgrammingError, "reads no table, so no change would ever come"),
        ("SELECT datetime('now')", ProgrammingError, "reads no table"),
        ("SELECT * FROM nowhere", ProgrammingError, "nowhere does not exist"),
    ],
)
async def test_what_cannot_be_watched_is_refused_at_once(
    db: Database, sql: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        await following(db.watch(sql))
    assert db.stats().watchers == 0


async def test_temporary_and_attached_tables_are_refused(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db") as db:
        await db.execute("CREATE TABLE t(a)")
        await db.execute("CREATE TEMP TABLE mine(a)")
        await db.execute("ATTACH ? AS other", (str(tmp_path / "b.db"),))
        await db.execute("CREATE TABLE other.theirs(a)")
        for sql in ("SELECT a FROM mine", "SELECT t.a FROM t, mine"):
            with pytest.raises(NotSupportedError, match="temporary tables"):
                await following(db.watch(sql))
        for sql in ("SELECT a FROM other.theirs", "SELECT count(*) FROM theirs", "SELECT t.a FROM t, theirs"):
            with pytest.raises(NotSupportedError, match="an attached database"):
                await following(db.watch(sql))
        feed = db.watch("SELECT a FROM t")
        assert await following(feed) == []
        await db.execute("INSERT INTO other.theirs VALUES (1)")
        await db.execute("INSERT INTO t VALUES (1)")
        assert await following(feed) == [(1,)]


async def test_wrong_arguments_are_refused_where_it_is_called(db: Database) -> None:
    watch: Any = db.watch
    for wrong in (
        lambda: watch("SELECT name FROM guild WHERE id = ?", "1"),
        lambda: watch("SELECT name FROM guild WHERE id = ?", 1),
        lambda: watch("SELECT name FROM guild WHERE id = ?", 1, 2),
        lambda: watch(7),
        lambda: watch("SELECT name FROM guild", timeout=-1),
        lambda: watch("SELECT name FROM guild", into=7),
    ):
        with pytest.raises(ProgrammingError):
            wrong()


async def test_inside_ones_own_transaction_it_reads_what_is_committed_and_does_not_wait(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", BY_OURS) as db:
        await db.execute("CREATE TABLE t(a)")
        feed = db.watch("SELECT count(*) FROM t", into=int)
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (1)")
            assert await following(feed) == [0]
            with pytest.raises(WouldWaitForItself, match="inside the transaction opened at test_watch"):
                await following(feed)
            task = asyncio.create_task(following(feed))  # inherits the transaction, and is not the one that holds it
            await until(lambda: feed._watcher is not None and feed._watcher.waits)
            assert not task.done()
        assert await task == [1]


async def test_two_who_watch_the_same_are_both_told(db: Database) -> None:
    feeds = [db.watch("SELECT count(*) FROM log", into=int) for _ in range(2)]
    assert [await following(feed) for feed in feeds] == [[0], [0]]
    tasks = [asyncio.ensure_future(following(feed)) for feed in feeds]
    await db.execute("INSERT INTO log(what) VALUES ('x')")
    assert await asyncio.gather(*tasks) == [[1], [1]]
    assert db.stats().watchers == 2


async def test_a_feed_has_one_reader_at_a_time(db: Database) -> None:
    feed = db.watch("SELECT count(*) FROM log", into=int)
    await following(feed)
    first = asyncio.ensure_future(anext(feed))
    await asyncio.sleep(0)
    with pytest.raises(ProgrammingError, match="read by another caller"):
        await anext(feed)
    await db.execute("INSERT INTO log(what) VALUES ('x')")
    assert await first == [1]


def other_process(path: str, *statements: str) -> None:
    done = run(f"import apsw; c = apsw.Connection({path!r}); [c.execute(sql) for sql in {statements!r}]")
    assert done.returncode == 0, done.stderr


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Database]:
    """One that looks for other processes' commits all the time."""
    async with Database(tmp_path / "a.db", BY_OTHERS) as db:
        await db.execute_script(SCHEMA)
        await fill(db)
        yield db


async def test_another_processs_commit_is_seen(shared: Database) -> None:
    feed = shared.watch("SELECT name FROM guild WHERE id = 1")
    await following(feed)
    task = asyncio.ensure_future(following(feed))
    other_process(shared._location.path, "UPDATE guild SET name = 'theirs' WHERE id = 1")
    assert await task == [("theirs",)]


async def test_and_another_database_of_this_process(shared: Database) -> None:
    feed = shared.watch("SELECT name FROM guild WHERE id = 1")
    await following(feed)
    async with Database(shared._location.path) as other:
        await other.execute("UPDATE guild SET name = 'theirs' WHERE id = 1")
    assert await following(feed) == [("theirs",)]


async def test_a_view_that_another_process_made_anew_is_watched_with_its_new_tables(shared: Database) -> None:
    await shared.execute("CREATE VIEW top AS SELECT count(*) AS n FROM log")
    feed = shared.watch("SELECT n FROM top", into=int)
    assert await following(feed) == [0]
    other_process(
        shared._location.path,
        "DROP VIEW top", "CREATE VIEW top AS SELECT count(*) + 10 AS n FROM pair",
    )  # fmt: skip
    assert await following(feed) == [10]
    watchers_of(shared)._usual_s = 3_600.0  # from now on our own commits alone tell of anything
    await shared.execute("INSERT INTO pair VALUES ('a', 'b', 1)")
    assert await following(feed) == [11]


async def test_without_a_commit_nothing_is_asked(shared: Database) -> None:
    looks = Looks(watchers_of(shared))
    feed = shared.watch("SELECT count(*) FROM log", into=int, changes_only=False)
    await following(feed)
    task = asyncio.ensure_future(following(feed))
    await asyncio.sleep(0)
    await asyncio.to_thread(looks.wait_for, 20)
    other_process(shared._location.path, "BEGIN IMMEDIATE", "ROLLBACK", "SELECT * FROM guild")
    await shared.execute("UPDATE guild SET n = 7")
    await shared.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with pytest.raises(IntegrityError):
        await shared.execute("INSERT INTO guild(id, name) VALUES (1, 'twice')")
    await shared.execute("UPDATE guild SET n = 8")  # the log begins anew
    await asyncio.to_thread(looks.wait_for, 20)
    assert not task.done()
    assert queries(shared) == 1
    await shared.execute("INSERT INTO log(what) VALUES ('x')")
    assert await task == [1]


async def test_our_own_commits_are_not_taken_for_others(shared: Database) -> None:
    looks = Looks(watchers_of(shared))
    feed = shared.watch("SELECT count(*) FROM log", into=int)
    await following(feed)
    await asyncio.to_thread(looks.wait_for, 2)
    for i in range(30):
        await shared.execute("UPDATE guild SET n = ?", (i,))
    await asyncio.to_thread(looks.wait_for, 3)
    task = asyncio.ensure_future(following(feed))
    await asyncio.sleep(0)
    assert queries(shared) == 1
    await shared.execute("INSERT INTO log(what) VALUES ('x')")
    await task


async def test_without_an_index_to_look_at_our_own_commits_are_told_of(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", BY_OURS) as db:
        await db.execute("CREATE TABLE t(a)")
        engine = db._engine
        assert engine is not None
        index, engine.index = engine.index, None
        feed = db.watch("SELECT count(*) FROM t", into=int)
        await following(feed)
        task = asyncio.ensure_future(following(feed))
        await db.execute("INSERT INTO t VALUES (1)")
        assert await task == [1]
        engine.index = index


async def test_the_thread_is_there_only_while_somebody_watches(db: Database) -> None:
    feeds: list[ResultFeed[Any]] = []
    assert "millpond-watch" not in {thread.name for thread in threading.enumerate()}
    for turn in range(3):
        feeds = [db.watch("SELECT count(*) FROM log") for _ in range(turn + 1)]
        for feed in feeds:
            await following(feed)
        (thread,) = [one for one in threading.enumerate() if one.name == "millpond-watch"]
        engine = db._engine
        assert engine is not None
        assert engine.changes is engine.watchers
        for feed in feeds:
            await feed.aclose()
        assert db.stats().watchers == 0
        await asyncio.to_thread(thread.join, 20)
        assert not thread.is_alive()
        assert engine.changes is None, "a commit that nobody watches tells nobody"


async def test_guesses_are_answered_with_the_line_to_write(db: Database) -> None:
    with pytest.raises(AttributeError, match=r"write: async for rows in db\.watch\(sql, params\)"):
        db.subscribe  # type: ignore[attr-defined]  # noqa: B018  # the guess itself


def test_when_two_results_are_the_same() -> None:
    pair, other = row_type(("a", "b")), row_type(("a", "c"))
    assert is_same([], [])
    assert is_same([pair((1, "x")), pair((None, b"y"))], [pair((1, "x")), pair((None, b"y"))])
    for theirs in ([], [pair((1, "y"))], [pair((1.0, "x"))], [pair((True, "x"))], [other((1, "x"))]):
        assert not is_same([pair((1, "x"))], theirs), theirs
    assert not is_same([pair((1, []))], [pair((1, []))]), "a list may have been changed by whoever has it"


async def test_what_a_converter_made_may_be_changed(tmp_path: Path) -> None:
    settings = Settings(converters={"CSV": lambda text: text.split(",")}, watch_interval_s=3_600)
    async with Database(tmp_path / "c.db", settings) as db:
        await db.execute("CREATE TABLE t(a CSV)")
        await db.execute("INSERT INTO t VALUES ('1,2')")
        feed = db.watch("SELECT a FROM t")
        (await following(feed))[0].a.append("3")
        await db.execute("UPDATE t SET a = '1,2,3'")
        assert (await following(feed))[0].a == ["1", "2", "3"]
