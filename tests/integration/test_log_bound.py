"""The log stays bounded under endless writes though readers overlap; long reads that wait for that come to no harm."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import apsw
import pytest

import millpond.sync
from millpond import Database, Settings, errors, events
from millpond.engine.sqlite import platform
from millpond.engine.sqlite.checkpoint import Checkpoint
from millpond.engine.sqlite.engine import Engine
from millpond.engine.sqlite.gate import Gate
from millpond.engine.sqlite.holdback import Holdback, Reader
from millpond.engine.sqlite.turnstile import HOLD_MOST_S, Turnstile
from millpond.scheduling.checkpoint_plan import Next
from tests.waiting import until

from .outside import ask, lock_held

LIMIT = 16 * 2**20
HEAVY = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 200000) SELECT count(*) FROM c"
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db", Settings(cache_bytes=0)) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT)")
        yield db


def engine_of(db: Any) -> Engine:
    engine = db._engine
    assert isinstance(engine, Engine)
    return engine


def holdback(db: Any) -> Holdback:
    lanes = engine_of(db).lanes
    assert lanes is not None
    return lanes.holdback


async def test_rolling_readers_do_not_let_the_log_outgrow_its_limit(tmp_path: Path) -> None:
    """Four callers take one snapshot after another, for some hundred writes each, so there is seldom none."""
    seen: list[events.Event] = []
    settings = Settings(wal_limit_bytes=LIMIT, log_hold_s=10.0, cache_bytes=0)
    wrote = longest = 0
    over = False

    async with Database(tmp_path / "a.db", settings, observers=[seen.append]) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
        checks = engine_of(db).checkpointer

        async def writer() -> None:
            nonlocal wrote, longest
            while not over:
                await db.execute("INSERT INTO t(body) VALUES (zeroblob(3000))", durability="normal")
                wrote += 1
                longest = max(longest, os.stat(db._location.path + "-wal").st_size)

        async def reader(number: int) -> None:
            while not over:
                async with db.snapshot() as snap:
                    enough = wrote + 100 + 35 * number
                    count = await snap.fetch_value("SELECT count(*) FROM t")
                    await until(lambda enough=enough: over or wrote >= enough)  # type: ignore[misc]  # bound now
                    assert await snap.fetch_value("SELECT count(*) FROM t") == count

        async def end() -> None:
            nonlocal over
            try:
                await until(lambda: checks.drain.holds >= 3)
            finally:
                over = True

        await asyncio.gather(end(), *(writer() for _ in range(20)), *(reader(number) for number in range(4)))
        assert await db.fetch_value("SELECT count(*) FROM t") == wrote
    assert longest <= LIMIT
    held = [event for event in seen if isinstance(event, events.ReadsHeld)]
    assert sum(event.begun_anew for event in held) >= 2
    assert ask(tmp_path / "a.db", "SELECT (SELECT * FROM pragma_integrity_check)") == "[('ok',)]"


class TestHeldBack:
    """What becomes of a long read that waits for older ones."""

    async def test_it_runs_when_it_is_let_in_and_those_before_it_are_told_to_have_ended_once(
        self, db: Database
    ) -> None:
        drained: list[int] = []
        async with db.snapshot():
            holdback(db).hold(60.0, lambda: drained.append(1))
            waits = asyncio.create_task(db.fetch_value(HEAVY))
            await until(lambda: len(holdback(db)) == 1)
            assert not drained
            assert db.stats().reads_waiting == 1
        await until(lambda: drained)
        assert not waits.done()
        assert holdback(db).release() == 1
        assert await waits == 200_000
        assert drained == [1]
        assert holdback(db).release() == 0

    async def test_it_is_let_in_when_the_time_is_up(self, db: Database) -> None:
        drained = threading.Event()
        async with db.snapshot():
            holdback(db).hold(0.01, drained.set)
            assert await asyncio.create_task(db.fetch_value(HEAVY)) == 200_000
            assert drained.wait(10)
            assert not holdback(db).is_on

    async def test_where_nobody_reads_it_is_drained_at_once(self, db: Database) -> None:
        drained: list[int] = []
        holdback(db).hold(60.0, lambda: drained.append(1))
        assert drained == [1]
        holdback(db).release()

    @pytest.mark.parametrize("kind", ["read", "snapshot", "stream"])
    async def test_its_deadline_is_kept_and_told(self, db: Database, kind: str) -> None:
        holdback(db).hold(60.0, lambda: None)
        with pytest.raises(errors.DeadlineExceeded) as caught:
            match kind:
                case "read":
                    await db.fetch_value(ENDLESS, timeout=0.2)
                case "snapshot":
                    async with db.snapshot(timeout=0.2):
                        raise AssertionError
                case _:
                    async for _ in db.iterate("SELECT * FROM t", timeout=0.2):
                        raise AssertionError
        assert "1 of them for older ones to end: the log is long" in " ".join(caught.value.__notes__)
        assert len(holdback(db)) == 0
        assert holdback(db).release() == 1
        assert await db.fetch_value(HEAVY) == 200_000

    async def test_its_cancel_takes_it_out(self, db: Database) -> None:
        holdback(db).hold(60.0, lambda: None)
        waits = asyncio.create_task(db.fetch_value(HEAVY))
        await until(lambda: len(holdback(db)) == 1)
        waits.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waits
        assert len(holdback(db)) == 0
        holdback(db).release()

    async def test_who_has_a_reader_is_not_held_back_by_it(self, db: Database) -> None:
        """It might never come to its end otherwise."""
        await db.execute_many("INSERT INTO t(id) VALUES (?)", ((number,) for number in range(1_000)))
        found = []
        async for row in db.iterate("SELECT id FROM t"):
            if not found:
                holdback(db).hold(60.0, lambda: None)
            found.append((row.id, await db.fetch_value(HEAVY)))
            async with db.snapshot() as snap:
                found.append(await snap.fetch_value("SELECT count(*) FROM t"))
            if row.id == 2:
                break
        assert found == [(0, 200_000), 1_000, (1, 200_000), 1_000, (2, 200_000), 1_000]
        holdback(db).release()

    async def test_a_read_that_will_end_before_those_that_are_waited_for_is_let_in(self, db: Database) -> None:
        for _ in range(3):
            await db.fetch_value(HEAVY)  # some milliseconds
        lanes, snap = holdback(db), db.snapshot()
        lanes.lives.ended(snap._place, 1_000.0)
        async with snap:
            assert lanes.readers()[0].surely_left_s(monotonic()) > 100
            lanes.hold(60.0, lambda: None)
            assert await db.fetch_value(HEAVY) == 200_000
            waits = asyncio.create_task(db.fetch_value(ENDLESS))
            await until(lambda: len(lanes) == 1)  # nothing is known of this one
            waits.cancel()
        lanes.release()

    @pytest.mark.parametrize(
        ("began", "lasts_s", "left_s", "surely_s"),
        [(10.0, None, 2.0, 0.0), (10.0, 5.0, 3.0, 3.0), (10.0, 1.0, 2.0, 0.0), (10.0, 600.0, 598.0, 598.0)],
    )
    def test_how_long_a_reader_will_read(
        self, began: float, lasts_s: float | None, left_s: float, surely_s: float
    ) -> None:
        reader = Reader(began, "snapshot", None, lasts_s=lasts_s)
        assert (reader.left_s(12.0), reader.surely_left_s(12.0)) == (left_s, surely_s)

    async def test_how_long_a_snapshot_lasted_is_remembered_of_its_line(self, db: Database) -> None:
        for number in range(2):
            async with db.snapshot() as snap:
                (reader,) = holdback(db).readers()
                assert (reader.lasts_s is not None) is (number == 1)
                await snap.fetch_all("SELECT * FROM t")
            await until(lambda: not holdback(db).readers())

    async def test_who_has_given_its_reader_back_is_held_back(self, db: Database) -> None:
        async with db.snapshot():
            holdback(db).hold(60.0, lambda: None)
        waits = asyncio.ensure_future(db.snapshot().__aenter__())
        await until(lambda: len(holdback(db)) == 1)
        holdback(db).release()
        snap = await waits
        await snap.__aexit__(None, None, None)

    async def test_cheap_reads_and_writes_do_not_wait(self, db: Database) -> None:
        async with db.snapshot():
            holdback(db).hold(60.0, lambda: None)
            for number in range(30):
                await db.execute("INSERT INTO t(id) VALUES (?)", (number,))
                assert await db.fetch_value("SELECT count(*) FROM t") == number + 1
            holdback(db).release()

    async def test_closing_fails_it_at_once(self, tmp_path: Path) -> None:
        db = Database(tmp_path / "b.db")
        await db.open()
        holdback(db).hold(60.0, lambda: None)
        waits = asyncio.create_task(db.fetch_value(HEAVY))
        await until(lambda: len(holdback(db)) == 1)
        await db.close()
        with pytest.raises(errors.DatabaseClosed):
            await waits

    async def test_without_another_thread_to_end_it_there_is_no_hold(
        self, db: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Timer, "start", start)
            holdback(db).hold(60.0, lambda: None)
        assert not holdback(db).is_on
        assert await db.fetch_value(HEAVY) == 200_000

    def test_threads_are_held_back_too(self, tmp_path: Path) -> None:
        with millpond.sync.Database(tmp_path / "c.db") as db:
            drained = threading.Event()
            with db.snapshot():
                holdback(db).hold(60.0, drained.set)
                found: list[Any] = []
                thread = threading.Thread(target=lambda: found.append(db.fetch_value(HEAVY)))
                thread.start()
                while not len(holdback(db)):
                    assert thread.is_alive()
            assert drained.wait(10)
            assert not found
            holdback(db).release()
            thread.join(20)
            assert found == [200_000]


class TestDrain:
    """A hold from its beginning to its end, in the engine."""

    async def begin(self, db: Database, action: Callable[[], Awaitable[object]]) -> None:
        """Write beside a reader until its log is worth a hold."""
        async with asyncio.timeout(20):
            while not engine_of(db).checkpointer.drain.is_on:
                await action()

    @pytest.fixture
    async def small(self, tmp_path: Path) -> AsyncIterator[tuple[Database, list[events.Event]]]:
        seen: list[events.Event] = []
        settings = Settings(checkpoint_pages=20, wal_limit_bytes=2**19, log_hold_s=0.2, cache_bytes=0)
        async with Database(tmp_path / "a.db", settings, observers=[seen.append]) as db:
            await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
            yield db, seen

    async def test_one_that_brings_nothing_ends_by_its_time_though_nobody_writes_any_more(
        self, small: tuple[Database, list[events.Event]]
    ) -> None:
        db, seen = small
        async with db.snapshot() as snap:
            await snap.fetch_all("SELECT * FROM t")
            await self.begin(db, lambda: db.execute("INSERT INTO t(body) VALUES (zeroblob(5000))"))
            read = asyncio.create_task(db.fetch_value(HEAVY))
            assert await read == 200_000
            await until(lambda: not engine_of(db).checkpointer.drain.is_on)
            await until(lambda: any(isinstance(event, events.ReadsHeld) for event in seen))
            assert not engine_of(db).checkpointer.is_due
        (held,) = [event for event in seen if isinstance(event, events.ReadsHeld)]
        assert not held.begun_anew
        assert held.held_s >= 0.2
        assert db.stats().log_holds == 1

    async def test_one_that_succeeds_ends_with_the_last_reader_though_nobody_writes_any_more(
        self, tmp_path: Path
    ) -> None:
        seen: list[events.Event] = []
        settings = Settings(checkpoint_pages=20, wal_limit_bytes=2**19, log_hold_s=60.0, cache_bytes=0)
        async with Database(tmp_path / "a.db", settings, observers=[seen.append]) as db:
            await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
            async with db.snapshot() as snap:
                await snap.fetch_all("SELECT * FROM t")
                await self.begin(db, lambda: db.execute("INSERT INTO t(body) VALUES (zeroblob(5000))"))
                read = asyncio.create_task(db.fetch_value(HEAVY))
                await until(lambda: len(holdback(db)) == 1)
            assert await read == 200_000
            await until(lambda: any(isinstance(event, events.ReadsHeld) for event in seen))
            (held,) = [event for event in seen if isinstance(event, events.ReadsHeld)]
            assert (held.begun_anew, held.reads) == (True, 1)
            await db.execute("INSERT INTO t(body) VALUES (NULL)")
            assert db.stats().wal_pages < 20
            assert db.stats().log_pin is None

    async def test_where_the_kernel_tells_nothing_it_is_drained_all_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(platform, "linux_facts", False)
        settings = Settings(checkpoint_pages=20, wal_limit_bytes=2**19, log_hold_s=60.0)
        async with Database(tmp_path / "a.db", settings) as db:
            await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
            async with db.snapshot() as snap:
                await snap.fetch_all("SELECT * FROM t")
                await self.begin(db, lambda: db.execute("INSERT INTO t(body) VALUES (zeroblob(5000))"))
                pin = db.stats().log_pin
                assert pin is not None
                assert pin.what == "snapshot"
            await until(lambda: not engine_of(db).checkpointer.drain.is_on)
            assert db.stats().log_pin is None

    async def test_closing_in_the_middle_of_one(self, tmp_path: Path) -> None:
        settings = Settings(checkpoint_pages=20, wal_limit_bytes=2**19, log_hold_s=60.0, close_grace_s=0.0)
        db = Database(tmp_path / "a.db", settings)
        await db.open()
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
        snap = await db.snapshot().__aenter__()
        await snap.fetch_all("SELECT * FROM t")
        await self.begin(db, lambda: db.execute("INSERT INTO t(body) VALUES (zeroblob(5000))"))
        async with asyncio.timeout(10):
            await db.close()
        with pytest.raises(errors.Error):
            await snap.fetch_all("SELECT * FROM t")


@pytest.mark.skipif(not platform.linux_facts, reason="there is no side file elsewhere")
class TestBetweenProcesses:
    """Whoever drains the log asks the others to hold their long reads back too. (A turnstile is like a process.)"""

    @pytest.fixture
    def other(self, db: Database) -> Iterator[Turnstile]:
        found = Turnstile.open(db._location.path)
        assert found is not None
        yield found
        found.close()

    async def test_a_long_read_waits_as_long_as_another_process_asks_for_it(
        self, db: Database, other: Turnstile
    ) -> None:
        other.hold_reads(60.0)
        waits = asyncio.create_task(db.fetch_value(HEAVY))
        await until(lambda: len(holdback(db)) == 1)
        timer = holdback(db)._timer
        await until(lambda: holdback(db)._timer is not timer)  # it has looked, and looks again
        assert not waits.done()
        other.hold_reads(0.0)
        assert await waits == 200_000
        assert not holdback(db).is_on

    async def test_who_is_asked_may_ask_too(self, db: Database, other: Turnstile) -> None:
        other.hold_reads(60.0)
        waits = asyncio.create_task(db.fetch_value(HEAVY))
        await until(lambda: len(holdback(db)) == 1)
        drained: list[int] = []
        holdback(db).hold(60.0, lambda: drained.append(1))
        assert drained == [1]
        other.hold_reads(0.0)
        assert not waits.done()
        assert holdback(db).release() == 1
        assert await waits == 200_000

    async def test_who_never_holds_reads_back_does_not_for_others(self, tmp_path: Path) -> None:
        async with Database(tmp_path / "b.db", Settings(log_hold_s=0)) as db:
            other = Turnstile.open(db._location.path)
            assert other is not None
            other.hold_reads(60.0)
            assert await db.fetch_value(HEAVY) == 200_000
            other.close()

    async def test_the_readers_of_another_process_are_drained_too(self, tmp_path: Path) -> None:
        settings = Settings(checkpoint_pages=20, wal_limit_bytes=2**19, log_hold_s=20.0, cache_bytes=0)
        async with Database(tmp_path / "a.db", settings) as db:
            await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
            other = Turnstile.open(db._location.path)
            assert other is not None
            drain = engine_of(db).checkpointer.drain
            with lock_held(tmp_path / "a.db", "BEGIN; SELECT * FROM t"):
                async with asyncio.timeout(20):
                    while not drain.is_on:
                        await db.execute("INSERT INTO t(body) VALUES (zeroblob(5000))", durability="normal")
                assert 0 < other.reads_held_s() <= 20.0
            async with asyncio.timeout(20):
                while drain.is_on:
                    await db.execute("INSERT INTO t(body) VALUES (zeroblob(5000))", durability="normal")
            assert other.reads_held_s() == 0
            other.close()

    async def test_where_no_other_process_could_hold_anything_back_nobody_waits_for_a_foreign_reader(
        self, tmp_path: Path
    ) -> None:
        settings = Settings(checkpoint_pages=20, wal_limit_bytes=2**19, cache_bytes=0)
        async with Database(tmp_path / "a.db", settings) as db:
            await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
            with lock_held(tmp_path / "a.db", "BEGIN; SELECT * FROM t"):
                while db.stats().wal_pages * 4_096 < 2**20:
                    await db.execute("INSERT INTO t(body) VALUES (zeroblob(5000))", durability="normal")
            assert db.stats().log_holds == 0

    @pytest.mark.parametrize("seconds", [HOLD_MOST_S + 1.0, float("inf"), float("nan"), -1.0])
    def test_nonsense_holds_nobody_back(self, tmp_path: Path, seconds: float) -> None:
        (tmp_path / "a.db").touch()
        first, second = Turnstile.open(str(tmp_path / "a.db")), Turnstile.open(str(tmp_path / "a.db"))
        assert first is not None
        assert second is not None
        first.hold_reads(seconds)
        assert second.reads_held_s() == 0
        first.close()
        second.close()

    def test_the_longer_of_two_counts_and_a_success_ends_both(self, tmp_path: Path) -> None:
        (tmp_path / "a.db").touch()
        first, second = Turnstile.open(str(tmp_path / "a.db")), Turnstile.open(str(tmp_path / "a.db"))
        assert first is not None
        assert second is not None
        assert first.is_shared
        first.hold_reads(50.0)
        second.hold_reads(1.0)
        assert 40 < first.reads_held_s() <= 50
        second.hold_reads(0.0)
        assert first.reads_held_s() == 0
        second.close()
        assert not first.is_shared
        first.close()
        assert not first.is_shared

    def test_what_the_dead_have_asked_for_is_void(self, tmp_path: Path) -> None:
        (tmp_path / "a.db").touch()
        (tmp_path / "a.db-gate").write_bytes(struct.pack("=8xd", monotonic() + 30.0).ljust(4096, b"\0"))
        found = Turnstile.open(str(tmp_path / "a.db"))
        assert found is not None
        assert found.reads_held_s() == 0
        found.close()


class TestFinish:
    """The writer copies the rest under the write lock, in its turn between processes."""

    async def test_it_leaves_nothing_over_and_is_counted_and_told(self, tmp_path: Path) -> None:
        seen: list[events.Event] = []
        async with Database(tmp_path / "a.db", Settings(checkpoint_pages=50), observers=[seen.append]) as db:
            await db.execute("CREATE TABLE t(body BLOB)")
            async with asyncio.timeout(20):
                while db.stats().checkpoint_finishes < 3:
                    await db.execute("INSERT INTO t VALUES (zeroblob(9000))", durability="normal")
            stats = db.stats()
        made = [event for event in seen if isinstance(event, events.Checkpointed)]
        finished = [event for event in made if event.by_writer]
        assert all(event.whole and not event.left for event in finished)
        assert len(finished) == stats.checkpoint_finishes
        assert len(made) == stats.checkpoint_finishes + stats.checkpoints
        assert sum(event.pages for event in made) == stats.checkpoint_pages > 100
        assert 0 < stats.checkpoint_longest_s <= stats.checkpoint_s
        assert max(event.seconds for event in made) == stats.checkpoint_longest_s

    async def test_while_another_process_has_the_turn_it_is_put_off(self, db: Database) -> None:
        engine = engine_of(db)
        other = Turnstile.open(db._location.path)
        if other is None:
            pytest.skip("there are no turns here")
        assert other.slip_in()
        gate = Gate(2, engine.lock_watch)
        gate.turnstile = engine.open_turnstile()
        plan = engine.checkpointer._plans["main"]
        plan.grew(engine.settings.checkpoint_pages)
        plan.copied(0, 0)
        connection = engine.open_checkpointer()
        engine.checkpointer.finish(connection, gate)
        assert engine.checkpointer.finishes == 0
        assert plan.now is Next.NOTHING
        other.leave()
        plan.grew(2 * engine.settings.checkpoint_pages)
        plan.copied(2 * engine.settings.checkpoint_pages, 2 * engine.settings.checkpoint_pages)
        engine.checkpointer.finish(connection, gate)
        assert engine.checkpointer.finishes == 1
        connection.close()
        gate.close()
        other.close()


class TestCheckpoint:
    """What one came to, in figures."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> str:
        path = str(tmp_path / "a.db")
        ask(path, "PRAGMA journal_mode = wal; CREATE TABLE t(a)")
        return path

    def filled(self, path: str) -> apsw.Connection:
        db = apsw.Connection(path)
        db.wal_autocheckpoint(0)
        for _ in range(5):
            db.execute("CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES (zeroblob(9000))")
        return db

    @pytest.mark.parametrize("mode", ["PASSIVE", "RESTART", "TRUNCATE"])
    def test_all_of_it(self, path: str, mode: Any) -> None:
        db = self.filled(path)
        done = Checkpoint.make(db, "main", mode)
        assert done.pages == done.copied == done.moved > 10
        assert done.whole
        again = Checkpoint.make(db, "main", mode)
        assert (again.moved, again.whole) == (0, True)

    @pytest.mark.parametrize("mode", ["PASSIVE", "RESTART", "TRUNCATE"])
    def test_beside_a_reader_of_an_old_commit(self, path: str, mode: Any) -> None:
        db = self.filled(path)
        reader = apsw.Connection(path)
        reader.execute("BEGIN; SELECT * FROM t").fetchall()
        db.execute("INSERT INTO t VALUES (1)")
        done = Checkpoint.make(db, "main", mode)
        assert not done.whole
        assert 0 < done.moved == done.copied < done.pages
        reader.close()

    def test_while_another_one_is_made(self, path: str) -> None:
        db = self.filled(path)
        code = f"""
import fcntl, sys
file = open({path + "-shm"!r}, "r+b")
fcntl.lockf(file, fcntl.LOCK_EX, 1, 121)  # as who checkpoints
print("held", flush=True)
sys.stdin.read()
"""
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(apsw.BusyError):
                Checkpoint.make(db, "main", "PASSIVE")
            other.communicate()
        assert Checkpoint.make(db, "main", "PASSIVE").whole

    def test_a_file_without_a_log_is_whole(self) -> None:
        assert Checkpoint.make(apsw.Connection(""), "main", "PASSIVE").whole


WRITER = """
import asyncio, sys, millpond
async def main():
    async with millpond.Database(sys.argv[1]) as db:
        async def work():
            for _ in range(160):
                await db.execute("INSERT INTO t(body) VALUES (zeroblob(3000))")
        await asyncio.gather(*(work() for _ in range(25)))
        print(db.stats().checkpoint_finishes)
asyncio.run(main())
"""


@pytest.mark.slow
def test_several_processes_that_write_all_the_time_leave_the_log_short(tmp_path: Path) -> None:
    """12,000 pages in all: what another one appends must not keep a copy from ever being whole."""
    path = str(tmp_path / "a.db")
    ask(path, "PRAGMA journal_mode = wal; CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    longest = 0
    while running := [process for process in processes if process.poll() is None]:
        with suppress(FileNotFoundError):  # not yet, or not any more
            longest = max(longest, os.stat(path + "-wal").st_size)
        with suppress(subprocess.TimeoutExpired):
            running[0].wait(0.01)
    finishes = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(finishes) >= 5
    assert longest <= 16 * 2**20
    assert ask(path, "SELECT count(*), (SELECT * FROM pragma_integrity_check) FROM t") == "[(12000, 'ok')]"
