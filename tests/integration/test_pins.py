"""The reader that keeps the log from being begun anew is named: ours by its line, others by their process."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from millpond import Check, Database, Settings, events
from millpond.callers.threads import ThreadPort
from millpond.engine.sqlite import platform
from millpond.engine.sqlite.connection import Setup
from millpond.engine.sqlite.holdback import Reader
from millpond.engine.sqlite.pins import Pins, log_check
from millpond.engine.sqlite.wal_index import WalIndex
from millpond.parameters import Adapters, Converters
from millpond.stats import LogPin

from .outside import ask, lock_held

LIMIT = 2**18
READ = "BEGIN; SELECT * FROM sqlite_schema"
needs_index = pytest.mark.skipif(not platform.linux_facts, reason="locks are listed by Linux alone")


@pytest.fixture
def seen() -> list[events.Event]:
    return []


@pytest.fixture
async def db(tmp_path: Path, seen: list[events.Event]) -> AsyncIterator[Database]:
    settings = Settings(checkpoint_pages=20, wal_limit_bytes=LIMIT, log_hold_s=0, pin_warning_s=0.01, cache_bytes=0)
    async with Database(tmp_path / "a.db", settings, observers=[seen.append]) as db:
        await db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)")
        yield db


async def grow(db: Database) -> None:
    """Until the log is over its limit, and the writer has found out that it cannot be begun anew."""
    finishes = db.stats().checkpoint_finishes
    for _ in range(10_000):
        await db.execute("INSERT INTO t(body) VALUES (zeroblob(9000))", durability="normal")
        stats = db.stats()
        if stats.wal_pages * 4_096 > 2 * LIMIT and stats.checkpoint_finishes > finishes:
            return
    raise AssertionError("the log does not grow")


async def the_log(db: Database) -> Check:
    return next(check for check in (await db.health()).checks if check.name == "log")


async def told(db: Database, seen: list[events.Event]) -> list[events.LogPinned]:
    """All that observers were told of pins by the time the database is closed."""
    await db.close()
    return [event for event in seen if isinstance(event, events.LogPinned)]


async def test_a_snapshot_of_ours_is_named_by_its_line(db: Database, seen: list[events.Event]) -> None:
    async with db.snapshot() as snap:
        await snap.fetch_all("SELECT * FROM t")
        await grow(db)
        check = await the_log(db)
        pin = db.stats().log_pin
        assert (await db.health()).status == "degraded"
    assert not check.ok
    assert re.fullmatch(
        r"the log has grown to \d\.\d MiB because a snapshot from \d\d:\d\d:\d\d \(\d s ago, test_pins.py:\d+ in "
        r"\S+_is_named_by_its_line\(\)\) still reads an old commit; end it, and the log is begun anew",
        check.text,
    )
    assert pin is not None
    assert (pin.what, pin.ours, pin.pid) == ("snapshot", True, os.getpid())
    assert pin.pages > 0
    (event,) = await told(db, seen)
    assert (event.what, event.place, event.pid) == ("snapshot", pin.place, os.getpid())
    assert event.wal_bytes > 0


async def test_the_oldest_of_several_is_named(db: Database) -> None:
    async with AsyncExitStack() as stack:
        for number in range(3):
            snap = await stack.enter_async_context(db.snapshot())
            await snap.fetch_all("SELECT * FROM t")
            await db.execute("INSERT INTO t(id) VALUES (?)", (number,))
        stream = db.iterate("SELECT * FROM t")
        await anext(stream)
        await grow(db)
        pin = db.stats().log_pin
        assert pin is not None
        assert pin.what == "snapshot"
    await stream.aclose()


async def test_a_stream_that_is_not_read_to_its_end_is_named(db: Database) -> None:
    await db.execute_many("INSERT INTO t(id) VALUES (?)", ((number,) for number in range(500)))
    stream = db.iterate("SELECT * FROM t")
    await anext(stream)
    await grow(db)
    assert "because a stream from" in (await the_log(db)).text
    await stream.aclose()


@needs_index
async def test_another_process_is_named_by_its_pid_and_program(db: Database, seen: list[events.Event]) -> None:
    with lock_held(db._location.path, READ) as other:
        await grow(db)
        check = await the_log(db)
        pin = db.stats().log_pin
        assert pin is not None
        assert (pin.pid, pin.ours, pin.what) == (other.pid, False, "reader")
        assert f"because pid {other.pid} (python" in check.text
        held_s = pin.held_s
        await grow(db)
        again = db.stats().log_pin
        assert again is not None
        assert again.held_s > held_s, "it is known to be the same"
    (event,) = await told(db, seen)
    assert event.pid == other.pid


async def test_when_the_log_is_begun_anew_nobody_is_named_any_more(db: Database) -> None:
    async with db.snapshot() as snap:
        await snap.fetch_all("SELECT * FROM t")
        await grow(db)
        assert db.stats().log_pin is not None
    for _ in range(10_000):
        await db.execute("INSERT INTO t(body) VALUES (zeroblob(9000))", durability="normal")
        if db.stats().log_pin is None:
            break
    await db.execute("INSERT INTO t(body) VALUES (NULL)")
    assert db.stats().log_pin is None
    assert (await the_log(db)).ok


async def test_a_short_log_is_well_whoever_reads(db: Database) -> None:
    async with db.snapshot() as snap:
        await snap.fetch_all("SELECT * FROM t")
        check = await the_log(db)
    assert check.ok
    assert check.text == "the log holds 0.0 MiB"


class Port(ThreadPort):
    """Callers that stand where a test says."""

    frame: FrameType | None = None

    def caller_frame(self, caller: Any) -> FrameType | None:
        return self.frame


class Place:
    """As much of a frame as is looked at."""

    f_lineno = 42

    def __init__(self, code: CodeType) -> None:
        self.f_code = code


class Host:
    """An engine as far as it is looked at."""

    def __init__(self, path: Path, warn_s: float = 0.05) -> None:
        self.settings = Settings(wal_limit_bytes=LIMIT, pin_warning_s=warn_s)
        adapters = Adapters({}, strict_datetimes=False, warn=lambda text: None)
        self.setup = Setup(str(path / "a.db"), self.settings, adapters, Converters({}))
        self.port: Any = Port()
        self.index: WalIndex | None = None
        self.now: list[Reader] = []
        self.told: list[events.Event] = []

    def readers(self) -> list[Reader]:
        return self.now

    def emit(self, make: Callable[[], events.Event]) -> None:
        self.told.append(make())


class TestLook:
    """Looking, by itself."""

    @pytest.fixture
    def host(self, tmp_path: Path) -> Host:
        return Host(tmp_path)

    def test_where_there_is_no_index_our_oldest_reader_is_taken_for_it(self, host: Host) -> None:
        host.now = [Reader(1.0, "iterate", None, "bot.py:42 in report()"), Reader(2.0, "read", None)]
        pin = Pins(host).look()
        assert pin is not None
        assert (pin.what, pin.place, pin.ours) == ("stream", "bot.py:42 in report()", True)

    def test_where_nothing_can_be_seen_that_is_what_is_said(self, host: Host) -> None:
        pin = Pins(host).look()
        assert pin is not None
        assert pin.pid is None
        assert "cannot be seen from here" in log_check(2 * LIMIT, LIMIT, pin).text

    @pytest.mark.parametrize(
        ("reader", "told"),
        [
            (
                Reader(1.0, "read", 0, sql="SELECT * FROM m WHERE body = 'secret'"),
                "SELECT * FROM m WHERE body = ?, begun",
            ),
            (Reader(1.0, "backup", 0, "backup"), "because a backup from"),
        ],
    )
    def test_what_has_no_line_of_its_own_is_named_by_where_its_caller_stands(
        self, host: Host, reader: Reader, told: str
    ) -> None:
        host.port.frame = Place(compile("", "/srv/bot.py", "exec").replace(co_name="report"))
        host.now = [reader]
        text = log_check(2 * LIMIT, LIMIT, Pins(host).look()).text
        assert told in text
        assert "bot.py:42 in report()" in text

    def test_each_is_told_once_and_not_before_it_lasts(self, host: Host) -> None:
        pins = Pins(host)
        host.now = [Reader(10.0**9, "read", None)]
        pins.pinned(LIMIT)
        assert not host.told
        host.now = [Reader(0.0, "snapshot", None, "a.py:1 in f()")]
        for _ in range(3):
            pins.pinned(LIMIT)
        assert len(host.told) == 1

    def test_beyond_the_limit_whoever_it_is_is_told_but_not_each_of_many(self, tmp_path: Path) -> None:
        host = Host(tmp_path, warn_s=3_600.0)
        pins = Pins(host)
        for number in range(5):
            host.now = [Reader(10.0**9 + number, "read", None)]
            pins.pinned(LIMIT + 1)
        assert len(host.told) == 1

    def test_a_reader_that_cannot_be_named_fails_nobody(self, host: Host, caplog: pytest.LogCaptureFixture) -> None:
        host.port.frame = object()
        host.now = [Reader(1.0, "read", 0, sql="SELECT 1")]
        Pins(host).pinned(2 * LIMIT)
        assert not host.told
        assert "could not be named" in caplog.text

    @needs_index
    def test_a_copy_that_lags_without_a_reader_is_nobodys_fault_here(self, host: Host) -> None:
        path = host.setup.path
        ask(path, "PRAGMA journal_mode = wal")
        with lock_held(path):
            host.index = WalIndex.open(path)
            assert host.index is not None
            assert Pins(host).look() is None
            host.index.close()

    @pytest.mark.parametrize(
        ("pin", "text"),
        [
            (None, "no reader is in its way, so it will be begun anew"),
            (LogPin("reader", since=0.0, held_s=90.0, pid=7, ours=True), "90 s ago), does not end"),
            (LogPin("reader", since=0.0, held_s=720.0, pid=7, program="bot.py"), "because pid 7 (bot.py), noticed at"),
            (LogPin("reader", since=0.0, held_s=720.0, pid=7), "12 min ago), reads an old commit"),
            (LogPin("reader", since=0.0, held_s=36_000.0), "10.0 h ago), reads an old commit"),
        ],
    )
    def test_what_health_says(self, pin: LogPin | None, text: str) -> None:
        check = log_check(80 * 2**20, LIMIT, pin)
        assert not check.ok
        assert check.text.startswith("the log has grown to 80.0 MiB")
        assert text in check.text


@needs_index
class TestIndex:
    """What the index tells of the log."""

    def test_pages_and_marks(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a.db")
        ask(path, "PRAGMA journal_mode = wal; CREATE TABLE t(a)")
        with lock_held(path, "BEGIN; SELECT * FROM t") as other:
            index = WalIndex.open(path)
            assert index is not None
            held = platform.log_readers(path)
            assert list(held.values()) == [[other.pid]]
            ask(path, "INSERT INTO t VALUES (zeroblob(20000))")
            log = index.log()
            assert log.pages > 4
            assert min(log.marks[slot] for slot in held) < log.pages
            index.close()
        assert platform.log_readers(path) == {}

    def test_an_emptied_log_is_told_from_a_commit(self, tmp_path: Path) -> None:
        path = str(tmp_path / "a.db")
        ask(path, "PRAGMA journal_mode = wal; CREATE TABLE t(a)")
        with lock_held(path, "BEGIN; SELECT 1"):  # keeps the index alive, and reads nothing
            index = WalIndex.open(path)
            assert index is not None
            ask(path, "INSERT INTO t VALUES (1)")
            before = index.page[:96]
            assert not WalIndex.emptied(before, before)
            ask(path, "PRAGMA wal_checkpoint(TRUNCATE)")
            after = index.page[:96]
            assert after != before
            assert WalIndex.emptied(before, after)
            assert not WalIndex.emptied(after, before)
            ask(path, "INSERT INTO t VALUES (2)")
            ask(path, "PRAGMA wal_checkpoint(TRUNCATE)")
            assert not WalIndex.emptied(before, index.page[:96])
            assert not WalIndex.emptied(b"", after)
            index.close()
