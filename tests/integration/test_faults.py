"""Faults and life: cancels, timeouts, locks, files, closing, processes. Each gets its error; nobody else is harmed."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import millpond
from millpond import Database, Settings, events
from tests.waiting import until

from .outside import ask, lock_held, run

ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
LONG_WRITE = (
    "INSERT INTO t(name) WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT 'n' || x FROM c "
    "WHERE x < 0"
)


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db") as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        yield db


def writer_phase(db: Database) -> str:
    assert db._engine is not None
    return db._engine.writer.phase.value


async def insert(db: Database, name: str, **how: object) -> None:
    await db.execute("INSERT INTO t(name) VALUES (?)", (name,), **how)


async def names(db: Database) -> list[str]:
    return [row[0] for row in await db.fetch_all("SELECT name FROM t ORDER BY id")]


async def test_a_cancelled_write_that_was_queued_is_not_applied(db: Database) -> None:
    async with db.transaction():
        task = asyncio.create_task(asyncio.wait_for(insert_from_outside(db, "queued"), 10))
        await until(lambda: db.stats().writes_waiting == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert db.stats().writes_waiting == 0
    await insert(db, "next")
    assert await names(db) == ["next"]


async def insert_from_outside(db: Database, name: str) -> None:
    """A write of a caller that is not inside the transaction that holds the writer."""
    from millpond.front import holding

    holding.set(())
    await insert(db, name)


async def test_a_cancelled_write_that_runs_alone_is_stopped_and_undone(db: Database) -> None:
    task = asyncio.create_task(db.execute(LONG_WRITE))
    await until(lambda: writer_phase(db) == "running jobs")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(insert(db, "next"), 5)
    assert await names(db) == ["next"]


async def test_a_cancelled_transaction_is_undone_wherever_it_is(db: Database) -> None:
    async def pair(i: int) -> None:
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t(name) VALUES (?)", (f"{i}a",))
            await asyncio.sleep(0)
            await tx.execute("INSERT INTO t(name) VALUES (?)", (f"{i}b",))

    for turns in range(40):
        task = asyncio.create_task(pair(turns))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await insert(db, "end")
    found = set(await names(db)) - {"end"}
    assert {name[:-1] for name in found if name.endswith("a")} == {name[:-1] for name in found if name.endswith("b")}


async def test_a_read_that_runs_too_long_is_stopped_and_its_lane_serves_on(db: Database) -> None:
    for _ in range(25):
        with pytest.raises(millpond.DeadlineExceeded):
            await db.fetch_value(ENDLESS, timeout=0.02)
    assert await asyncio.wait_for(db.fetch_value("SELECT 1"), 5) == 1
    assert db.stats().deadlines_missed == 25


async def test_a_write_that_runs_too_long_alone_is_stopped_and_says_not_applied(db: Database) -> None:
    with pytest.raises(millpond.DeadlineExceeded) as caught:
        await db.execute(LONG_WRITE, timeout=0.1)
    assert caught.value.applied == "no"
    await insert(db, "next")
    assert await names(db) == ["next"]


async def test_a_write_that_waits_too_long_for_a_foreign_lock_names_the_holder(db: Database, tmp_path: Path) -> None:
    with lock_held(tmp_path / "a.db") as holder:
        with pytest.raises(millpond.LockTimeout) as caught:
            await insert(db, "late", timeout=0.2)
        error = caught.value
        assert error.holder is not None
        assert error.holder.pid == holder.pid
        assert not error.holder.ours
        assert error.applied == "no"
        assert error.retryable
        assert str(holder.pid) in str(error)
        assert await names(db) == []
    await insert(db, "after")
    assert await names(db) == ["after"]


async def test_a_foreign_writer_that_holds_the_lock_3_s_delays_writes_and_fails_none(
    db: Database, tmp_path: Path
) -> None:
    with lock_held(tmp_path / "a.db"):
        tasks = [asyncio.create_task(insert(db, f"n{i}")) for i in range(50)]
        done, _ = await asyncio.wait(tasks, timeout=3)
        assert not done
        assert await names(db) == []
    await asyncio.gather(*tasks)
    assert len(await names(db)) == 50


async def test_later_deadlines_go_on_waiting_for_a_foreign_lock(db: Database, tmp_path: Path) -> None:
    with lock_held(tmp_path / "a.db"):
        late = asyncio.create_task(insert(db, "late", timeout=0.1))
        patient = asyncio.create_task(insert(db, "patient", timeout=20))
        with pytest.raises(millpond.LockTimeout):
            await late
        assert not patient.done()
    await patient
    assert await names(db) == ["patient"]


async def test_a_held_transaction_is_named_by_its_line(db: Database) -> None:
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO t(name) VALUES ('held')")
        with pytest.raises(millpond.LockTimeout) as caught:
            await asyncio.create_task(insert_late(db))
    holder = caught.value.holder
    assert holder is not None
    assert holder.ours
    assert holder.place is not None
    assert "test_faults.py" in holder.place
    assert await names(db) == ["held"]


async def insert_late(db: Database) -> None:
    from millpond.front import holding

    holding.set(())
    await insert(db, "late", timeout=0.1)


async def test_a_transaction_never_ended_is_taken_back_at_its_limit(tmp_path: Path) -> None:
    seen: list[events.Event] = []
    settings = Settings(max_lease=0.2, lease_warning_s=0.05)
    async with Database(tmp_path / "a.db", settings, observers=[seen.append]) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        with pytest.raises(millpond.LeaseExpired) as caught:
            async with db.transaction() as tx:
                await tx.execute("INSERT INTO t(name) VALUES ('held')")
                other = asyncio.create_task(insert_from_outside(db, "other"))
                await other
                await tx.execute("INSERT INTO t(name) VALUES ('more')")
        assert "max_lease" in str(caught.value)
        assert await names(db) == ["other"]
        assert db.stats().leases_expired == 1
    assert any(isinstance(event, events.LeaseHeld) for event in seen)
    assert any(isinstance(event, events.LeaseExpired) for event in seen)


async def test_a_transaction_is_taken_back_though_the_loop_hangs(tmp_path: Path) -> None:
    """The writer's thread watches: a blocked event loop must not lock out other processes."""
    async with Database(tmp_path / "a.db", Settings(max_lease=0.2)) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        with pytest.raises(millpond.LeaseExpired):
            async with db.transaction() as tx:
                await tx.execute("INSERT INTO t(name) VALUES ('held')")
                code = (
                    f"import apsw; c = apsw.Connection({str(tmp_path / 'a.db')!r}); c.set_busy_timeout(5000); "
                    "c.execute(\"INSERT INTO t(name) VALUES ('foreign')\")"
                )
                subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
                await tx.execute("INSERT INTO t(name) VALUES ('more')")
        assert await names(db) == ["foreign"]


