"""Upkeep at quiet times: it is done, it gives way, it harms nobody, and it can be switched off."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

import millpond.sync
from millpond import Database, Settings, errors, events
from millpond.engine.sqlite import platform, upkeep_jobs
from millpond.engine.sqlite.engine import Engine
from millpond.engine.sqlite.upkeep import Upkeep
from millpond.scheduling import upkeep_plan
from millpond.scheduling.upkeep_plan import Outcome
from tests.waiting import until

from .outside import ask, lock_held

QUIET = 0.05
OFF = {"empty_log": False, "analyze": False, "incremental_vacuum": False, "shrink_memory": False}
ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
TWO = "SELECT count(*) FROM t WHERE a = 1 AND b = 2"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that are seconds for users."""
    monkeypatch.setattr(upkeep_plan, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(upkeep_plan, "GLANCE_S", 0.01)


def engine_of(db: Any) -> Engine:
    engine = db._engine
    assert isinstance(engine, Engine)
    return engine


def upkeep(db: Any) -> Upkeep:
    return engine_of(db).upkeep


def log_bytes(db: Any) -> int:
    return os.stat(db._location.path + "-wal").st_size


@asynccontextmanager
async def opened(path: Path, seen: list[events.Event] | None = None, **given: Any) -> AsyncIterator[Database]:
    """A database that does only what is named, as soon as it is quiet."""
    settings = Settings(quiet_s=QUIET, checkpoint_pages=50, **{**OFF, **given})
    async with Database(path, settings, observers=[seen.append] if seen is not None else ()) as db:
        yield db


async def burst(db: Database, rows: int = 300) -> None:
    """Leaves a log that is far longer than usual: in one transaction, so that it cannot be begun anew meanwhile."""
    await db.execute("CREATE TABLE IF NOT EXISTS t(a, b)")
    await db.execute_many("INSERT INTO t VALUES (?, zeroblob(9000))", ((number,) for number in range(rows)))


class TestLog:
    """It is copied whole and cut to nothing, when nobody is in the way."""

    async def test_a_burst_leaves_none_behind(self, tmp_path: Path) -> None:
        seen: list[events.Event] = []
        async with opened(tmp_path / "a.db", seen, empty_log=True) as db:
            await burst(db)
            assert log_bytes(db) > 2**21
            await until(lambda: db.stats().log_emptied == 1)
            assert not log_bytes(db)
            await until(lambda: upkeep(db).asleep)
            assert await db.fetch_value("SELECT count(*) FROM t") == 300
            await db.execute("INSERT INTO t VALUES (1, 2)")
        (emptied,) = [event for event in seen if isinstance(event, events.LogEmptied)]
        assert emptied.wal_bytes > 2**21
        assert (
            ask(tmp_path / "a.db", "SELECT count(*), (SELECT * FROM pragma_integrity_check) FROM t") == "[(301, 'ok')]"
        )

    async def test_where_there_is_no_index_to_look_at_it_is_done_as_well(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(platform, "linux_facts", False)
        async with opened(tmp_path / "a.db", empty_log=True) as db:
            assert engine_of(db).index is None
            async with db.snapshot() as snap:
                await snap.fetch_value("SELECT 1 FROM sqlite_schema")
                await burst(db)
                await until(lambda: db.stats().log_pin)
                assert log_bytes(db)
            monkeypatch.setattr(upkeep_plan, "BACK_OFF_S", 0.01)
            upkeep(db)._plan._not_before.clear()
            await db.execute("INSERT INTO t VALUES (1, 2)")
            await until(lambda: not log_bytes(db))

    async def test_that_of_an_attached_file_too(self, tmp_path: Path) -> None:
        beside = tmp_path / "beside.db"
        ask(beside, "PRAGMA journal_mode = wal")
        async with opened(tmp_path / "a.db", empty_log=True) as db:
            await db.execute("ATTACH ? AS beside", (str(beside),))
            await db.execute("CREATE TABLE beside.x(a)")
            await burst(db)
            await until(lambda: db.stats().log_emptied == 2)
            assert log_bytes(db) == os.stat(f"{beside}-wal").st_size == 0

    async def test_while_a_reader_of_ours_is_in_the_way_it_stays_and_the_reader_is_known(self, tmp_path: Path) -> None:
        async with opened(tmp_path / "a.db", empty_log=True) as db:
            await db.execute("CREATE TABLE t(a, b)")
            async with db.snapshot() as snap:
                await snap.fetch_all("SELECT * FROM t")
                await burst(db)
                await until(lambda: db.stats().log_pin)
                pin = db.stats().log_pin
                assert pin is not None
                assert pin.what == "snapshot"
                assert log_bytes(db) > 2**21
                turns = self.counted_turns(db)
                assert await snap.fetch_value("SELECT count(*) FROM t") == 0
                assert turns() <= 2, "it does not spin"

    def counted_turns(self, db: Database) -> Callable[[], int]:
        before = db.stats().checkpoints
        return lambda: db.stats().checkpoints - before

    async def test_so_it_is_with_a_reader_of_another_process_and_when_that_ends_it_is_emptied(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(upkeep_plan, "BACK_OFF_S", 0.05)
        async with opened(tmp_path / "a.db", empty_log=True) as db:
            await db.execute("CREATE TABLE t(a, b)")
            with lock_held(tmp_path / "a.db", "BEGIN; SELECT * FROM t") as other:
                await burst(db)
                await until(lambda: db.stats().log_pin)
                pin = db.stats().log_pin
                assert pin is not None
                if platform.linux_facts:
                    assert pin.pid == other.pid
                assert log_bytes(db)
                await db.execute("INSERT INTO t VALUES (1, 2)")
            await until(lambda: not log_bytes(db) and db.stats().log_pin is None)

    async def test_results_that_are_kept_outlive_it(self, tmp_path: Path) -> None:
        async with opened(tmp_path / "a.db", empty_log=True) as db:
            await burst(db)
            for _ in range(5):
                assert await db.fetch_value("SELECT count(*) FROM t") == 300
            kept, hits = db.stats().results_kept, db.stats().reads_kept
            assert kept
            await until(lambda: not log_bytes(db))
            for _ in range(3):
                assert await db.fetch_value("SELECT count(*) FROM t") == 300
            assert db.stats().results_kept == kept
            assert db.stats().reads_kept > hits
            ask(tmp_path / "a.db", "INSERT INTO t VALUES (1, 2); PRAGMA wal_checkpoint(TRUNCATE)")
            assert await db.fetch_value("SELECT count(*) FROM t") == 301

    async def test_a_disk_that_fails_harms_nobody_and_is_said_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(upkeep_plan, "BACK_OFF_S", 0.01)
        tried = 0

        def fail(*_: object) -> None:
            nonlocal tried
            tried += 1
            raise apsw.IOError("disk I/O error")

        async with opened(tmp_path / "a.db", empty_log=True) as db:
            with monkeypatch.context() as patch:
                patch.setattr(engine_of(db), "open_checkpointer", fail)
                await burst(db)
                await until(lambda: tried >= 3)
                await db.execute("INSERT INTO t VALUES (1, 2)")
            await until(lambda: not log_bytes(db))
        said = [record.message for record in caplog.records if record.name == "millpond.upkeep"]
        assert said == ["upkeep failed, and is tried again later: empty the log: disk I/O error"]

    async def test_a_file_that_was_replaced_is_not_touched(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with opened(tmp_path / "a.db", empty_log=True) as db:
            engine, looked = engine_of(db), threading.Event()
            opens: list[object] = []

            def verify() -> errors.Error | None:
                name = threading.current_thread().name
                if name == "millpond-upkeep":
                    looked.set()
                return errors.StorageError("replaced") if name != "millpond-writer" else None

            monkeypatch.setattr(engine, "verify_files", verify)
            monkeypatch.setattr(engine, "open_checkpointer", lambda: opens.append(1))
            await burst(db)
            await until(looked.is_set)
            assert not opens


class TestStatistics:
    """Tables get them where SQLite says so; and readers plan by them."""

    async def test_they_are_made_and_readers_learn_of_them(self, tmp_path: Path) -> None:
        seen: list[events.Event] = []
        async with opened(tmp_path / "a.db", seen, analyze=True) as db:
            await db.execute_script("CREATE TABLE t(a, b); CREATE INDEX by_a ON t(a); CREATE INDEX by_b ON t(b)")
            await db.execute_many("INSERT INTO t VALUES (?, 2)", ((number,) for number in range(3_000)))
            for _ in range(20):
                await db.fetch_value(TWO, cache=False)
            await until(lambda: db.stats().upkeep_done >= 2)
            await self.planned(db, "by_a")
            assert await db.fetch_value("SELECT stat FROM sqlite_stat1 WHERE idx = 'by_a'") == "3000 1"
            assert await db.fetch_value(TWO, cache=False) == 1
            # Now the other one tells rows apart. Whoever analyzes: it is noticed at the next look.
            ask(tmp_path / "a.db", "UPDATE t SET a = 1, b = rowid; PRAGMA analysis_limit = 400; ANALYZE main.t")
            await db.execute("INSERT INTO t VALUES (1, -1)")
            await self.planned(db, "by_b")
        done = [event for event in seen if isinstance(event, events.UpkeepDone)]
        assert [(event.what, event.detail) for event in done] == [("analyze", '"main"."t"')]

    async def planned(self, db: Database, index: str) -> None:
        """Wherever it runs, the statement uses this index, sooner or later."""
        inline = engine_of(db).inline
        assert inline is not None
        async with asyncio.timeout(20):
            while True:
                await db.fetch_value(TWO, cache=False)
                inline_plan = inline.connection.db.execute(f"EXPLAIN QUERY PLAN {TWO}").fetchall()
                async with db.snapshot() as snap:
                    lane_plan = await snap.fetch_all(f"EXPLAIN QUERY PLAN {TWO}")
                if index in str(inline_plan) and index in str(lane_plan):
                    return
                await asyncio.sleep(0.01)

    async def test_each_table_by_itself_and_all_of_them(self, tmp_path: Path) -> None:
        async with opened(tmp_path / "a.db", analyze=True) as db:
            for number in range(5):
                await db.execute(f"CREATE TABLE t{number}(a)")
                await db.execute(f"CREATE INDEX i{number} ON t{number}(a)")
                await db.execute(f"INSERT INTO t{number} VALUES (1)")
            await until(lambda: upkeep(db).asleep and db.stats().upkeep_done >= 6)
            assert await db.fetch_value("SELECT count(*) FROM sqlite_stat1") == 5

    async def test_what_takes_too_long_is_given_up_and_not_begun_again_and_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(upkeep_jobs, "LIMIT_S", 0.0)
        monkeypatch.setattr(upkeep_jobs, "STEPS", 500)  # more than it takes to ask which tables need it
        async with opened(tmp_path / "a.db") as db:
            await db.execute_script("CREATE TABLE t(a); CREATE INDEX by_a ON t(a)")
            await db.execute_many("INSERT INTO t VALUES (?)", ((number,) for number in range(1_000)))
            kept = upkeep(db)
            await asyncio.to_thread(kept._analyze)
            assert (kept.stopped, kept.done) == (1, 0)
            monkeypatch.setattr(upkeep_jobs, "LIMIT_S", 60.0)
            await asyncio.to_thread(kept._analyze)
            assert (kept.stopped, kept.done) == (1, 1)
            assert await db.fetch_value("SELECT count(*) FROM sqlite_schema WHERE name LIKE 'sqlite_stat%'") == 0

    async def test_what_gave_way_is_begun_again(self, tmp_path: Path) -> None:
        db = apsw.Connection(str(tmp_path / "a.db"))
        db.execute("CREATE TABLE t(a); CREATE INDEX by_a ON t(a)")
        db.executemany("INSERT INTO t VALUES (?)", ((number,) for number in range(1_000)))
        passed_over: set[str] = set()
        for wanted in (True, False):
            db.set_progress_handler(lambda: True, 500)
            with pytest.raises(apsw.InterruptError):
                upkeep_jobs.analyze(On(db), passed_over, lambda wanted=wanted: wanted, lambda: None)  # type: ignore[misc,arg-type]  # bound now; as much of a connection as it needs
            db.set_progress_handler(None)
            assert bool(passed_over) is not wanted
        assert upkeep_jobs.analyze(On(db), passed_over, lambda: False, lambda: None)[0] is None  # type: ignore[arg-type]  # as above
        assert db.pragma("analysis_limit") == 0


class On:
    """As much of a connection as a job needs."""

    def __init__(self, db: apsw.Connection) -> None:
        self.db = db
        self.touched: set[str] = set()


class TestVacuum:
    """Pages are given back step by step, where the file was made for it."""

    def made(self, path: Path, mode: int) -> None:
        ask(path, f"PRAGMA auto_vacuum = {mode}; PRAGMA journal_mode = wal; CREATE TABLE t(a, b)")

    async def test_all_free_pages_are_given_back(self, tmp_path: Path) -> None:
        seen: list[events.Event] = []
        self.made(tmp_path / "a.db", 2)
        async with opened(tmp_path / "a.db", seen, incremental_vacuum=True) as db:
            await burst(db)
            await db.execute("DELETE FROM t WHERE a > 10")
            await until(lambda: self.freed(seen) >= 500)
            await until(lambda: upkeep(db).asleep)
            assert await db.fetch_value("PRAGMA freelist_count") == 0
            assert db.stats().writes == 3, "those of its callers"
            assert db.stats().upkeep_s > 0
        assert (
            ask(tmp_path / "a.db", "SELECT count(*), (SELECT * FROM pragma_integrity_check) FROM t") == "[(11, 'ok')]"
        )

    def freed(self, seen: list[events.Event]) -> int:
        done = [event for event in seen if isinstance(event, events.UpkeepDone)]
        return sum(int(event.detail.removesuffix(" pages")) for event in done)

    @pytest.mark.parametrize("mode", [0, 1])
    async def test_other_files_are_left_alone(self, tmp_path: Path, mode: int) -> None:
        self.made(tmp_path / "a.db", mode)
        async with opened(tmp_path / "a.db", incremental_vacuum=True) as db:
            await burst(db)
            await db.execute("DELETE FROM t")
            await until(lambda: upkeep(db).asleep)
            assert (await db.fetch_value("PRAGMA freelist_count") > 0) is (mode == 0)


async def test_memory_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(tmp_path / "a.db", shrink_memory=True, idle_close_s=0.1) as db:
        await burst(db)
        writer, inline = engine_of(db).writer_connection, engine_of(db).inline
        assert inline is not None
        assert await db.fetch_value("SELECT sum(length(b)) FROM t") == 2_700_000
        await until(lambda: upkeep(db).done)
        used = apsw.SQLITE_DBSTATUS_CACHE_USED
        assert writer.db.status(used)[0] < 50_000
        assert inline.connection.db.status(used)[0] < 50_000


class TestGivingWay:
    """Whoever wants to write does not wait for upkeep; and upkeep waits for nobody."""

    @contextmanager
    def running(self, db: Any, work: Callable[[apsw.Connection], object]) -> Iterator[list[Any]]:
        """A job of upkeep's that has begun; what became of it, in the end."""
        begun = threading.Event()
        found: list[Any] = []

        def job(connection: Any) -> object:
            begun.set()
            return work(connection.db)

        thread = threading.Thread(target=lambda: found.append(upkeep(db)._submit("test", job)))
        thread.start()
        assert begun.wait(10)
        yield found
        thread.join(10)
        assert not thread.is_alive()

    async def test_a_write_stops_a_job_and_leaves_nothing_of_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(upkeep_jobs, "LIMIT_S", 60.0)
        async with opened(tmp_path / "a.db") as db:
            await db.execute("CREATE TABLE t(a)")

            def work(on: apsw.Connection) -> object:
                on.execute("INSERT INTO t VALUES ('upkeep')")
                return on.execute(ENDLESS).fetchall()

            async with asyncio.timeout(20):
                with self.running(db, work) as found:
                    await db.execute("INSERT INTO t VALUES ('caller')")
                    await until(lambda: found)
            assert found == [(None, Outcome.STOPPED)]
            assert await db.fetch_all("SELECT a FROM t") == [("caller",)]
            stats = db.stats()
            assert (stats.writes, stats.upkeep_stopped, stats.upkeep_done, stats.errors) == (2, 1, 0, 0)

    async def test_closing_stops_it_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(upkeep_jobs, "LIMIT_S", 60.0)
        db = Database(tmp_path / "a.db", Settings(**OFF))
        await db.open()
        with self.running(db, lambda on: on.execute(ENDLESS).fetchall()) as found:
            async with asyncio.timeout(10):
                await db.close()
        assert found == [(None, Outcome.STOPPED)]

    async def test_while_somebody_waits_none_is_begun(self, tmp_path: Path) -> None:
        async with opened(tmp_path / "a.db") as db:
            await db.execute("CREATE TABLE t(a)")
            with lock_held(tmp_path / "a.db"):
                write = asyncio.create_task(db.execute("INSERT INTO t VALUES (2)"))
                await until(lambda: db.stats().writes_waiting == 1)
                assert await asyncio.to_thread(upkeep(db)._submit, "test", lambda on: 1) == (None, Outcome.STOPPED)
            await write

    async def test_beside_another_process_that_writes_it_is_taken_back(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("millpond.engine.sqlite.upkeep.BEGINS_S", 0.05)
        async with opened(tmp_path / "a.db") as db:
            await db.execute("CREATE TABLE t(a)")
            with lock_held(tmp_path / "a.db"):
                found = await asyncio.to_thread(upkeep(db)._submit, "test", lambda on: 1)
                assert found == (None, Outcome.IN_VAIN)
                assert db.stats().writes_waiting == 0
            await db.execute("INSERT INTO t VALUES (1)")
            assert db.stats().errors == db.stats().deadlines_missed == 0

    async def test_a_job_that_fails_is_told_to_nobody_but_the_log(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with opened(tmp_path / "a.db") as db:
            found = await asyncio.to_thread(
                upkeep(db)._submit, "test", lambda on: on.db.execute("SELECT * FROM nothing")
            )
            assert found == (None, Outcome.IN_VAIN)
            assert await db.fetch_value("SELECT 1") == 1
        assert "upkeep failed, and is tried again later: test: " in caplog.text

    async def test_a_fault_of_upkeeps_own_harms_nobody(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*_: object) -> None:
            raise ValueError("planted")

        async with opened(tmp_path / "a.db", empty_log=True) as db:
            with monkeypatch.context() as patch:
                patch.setattr(upkeep(db), "_empty_log", fail)
                await burst(db)
                await until(lambda: "planted" in caplog.text)
                await until(lambda: upkeep(db).asleep)
            await db.execute("INSERT INTO t VALUES (1, 2)")
            await until(lambda: not log_bytes(db))


class TestOff:
    """Where there is nothing to do, nothing is done."""

    async def test_all_switched_off_the_thread_sleeps_whatever_is_written(self, tmp_path: Path) -> None:
        async with opened(tmp_path / "a.db") as db:
            await until(lambda: upkeep(db).asleep)
            await burst(db)
            await until(lambda: upkeep(db).asleep)
            stats = db.stats()
            assert (stats.upkeep_done, stats.log_emptied) == (0, 0)
            assert log_bytes(db) > 2**21

    async def test_in_memory_there_is_none(self) -> None:
        async with Database(":memory:", Settings(quiet_s=QUIET)) as db:
            await db.execute("CREATE TABLE t(a)")
            assert upkeep(db)._thread is None
            assert (await db.health()).status == "ok"

    async def test_without_another_thread_all_else_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        real = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            if thread.name == "millpond-upkeep":
                raise RuntimeError("can't start new thread")
            real(thread)

        monkeypatch.setattr(threading.Thread, "start", start)
        async with opened(tmp_path / "a.db", empty_log=True) as db:
            await db.execute("CREATE TABLE t(a)")
        assert "no upkeep at quiet times: can't start new thread" in caplog.text

    async def test_the_thread_ends_with_the_database(self, tmp_path: Path) -> None:
        async with opened(tmp_path / "a.db", empty_log=True) as db:
            thread = upkeep(db)._thread
            assert thread is not None
        assert not thread.is_alive()


def test_for_threads_it_is_done_as_well(tmp_path: Path) -> None:
    ask(tmp_path / "a.db", "PRAGMA auto_vacuum = 2; PRAGMA journal_mode = wal; CREATE TABLE t(a, b)")
    settings = Settings(quiet_s=QUIET, checkpoint_pages=50, idle_close_s=0.1)
    with millpond.sync.Database(tmp_path / "a.db", settings) as db:
        db.execute("CREATE INDEX by_a ON t(a)")
        db.execute_many("INSERT INTO t VALUES (?, zeroblob(9000))", ((number,) for number in range(300)))
        kept, done = upkeep(db), threading.Event()
        real = kept._turn

        def turn() -> float | None:
            wait = real()
            if wait is None and kept.emptied:
                done.set()
            return wait

        kept._turn = turn  # type: ignore[method-assign]  # to see when all is done
        assert done.wait(20)
        assert log_bytes(db) < 2**18
        assert db.fetch_value("SELECT count(*) FROM sqlite_stat1") == 1
        assert db.stats().upkeep_done >= 2
