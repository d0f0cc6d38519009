"""No change is lost, whenever it comes: between a query and the wait, during the query, from anywhere at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any

import pytest

import millpond.sync
from millpond import Database
from tests.waiting import IN_TIME_S, until

from .outside import ask, run
from .watching import BY_OTHERS, BY_OURS, Looks, following, watchers_of

COUNT = "SELECT count(*) FROM t"
INSERT = "INSERT INTO t VALUES (1)"


@pytest.fixture(params=["file", "memory", "lanes"])
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    settings = BY_OURS.with_(inline="off", cache_bytes=0) if request.param == "lanes" else BY_OURS
    async with Database(":memory:" if request.param == "memory" else tmp_path / "a.db", settings) as db:
        await db.execute("CREATE TABLE t(n)")
        yield db


@pytest.fixture
def twin(tmp_path: Path) -> Any:
    with millpond.sync.Database(tmp_path / "a.db", BY_OURS) as db:
        db.execute("CREATE TABLE t(n)")
        yield db


async def test_a_commit_between_the_query_and_the_wait(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = db.watch(COUNT, into=int)
    assert await following(feed) == [0]
    where_to_wait = feed._waiter

    def late() -> Any:
        """Awaited in place of the waiter, before there is one."""
        monkeypatch.setattr(feed, "_waiter", where_to_wait)
        return db.execute(INSERT)

    monkeypatch.setattr(feed, "_waiter", late)
    assert await following(feed) == [1]
    assert db.stats().watch_queries == 2


async def test_a_commit_between_the_reading_and_its_being_noted(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = db.watch(COUNT, into=int)
    look, took = feed._look, feed._took

    async def late() -> Any:
        """The result is read, another task commits, then it is noted."""
        read: list[Any] = []
        monkeypatch.setattr(feed, "_took", lambda *given: read.append(given))
        await look()
        await asyncio.create_task(db.execute(INSERT))
        return took(*read[0])

    monkeypatch.setattr(feed, "_look", late)
    assert await following(feed) == [0], "what was read before the commit"
    assert await following(feed) == [1]
    monkeypatch.undo()
    assert await following(feed) == [2]


async def test_a_commit_between_joining_and_the_first_reading(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the first watcher joined nobody was told of commits."""
    feed = db.watch(COUNT, into=int)
    queue = db._queue

    async def late(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(db, "_queue", queue)
        await db.execute(INSERT)
        return await queue(*args, **more)

    monkeypatch.setattr(db, "_inline_on", False)
    monkeypatch.setattr(db, "_queue", late)
    assert await following(feed) == [1]
    await db.execute(INSERT)
    assert await following(feed) == [2]


async def test_the_first_who_comes_in_the_middle_of_a_commit(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the commit began nobody watched, so its beginning was told to nobody; its end is."""
    engine = db._engine
    assert engine is not None
    connection = engine.writer_connection
    begun, go_on = threading.Event(), threading.Event()
    execute = connection.run

    def slow(sql: str) -> None:
        if sql == "COMMIT":
            begun.set()
            assert go_on.wait(IN_TIME_S)
        execute(sql)

    monkeypatch.setattr(connection, "run", slow)
    writing = asyncio.create_task(db.execute(INSERT))
    await asyncio.to_thread(begun.wait, IN_TIME_S)
    feed = db.watch(COUNT, into=int)
    if engine.memory:  # whoever reads there waits for the writer
        first = asyncio.create_task(following(feed))
        go_on.set()
        assert await first == [1]
    else:
        assert await following(feed) == [0]
        task = asyncio.create_task(following(feed))
        await until(lambda: feed._watcher is not None and feed._watcher.waits)
        go_on.set()
        assert await task == [1]
    await writing


def commit_elsewhere(db: millpond.sync.Database, by: str) -> None:
    if by == "another thread":
        thread = threading.Thread(target=db.execute, args=(INSERT,))
        thread.start()
        thread.join(IN_TIME_S)
    else:
        path = db._location.path
        assert run(f"import apsw; apsw.Connection({path!r}).execute({INSERT!r})").returncode == 0
        watchers_of(db)._bell.ring()


@pytest.mark.parametrize("by", ["another thread", "another process"])
@pytest.mark.parametrize("when", ["before the wait", "after the reading", "before the reading"])
def test_a_commit_in_between_in_threads(
    twin: millpond.sync.Database, by: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = twin.watch(COUNT, into=int)
    assert next(feed) == [0]
    watchers = watchers_of(twin)
    came: list[str] = []

    def first(call: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
        """Have a commit come before or after the first call."""

        def with_commit(*args: Any, **more: Any) -> Any:
            if not came and not after:
                came.append(by)
                commit_elsewhere(twin, by)
            found = call(*args, **more)
            if not came and after:
                came.append(by)
                commit_elsewhere(twin, by)
            return found

        return with_commit

    if when == "before the wait":
        monkeypatch.setattr(watchers, "wait", first(watchers.wait, after=False))
        assert next(feed) == [1]
    else:
        twin.execute(INSERT)
        monkeypatch.setattr(twin, "_fetch", first(twin._fetch, after=when == "after the reading"))
        if when == "after the reading":
            assert next(feed) == [1]
        assert next(feed) == [2]
    assert came == [by]


async def test_a_commit_of_another_process_in_the_middle_of_our_own_is_told_to_all(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours touches another table; the counter says that there was one more."""
    if db._location.memory:
        return
    await db.execute("CREATE TABLE other(n)")
    feed = db.watch(COUNT, into=int)
    await following(feed)
    watchers = watchers_of(db)
    committed = watchers.committed

    def late(tables: set[str], *, wrote: bool) -> None:
        assert run(f"import apsw; apsw.Connection({db._location.path!r}).execute({INSERT!r})").returncode == 0
        committed(tables, wrote=wrote)

    monkeypatch.setattr(watchers, "committed", late)
    task = asyncio.create_task(following(feed))
    await until(lambda: feed._watcher is not None and feed._watcher.waits)
    await db.execute("INSERT INTO other VALUES (1)")
    assert await task == [1]


async def test_a_look_between_our_commit_and_its_being_told_takes_it_for_nobody_elses(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.execute("CREATE TABLE other(n)")
    feed = db.watch(COUNT, into=int)
    await following(feed)
    watchers = watchers_of(db)
    committed = watchers.committed

    def late(tables: set[str], *, wrote: bool) -> None:
        assert watchers._look_after()
        committed(tables, wrote=wrote)

    monkeypatch.setattr(watchers, "committed", late)
    await db.execute("INSERT INTO other VALUES (1)")
    assert feed._watcher is not None
    assert not feed._watcher.is_due


async def test_a_commit_of_another_process_just_before_our_own_is_told_to_all(db: Database) -> None:
    if db._location.memory:
        return
    await db.execute("CREATE TABLE other(n)")
    feed = db.watch(COUNT, into=int)
    await following(feed)
    task = asyncio.create_task(following(feed))
    await until(lambda: feed._watcher is not None and feed._watcher.waits)
    assert run(f"import apsw; apsw.Connection({db._location.path!r}).execute({INSERT!r})").returncode == 0
    await db.execute("INSERT INTO other VALUES (1)")
    assert await task == [1]


async def test_and_beside_one_of_our_own_that_wrote_nothing(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    if db._location.memory:
        return
    await db.execute("CREATE TABLE other(n)")
    feed = db.watch(COUNT, into=int)
    await following(feed)
    watchers = watchers_of(db)
    committed = watchers.committed

    def late(tables: set[str], *, wrote: bool) -> None:
        assert run(f"import apsw; apsw.Connection({db._location.path!r}).execute({INSERT!r})").returncode == 0
        committed(tables, wrote=wrote)

    monkeypatch.setattr(watchers, "committed", late)
    await db.execute("UPDATE other SET n = 1 WHERE n = -1")
    assert await following(feed) == [1]


_OTHER_PROCESS = """
import random, sys, apsw
path, seed, commits = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
chance = random.Random(seed)
connection = apsw.Connection(path)
connection.set_busy_timeout(20_000)
connection.pragma("synchronous", 1)
print("ready", flush=True)
for _ in range(commits):
    table = chance.choice("abc")
    connection.execute(f"BEGIN IMMEDIATE; UPDATE {table} SET n = n + 1; COMMIT")
"""


def other_process(path: Path | str, seed: int, commits: int) -> subprocess.Popen[str]:
    """One that is about to write."""
    started = subprocess.Popen(
        [sys.executable, "-c", _OTHER_PROCESS, str(path), str(seed), str(commits)], stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    with started.stdout as told:
        assert told.readline().strip() == "ready"
    return started


STATEMENTS = {
    "a": "SELECT n FROM a",
    "b": "SELECT n FROM b",
    "sum": "SELECT (SELECT n FROM a) + (SELECT n FROM b) + (SELECT n FROM c)",
    "view": "SELECT n FROM three",
}
MADE = """
CREATE TABLE a(n INTEGER); CREATE TABLE b(n INTEGER); CREATE TABLE c(n INTEGER);
INSERT INTO a VALUES (0); INSERT INTO b VALUES (0); INSERT INTO c VALUES (0);
CREATE VIEW three AS SELECT a.n + b.n + c.n AS n FROM a, b, c;
"""


WATCHED = [*STATEMENTS, *STATEMENTS]


@pytest.mark.parametrize("where", ["file", "memory"])
async def test_whoever_writes_results_only_go_forward_and_end_at_the_last(where: str, tmp_path: Path) -> None:
    """Tasks and another process write at random; those who watch are now quick, now slow."""
    seed = Random().randrange(10**6)
    print(f"seed {seed}")
    chance = Random(seed)
    path = tmp_path / "a.db" if where == "file" else ":memory:"
    async with Database(path, BY_OTHERS) as db:
        await db.execute_script(MADE)
        looks = Looks(watchers_of(db))
        seen = [-1] * len(WATCHED)
        results = [0] * len(WATCHED)

        async def watch(i: int) -> None:
            mine = Random(seed + i)
            async with aclosing(db.watch(STATEMENTS[WATCHED[i]], into=int)) as feed:
                async for (n,) in feed:
                    assert n > seen[i], f"{WATCHED[i]} went from {seen[i]} to {n}"
                    seen[i] = n
                    results[i] += 1
                    for _ in range(mine.choice((0, 0, 1, 20))):
                        await asyncio.sleep(0)

        async def write() -> None:
            for _ in range(150):
                sql = f"UPDATE {chance.choice('abc')} SET n = n + 1"
                match chance.randrange(4):
                    case 0:
                        await db.write(lambda tx, sql=sql: tx.execute(sql))
                    case 1:
                        async with db.transaction() as tx:
                            await tx.execute(sql)
                    case _:
                        await db.execute(sql)

        other = other_process(path, seed, 150) if where == "file" else None
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(watch(i)) for i in range(len(WATCHED))]
            await asyncio.gather(write(), write(), write())
            if other is not None:
                assert await asyncio.to_thread(other.wait, 60) == 0
            last = [await db.fetch_value(STATEMENTS[name], cache=False) for name in WATCHED]
            await until(lambda: seen == last)
            asked = db.stats().watch_queries
            if where == "file":
                await asyncio.to_thread(looks.wait_for, 20)
            await until(lambda: all(one.waits for one in watchers_of(db)._plan._all))
            assert db.stats().watch_queries - asked <= len(WATCHED), "at most once more for what came in between"
            asked = db.stats().watch_queries
            if where == "file":
                await asyncio.to_thread(looks.wait_for, 20)
            assert db.stats().watch_queries == asked, "asked again, and nobody has committed"
            for task in watching:
                task.cancel()
        commits = db.stats().batches + (150 if other is not None else 0)
        assert all(1 < number <= commits for number in results)
        assert db.stats().watchers == 0


def test_and_so_they_do_in_threads(tmp_path: Path) -> None:
    seed = Random().randrange(10**6)
    print(f"seed {seed}")
    path = tmp_path / "a.db"
    with millpond.sync.Database(path, BY_OTHERS) as db:
        db.execute_script(MADE)
        seen = [-1] * len(WATCHED)
        backwards: list[str] = []
        news = threading.Condition()

        def watch(i: int) -> None:
            try:
                for (n,) in db.watch(STATEMENTS[WATCHED[i]], into=int):
                    with news:
                        if n <= seen[i]:
                            backwards.append(f"{WATCHED[i]} went from {seen[i]} to {n}")
                        seen[i] = n
                        news.notify_all()
            except millpond.DatabaseClosed:
                return

        def write(number: int) -> None:
            chance = Random(seed + number)
            for _ in range(100):
                db.execute(f"UPDATE {chance.choice('abc')} SET n = n + 1")

        watching = [threading.Thread(target=watch, args=(i,), daemon=True) for i in range(len(WATCHED))]
        writing = [threading.Thread(target=write, args=(i,)) for i in range(3)]
        other = other_process(path, seed, 100)
        for thread in [*watching, *writing]:
            thread.start()
        for thread in writing:
            thread.join(60)
        assert other.wait(60) == 0
        last = [db.fetch_value(STATEMENTS[name], cache=False) for name in WATCHED]
        with news:
            assert news.wait_for(lambda: seen == last, IN_TIME_S), (seen, last)
    for thread in watching:
        thread.join(IN_TIME_S)
        assert not thread.is_alive()
    assert not backwards


_PLAYER = """
import asyncio, sys
from millpond import Database, Settings
path, me, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
async def main():
    async with Database(path, Settings(durability="normal", watch_interval_s=0.001)) as db:
        async for (n,) in db.watch("SELECT n FROM ball", into=int):
            if n >= rounds:
                return
            if n % 2 == me:
                await db.execute("UPDATE ball SET n = n + 1")
asyncio.run(main())
"""


def play(path: Path, rounds: int) -> None:
    """Two processes, each of which writes only when it has been told of the other's commit: one lost and both wait."""
    table = "CREATE TABLE ball(n INTEGER); INSERT INTO ball VALUES (0)"
    assert run(f"import apsw; c = apsw.Connection({str(path)!r}); c.execute({table!r})").returncode == 0
    players = [subprocess.Popen([sys.executable, "-c", _PLAYER, str(path), str(i), str(rounds)]) for i in range(2)]
    try:
        assert [player.wait(300) for player in players] == [0, 0]
    finally:
        for player in players:
            player.kill()
    assert ask(path, "SELECT n FROM ball") == f"[({rounds},)]"


def test_two_processes_that_wait_for_each_other(tmp_path: Path) -> None:
    play(tmp_path / "a.db", 200)


@pytest.mark.slow
def test_two_processes_that_wait_for_each_other_for_long(tmp_path: Path) -> None:
    play(tmp_path / "a.db", 20_000)


async def test_two_tasks_that_wait_for_each_other(db: Database) -> None:
    await db.execute_script("CREATE TABLE ball(n INTEGER); INSERT INTO ball VALUES (0)")

    async def player(me: int) -> None:
        async for (n,) in db.watch("SELECT n FROM ball", into=int):
            if n >= 500:
                return
            if n % 2 == me:
                await db.execute("UPDATE ball SET n = n + 1")

    async with asyncio.timeout(60):
        await asyncio.gather(player(0), player(1))
    assert await db.fetch_value("SELECT n FROM ball") == 500