async def test_a_forgotten_transaction_is_given_back_and_named(db: Database) -> None:
    tx = await db.transaction().__aenter__()
    await tx.execute("INSERT INTO t(name) VALUES ('forgotten')")
    with pytest.warns(ResourceWarning, match=r"test_faults\.py"):
        del tx
        gc.collect()
    from millpond.front import holding

    holding.set(())
    await asyncio.wait_for(insert(db, "next"), 5)
    assert await names(db) == ["next"]
    assert db.stats().leaks == 1


async def test_a_forgotten_snapshot_is_given_back_and_named(db: Database) -> None:
    snap = await db.snapshot().__aenter__()
    assert await snap.fetch_value("SELECT count(*) FROM t") == 0
    with pytest.warns(ResourceWarning, match=r"snapshot opened at test_faults\.py"):
        del snap
        gc.collect()
    await until(lambda: db.stats().busy_lanes == 0)
    assert db.stats().leaks == 1


async def test_forgotten_streams_give_their_readers_back(db: Database) -> None:
    await db.execute_many("INSERT INTO t(name) VALUES (?)", [(f"n{i}",) for i in range(5000)])
    for _ in range(60):
        async for _row in db.iterate("SELECT * FROM t"):
            break
    await until(lambda: db.stats().busy_lanes == 0)


async def test_an_observer_that_raises_harms_nothing(tmp_path: Path) -> None:
    def broken(event: events.Event) -> None:
        raise RuntimeError("broken observer")

    async with Database(tmp_path / "a.db", observers=[broken]) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        await asyncio.gather(*(insert(db, f"n{i}") for i in range(20)))
        await until(lambda: db.stats().observer_errors > 0)
        assert len(await names(db)) == 20


async def test_a_full_queue_refuses_at_once(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", Settings(max_queue=5)) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        async with db.transaction():
            tasks = [asyncio.create_task(insert_from_outside(db, f"n{i}")) for i in range(8)]
            await until(lambda: sum(task.done() for task in tasks) == 3)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        refused = [e for e in found if isinstance(e, millpond.Overloaded)]
        assert len(refused) == 3
        assert refused[0].applied == "no"
        assert refused[0].retry_after is not None
        assert len(await names(db)) == 5


async def test_a_file_at_its_page_limit_fails_writes_and_serves_reads(db: Database) -> None:
    await insert(db, "first")
    pages = await db.fetch_value("PRAGMA page_count")
    await db.execute(f"PRAGMA max_page_count = {pages + 2}")

    async def big(i: int) -> None:
        await db.execute("INSERT INTO t(name) VALUES (? || hex(zeroblob(20000)))", (str(i),))

    found = await asyncio.gather(*(big(i) for i in range(5)), insert(db, "small"), return_exceptions=True)
    full = [e for e in found if isinstance(e, BaseException)]
    assert full
    assert all(isinstance(e, millpond.DiskFull) and e.applied == "no" for e in full), full
    assert "max_page_count" in str(full[0])
    assert "first" in await names(db)
    await db.execute("PRAGMA max_page_count = 100000")
    await big(99)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
async def test_a_full_volume_fails_writes_and_they_resume_by_themselves(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(volume)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this sandbox does not allow mounting")
    try:
        async with Database(volume / "a.db") as db:
            await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
            await insert(db, "first")
            (volume / "ballast").write_bytes(b"x" * (600 * 1024))
            found = await asyncio.gather(
                *(db.execute("INSERT INTO t(name) VALUES (? || hex(zeroblob(30000)))", (str(i),)) for i in range(10)),
                return_exceptions=True,
            )
            full = [e for e in found if isinstance(e, BaseException)]
            assert full
            assert all(isinstance(e, millpond.DiskFull) and e.applied == "no" for e in full), full
            written = len(await names(db))
            assert written == 1 + len(found) - len(full)
            (volume / "ballast").unlink()
            await insert(db, "after")
            assert "after" in await names(db)
    finally:
        subprocess.run(["umount", "-l", str(volume)], check=True)


@pytest.mark.parametrize("durability", ["full", "normal"])
async def test_a_barrier_is_free_when_all_is_synced_and_costs_one_commit_else(db: Database, durability: str) -> None:
    await insert(db, "a", durability=durability)
    before = db.stats().batches
    await db.barrier()
    await db.barrier()
    assert db.stats().batches - before == (1 if durability == "normal" else 0)


async def test_what_is_no_database_is_told_at_opening(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(millpond.StorageError, match="folder"):
        await Database(tmp_path / "folder.db").open()
    with pytest.raises(millpond.StorageError, match="does not exist"):
        await Database(tmp_path / "nowhere" / "a.db").open()
    (tmp_path / "text.db").write_text("this is no database at all " * 100)
    with pytest.raises(millpond.DatabaseCorrupt):
        await Database(tmp_path / "text.db").open()
    (tmp_path / "secret.db").write_bytes(os.urandom(8192))
    with pytest.raises(millpond.DatabaseCorrupt):
        await Database(tmp_path / "secret.db").open()
    with pytest.raises(millpond.ProgrammingError):
        Database("")
    with pytest.raises(millpond.NotSupportedError, match="postgresql"):
        Database("postgresql://localhost/bot")


async def test_a_newer_file_format_is_told_at_opening(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    ask(path, "CREATE TABLE t(a)")
    content = bytearray(path.read_bytes())
    content[18] = content[19] = 9
    path.write_bytes(content)
    with pytest.raises(millpond.NotSupportedError, match="newer"):
        await Database(path).open()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving up root needs root")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_read_only_file_or_folder_is_told_with_the_cure(tmp_path: Path, what: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    path = home / "a.db"
    ask(path, "CREATE TABLE t(a)")
    path.chmod(0o444)
    home.chmod(0o755 if what == "folder" else 0o777)
    for parent in (tmp_path, *tmp_path.parents):
        if parent != Path("/") and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    code = f"""
import asyncio, os, millpond
async def main():
    try:
        await millpond.Database({str(path)!r}).open()
    except millpond.ReadOnlyDatabase as e:
        print("told:", e, e.hint)
os.setuid(65534)
asyncio.run(main())
"""
    done = run(code)
    assert "told:" in done.stdout, done
    assert "chown the folder" in done.stdout


async def test_a_replaced_file_stops_writes(db: Database, tmp_path: Path) -> None:
    await insert(db, "old")
    ask(tmp_path / "b.db", "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    os.replace(tmp_path / "b.db", tmp_path / "a.db")
    with pytest.raises(millpond.StorageError, match="replaced") as caught:
        await insert(db, "new")
    assert caught.value.applied == "no"
    assert (await db.health()).status == "failing"


async def test_a_deleted_log_stops_writes(db: Database, tmp_path: Path) -> None:
    await insert(db, "old")
    (tmp_path / "a.db-wal").unlink()
    with pytest.raises(millpond.DatabaseCorrupt, match="-wal"):
        await insert(db, "new")


async def test_use_after_close_is_told_with_the_line_that_closed(tmp_path: Path) -> None:
    db = Database(tmp_path / "a.db")
    with pytest.raises(millpond.DatabaseClosed, match="not open"):
        await db.execute("SELECT 1")
    async with db:
        pass
    for call in (db.execute("SELECT 1"), db.fetch_all("SELECT 1"), db.write(lambda tx: None), db.barrier()):
        with pytest.raises(millpond.DatabaseClosed, match="closed"):
            await call
    with pytest.raises(millpond.DatabaseClosed):
        db.transaction()
    await db.close()
    async with db:
        assert await db.fetch_value("SELECT 1") == 1


async def test_closing_under_load_finishes_or_fails_each_call(tmp_path: Path) -> None:
    db = Database(tmp_path / "a.db")
    await db.open()
    await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    writes = [asyncio.create_task(insert(db, f"n{i}")) for i in range(200)]
    reads = [asyncio.create_task(db.fetch_value("SELECT count(*) FROM t")) for _ in range(100)]
    await asyncio.sleep(0)
    await db.close()
    found = await asyncio.wait_for(asyncio.gather(*writes, *reads, return_exceptions=True), 10)
    bad = [e for e in found if isinstance(e, BaseException) and not isinstance(e, millpond.DatabaseClosed)]
    assert not bad, bad
    acknowledged = sum(e is None for e in found[:200])
    assert ask(tmp_path / "a.db", "SELECT count(*) FROM t") == f"[({acknowledged},)]"


async def test_closing_does_not_wait_for_ever(tmp_path: Path) -> None:
    db = Database(tmp_path / "a.db", Settings(close_grace_s=0.2))
    await db.open()
    await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    read = asyncio.create_task(db.fetch_value(ENDLESS))
    await until(lambda: db.stats().busy_lanes > 0)
    with lock_held(tmp_path / "a.db"):
        write = asyncio.create_task(insert(db, "never"))
        await until(lambda: db.stats().writes_waiting > 0)
        started = time.monotonic()
        await db.close()
        assert time.monotonic() - started < 4
    found = await asyncio.gather(read, write, return_exceptions=True)
    assert all(isinstance(e, millpond.Error) for e in found), found


async def test_two_event_loops_are_told_apart(db: Database) -> None:
    def other() -> BaseException | None:
        async def use() -> None:
            await db.fetch_all("SELECT 1")

        try:
            asyncio.run(use())
        except millpond.WrongLoop as exc:
            return exc
        return None

    error = await asyncio.to_thread(other)
    assert error is not None
    assert "test_faults.py" in str(error)


def test_a_child_after_fork_is_told_and_the_parent_goes_on(tmp_path: Path) -> None:
    code = f"""
import asyncio, os, sys, millpond
from millpond.sync import Database
db = Database({str(tmp_path / "a.db")!r}); db.open()
db.execute("CREATE TABLE t(a)"); db.execute("INSERT INTO t VALUES (1)")
pid = os.fork()
if pid == 0:
    try:
        db.execute("INSERT INTO t VALUES (2)")
    except millpond.Forked as e:
        os._exit(7 if "fork" in str(e) else 8)
    os._exit(9)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
db.execute("INSERT INTO t VALUES (3)")
print(status, [r[0] for r in db.fetch_all("SELECT a FROM t")])
db.close()
"""
    done = run(code)
    assert done.stdout.strip() == "7 [1, 3]", done


def test_a_second_sqlite_library_on_the_file_is_told_with_its_line(tmp_path: Path) -> None:
    code = f"""
import sqlite3, warnings
from millpond import EngineConflict
from millpond.sync import Database
with Database({str(tmp_path / "a.db")!r}) as db:
    db.execute("CREATE TABLE t(a)")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        sqlite3.connect({str(tmp_path / "a.db")!r})
        sqlite3.connect(":memory:").close()
    print([(w.category.__name__, "__main__" in str(w.message)) for w in seen if issubclass(w.category, EngineConflict)])
    import os; os._exit(0)
"""
    done = run(code)
    assert done.stdout.strip() == "[('EngineConflict', True)]", done


def test_kill_9_under_load_loses_nothing_acknowledged(tmp_path: Path) -> None:
    kill_and_count(tmp_path / "a.db", cycles=5)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_kill_9_again_and_again_loses_nothing_acknowledged(tmp_path: Path) -> None:
    kill_and_count(tmp_path / "a.db", cycles=60)


def kill_and_count(path: Path, cycles: int) -> None:
    """Each acknowledged write is printed to a pipe, which outlives the process."""
    code = f"""
import asyncio, os, sys, millpond
async def main():
    async with millpond.Database({str(path)!r}) as db:
        await db.execute("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, twin TEXT)")
        async def worker(w):
            i = 0
            while True:
                name = f"{{sys.argv[1]}}-{{w}}-{{i}}"
                def pair(tx, name=name):
                    tx.execute("INSERT INTO t(name, twin) VALUES (?, ?)", (name + "a", name))
                    tx.execute("INSERT INTO t(name, twin) VALUES (?, ?)", (name + "b", name))
                if w % 3:
                    await db.write(pair)
                else:
                    async with db.transaction() as tx:
                        await tx.execute("INSERT INTO t(name, twin) VALUES (?, ?)", (name + "a", name))
                        await tx.execute("INSERT INTO t(name, twin) VALUES (?, ?)", (name + "b", name))
                os.write(1, (name + "\\n").encode())
                i += 1
        await asyncio.gather(*(worker(w) for w in range(9)))
asyncio.run(main())
"""
    acknowledged: set[str] = set()
    for cycle in range(cycles):
        process = subprocess.Popen([sys.executable, "-c", code, str(cycle)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        seen = []
        for _ in range(20 + cycle * 7 % 50):
            seen.append(process.stdout.readline().decode().strip())
        process.send_signal(signal.SIGKILL)
        seen += process.stdout.read().decode().split("\n")[:-1]
        process.wait()
        process.stdout.close()
        acknowledged |= {name.strip() for name in seen if name.strip()}
        found = eval(ask(path, "SELECT twin, count(*) FROM t GROUP BY twin"))
        assert all(count == 2 for _, count in found), "half of a transaction is visible"
        lost = acknowledged - {twin for twin, _ in found}
        assert not lost, f"{len(lost)} acknowledged writes are lost"
        assert ask(path, "PRAGMA integrity_check") == "[('ok',)]"


def test_an_interpreter_that_ends_under_load_does_not_hang(tmp_path: Path) -> None:
    code = f"""
import asyncio, millpond
async def main():
    db = millpond.Database({str(tmp_path / "a.db")!r}); await db.open()
    await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT)")
    for i in range(50): asyncio.create_task(db.execute("INSERT INTO t(name) VALUES ('x')"))
    asyncio.create_task(db.fetch_value({ENDLESS!r}))
    await asyncio.sleep(0.05)
asyncio.run(main())
"""
    started = time.monotonic()
    done = run(code)
    assert done.returncode == 0, done
    assert time.monotonic() - started < 5
    assert "ResourceWarning" in done.stderr


def test_keyboard_interrupt_ends_a_waiting_thread_and_gives_the_writer_back(tmp_path: Path) -> None:
    code = f"""
import os, signal, threading, millpond
from millpond.sync import Database
with Database({str(tmp_path / "a.db")!r}) as db:
    db.execute("CREATE TABLE t(a)")
    threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        db.fetch_value({ENDLESS!r})
    except KeyboardInterrupt:
        print("interrupted")
    db.execute("INSERT INTO t VALUES (1)")
    print(db.fetch_value("SELECT a FROM t"))
"""
    done = run(code)
    assert done.stdout.split() == ["interrupted", "1"], done


async def test_uvloop_works_too(tmp_path: Path) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> int:
        async with Database(tmp_path / "u.db") as db:
            await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
            await asyncio.gather(*(insert(db, f"n{i}") for i in range(100)))
            async with db.transaction() as tx:
                await tx.execute("INSERT INTO t(name) VALUES ('tx')")
            for _ in range(2000):
                await db.fetch_one("SELECT * FROM t WHERE id = 1")
            with pytest.raises(millpond.DeadlineExceeded):
                await db.fetch_value(ENDLESS, timeout=0.05)
            return int(await db.fetch_value("SELECT count(*) FROM t"))

    def other() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            return int(uvloop.run(main()))

    assert await asyncio.to_thread(other) == 101


async def test_without_what_only_linux_gives_the_service_stays(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from millpond.engine.sqlite import platform

    monkeypatch.setattr(platform, "linux_facts", False)
    with lock_held(tmp_path / "a.db"):
        with pytest.raises(millpond.LockTimeout) as caught:
            await insert(db, "late", timeout=0.1)
        assert caught.value.holder is not None
        assert caught.value.holder.pid is None
    await asyncio.gather(*(insert(db, f"n{i}") for i in range(20)), *(db.fetch_value(HEAVY) for _ in range(6)))
    assert len(await names(db)) == 20


HEAVY = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 300000) SELECT count(*) FROM c"


async def test_backup_ends_though_others_write_and_holds_one_state(db: Database, tmp_path: Path) -> None:
    await db.execute_many("INSERT INTO t(name) VALUES (?)", [(f"{i}" + "x" * 500,) for i in range(20000)])
    stop = False

    async def write() -> int:
        i = 0
        while not stop:
            await insert(db, f"w{i}")
            i += 1
        return i

    writer = asyncio.create_task(write())
    told: list[tuple[int, int]] = []
    await asyncio.wait_for(db.backup(tmp_path / "copy.db", progress=lambda done, of: told.append((done, of))), 20)
    stop = True
    written = await writer
    count = int(ask(tmp_path / "copy.db", "SELECT count(*) FROM t")[2:-3])
    assert 20000 <= count <= 20000 + written
    assert ask(tmp_path / "copy.db", "PRAGMA integrity_check") == "[('ok',)]"
    assert told
    assert told[-1][0] == told[-1][1]
    with pytest.raises(millpond.ProgrammingError):
        await db.backup(tmp_path / "a.db")


async def test_in_memory_the_same_methods_work(tmp_path: Path) -> None:
    async with Database(":memory:") as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        await asyncio.gather(*(insert(db, f"n{i}") for i in range(30)))
        async with db.snapshot() as snap:
            await insert(db, "later")
            assert await snap.fetch_value("SELECT count(*) FROM t") == 30
        assert len([row async for row in db.iterate("SELECT * FROM t")]) == 31
        async with db.transaction() as tx:
            await tx.execute("DELETE FROM t WHERE name = 'later'")
        await db.backup(tmp_path / "copy.db")
        assert (await db.health()).status == "ok"
    assert ask(tmp_path / "copy.db", "SELECT count(*) FROM t") == "[(30,)]"


async def test_a_reader_that_is_held_without_use_is_named_by_health(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", Settings(leak_warning_s=0.01)) as db:
        async with db.snapshot() as snap:
            await snap.fetch_value("SELECT 1")
            await asyncio.sleep(0.05)
            health = await db.health()
            assert health.status == "degraded"
            assert any("test_faults.py" in check.text for check in health.checks)
        await until(lambda: db.stats().busy_lanes == 0)
        assert (await db.health()).status == "ok"


async def test_lanes_open_on_demand_and_close_when_idle(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", Settings(idle_close_s=0.05)) as db:
        assert db.stats().connections == 2
        async with db.snapshot() as one, db.snapshot() as two:
            await asyncio.gather(one.fetch_value("SELECT 1"), two.fetch_value("SELECT 1"))
            assert db.stats().connections >= 4
        await until(lambda: db.stats().connections == 2)
        assert await db.fetch_value(HEAVY) == 300000
    async with Database(tmp_path / "b.db", Settings(max_connections=2)) as db:
        assert await db.fetch_value(HEAVY) == 300000
        assert db.stats().connections == 2


def fail_once(monkeypatch: pytest.MonkeyPatch, db: Database, statement: str, error: BaseException) -> list[str]:
    """The writer's next `statement` fails with `error`, before SQLite sees it. Returns what was run after that."""
    assert db._engine is not None
    connection = db._engine.writer_connection
    real, after, armed = connection.run, [], [True]

    def run(sql: str) -> None:
        if sql == statement and armed:
            armed.clear()
            raise error
        if not armed:
            after.append(sql)
        real(sql)

    monkeypatch.setattr(connection, "run", run)
    return after


async def test_a_commit_that_fails_is_tried_again_job_by_job(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    import apsw

    after = fail_once(monkeypatch, db, "COMMIT", apsw.FullError("database or disk is full"))
    await asyncio.gather(*(insert(db, f"n{i}") for i in range(5)))
    assert after.count("COMMIT") == 5
    assert sorted(await names(db)) == [f"n{i}" for i in range(5)]
    assert db.stats().reruns == 5


async def test_a_commit_that_fails_alone_says_so_to_its_caller(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    import apsw

    fail_once(monkeypatch, db, "COMMIT", apsw.FullError("database or disk is full"))
    with pytest.raises(millpond.DiskFull) as caught:
        await insert(db, "alone")
    assert caught.value.applied == "no"
    fail_once(monkeypatch, db, "COMMIT", apsw.IOError("disk I/O error"))
    with pytest.raises(millpond.StorageError) as torn:
        await insert(db, "torn")
    assert torn.value.applied == "unknown"
    assert db.stats().writer_replaced == 1
    await insert(db, "after")
    assert await names(db) == ["after"]


async def test_leases_that_had_ended_are_told_when_their_commit_fails(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    import apsw

    async def transaction(i: int) -> None:
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t(name) VALUES (?)", (f"{i}",))

    for i in range(8):
        await transaction(i)
    fail_once(monkeypatch, db, "COMMIT", apsw.FullError("database or disk is full"))
    found = await asyncio.gather(*(transaction(100 + i) for i in range(6)), return_exceptions=True)
    lost = [e for e in found if e is not None]
    assert lost
    assert all(isinstance(e, millpond.TransactionLost | millpond.DiskFull) and e.applied == "no" for e in lost), lost
    assert await db.fetch_value("SELECT count(*) FROM t") == 8 + len(found) - len(lost)


async def test_a_transaction_that_a_statement_ends_is_lost_and_told(db: Database) -> None:
    await insert(db, "taken")

    async def deadly() -> None:
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t(name) VALUES ('before')")
            await tx.execute("INSERT OR ROLLBACK INTO t(name) VALUES ('taken')")

    async def careless() -> None:
        async with db.transaction() as tx:
            with pytest.raises(millpond.UniqueViolation):
                await tx.execute("INSERT OR ROLLBACK INTO t(name) VALUES ('taken')")
            await tx.execute("INSERT INTO t(name) VALUES ('after')")

    with pytest.raises(millpond.UniqueViolation):
        await deadly()
    with pytest.raises(millpond.TransactionLost):
        await careless()
    await insert(db, "next")
    assert await names(db) == ["taken", "next"]


async def test_a_fault_of_the_writers_own_fails_its_jobs_and_it_serves_on(
    db: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_once(monkeypatch, db, "BEGIN IMMEDIATE", ZeroDivisionError("a bug"))
    found = await asyncio.gather(*(insert(db, f"n{i}") for i in range(5)), return_exceptions=True)
    assert all(isinstance(e, millpond.InternalError) for e in found), found
    fail_once(monkeypatch, db, "COMMIT", ZeroDivisionError("another"))
    found = await asyncio.gather(*(insert(db, f"m{i}") for i in range(5)), return_exceptions=True)
    assert all(isinstance(e, millpond.InternalError) and e.applied == "unknown" for e in found), found
    await asyncio.wait_for(insert(db, "next"), 5)
    assert await names(db) == ["next"]
    assert "the writer failed" in caplog.text


async def test_a_heavy_statement_inside_a_transaction_does_not_block_the_loop(db: Database) -> None:
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO t(name) VALUES ('x')")
        heavy = asyncio.create_task(tx.fetch_value(HEAVY))
        turns = 0
        while not heavy.done():
            await asyncio.sleep(0)
            turns += 1
        assert heavy.result() == 300000
        assert turns > 3
        assert await asyncio.gather(*(tx.fetch_value("SELECT count(*) FROM t") for _ in range(5))) == [1] * 5
        await tx.execute_script("INSERT INTO t(name) VALUES ('y'); INSERT INTO t(name) VALUES ('z')")
        await tx.execute_many("INSERT INTO t(name) VALUES (?)", [(f"m{i}",) for i in range(50)])
    assert await db.fetch_value("SELECT count(*) FROM t") == 53


async def test_a_cancelled_heavy_read_inside_a_transaction_ends_and_the_transaction_is_undone(db: Database) -> None:
    async def work() -> None:
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t(name) VALUES ('x')")
            await tx.fetch_value(ENDLESS)

    task = asyncio.create_task(work())
    await until(lambda: writer_phase(db) == "granted to a transaction")
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    await asyncio.wait_for(insert(db, "next"), 5)
    assert await names(db) == ["next"]


async def test_a_cancelled_opening_leaves_nothing_behind(tmp_path: Path) -> None:
    import threading

    before = threading.active_count()
    db = Database(tmp_path / "a.db")
    task = asyncio.create_task(db.open())
    await asyncio.sleep(0)
    with pytest.raises(millpond.ProgrammingError, match="another task"):
        await db.open()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: threading.active_count() <= before)
    async with db:
        assert await db.fetch_value("SELECT 1", timeout=float("inf")) == 1


async def test_a_transaction_whose_end_is_cancelled_too_gives_the_writer_back(db: Database) -> None:
    """Its end waits behind a statement in the writer's thread; the second cancel must not take the end away.

    task                  writer's thread
    statement ----------> runs, held by the gate
    cancel: end --------> waits behind it
    cancel: gone          gate opens: statement, then the end
    """
    import threading

    gate, runs = threading.Event(), threading.Event()

    def held() -> None:
        runs.set()
        gate.wait(10)

    async def work() -> None:
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t(name) VALUES ('x')")
            await tx._in_thread("held", held, None, None)

    task = asyncio.create_task(work())
    await until(runs.is_set)
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    gate.set()
    await asyncio.wait_for(insert(db, "next"), 5)
    assert await names(db) == ["next"]


async def test_a_function_that_raises_stop_iteration_hangs_nobody(db: Database) -> None:
    def stops(tx: millpond.Transaction) -> None:
        next(iter(()))

    found = await asyncio.wait_for(
        asyncio.gather(db.write(stops), *(insert(db, f"n{i}") for i in range(5)), return_exceptions=True), 5
    )
    assert isinstance(found[0], RuntimeError)
    assert found[1:] == [None] * 5


async def test_a_statement_of_a_transaction_keeps_its_timeout_and_the_leases_limit(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", Settings(max_lease=0.3)) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t(name) VALUES ('kept')")
            with pytest.raises(millpond.DeadlineExceeded):
                await tx.fetch_value(ENDLESS, timeout=0.05)
            assert await tx.fetch_value("SELECT count(*) FROM t") == 1
        with pytest.raises((millpond.DeadlineExceeded, millpond.LeaseExpired)):
            async with db.transaction() as tx:
                await tx.fetch_value(ENDLESS)
        await asyncio.wait_for(insert(db, "next"), 5)
        assert await names(db) == ["kept", "next"]
