"""The one place where both sides are timed, and the judge of what they wrote."""

from __future__ import annotations

import asyncio
import io
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from millpond.demo import sqlite3_side
from millpond.demo.chat import Event
from millpond.demo.ledger import Ledger, Record, read_records
from millpond.demo.verification import verify


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_block_is_timed_and_written_down(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "ledger.bin"
    with path.open("wb") as file:
        ledger = Ledger(file, clock)
        clock.now = 102.0
        ledger.start()
        with ledger.attempt(7) as attempt:
            clock.now = 102.5
        assert not attempt.failed
        with ledger.attempt(8) as attempt:
            clock.now = 103.0
            raise sqlite3.OperationalError("database is locked")
        assert attempt.failed
        ledger.flush()
    assert list(read_records(path)) == [Record(7, 0.5, 0.5, True), Record(8, 1.0, 0.5, False)]
    assert (ledger.acknowledged, ledger.failed, ledger.locked) == (1, 1, 1)
    assert ledger.reasons == {"OperationalError: database is locked": 1}


def test_a_cancelled_block_is_a_failure_and_stays_cancelled(clock: Clock) -> None:
    ledger = Ledger(io.BytesIO(), clock)
    with pytest.raises(asyncio.CancelledError), ledger.attempt(1):
        raise asyncio.CancelledError
    assert (ledger.acknowledged, ledger.failed, ledger.locked) == (0, 1, 0)


def test_reasons_are_bounded(clock: Clock) -> None:
    ledger = Ledger(io.BytesIO(), clock)
    for number in range(1000):
        with ledger.attempt(number):
            raise ValueError(f"reason {number}")
    assert ledger.failed == 1000
    assert len(ledger.reasons) == 20


def test_workers_that_never_came_back_are_failures(clock: Clock) -> None:
    ledger = Ledger(io.BytesIO(), clock)
    ledger.give_up(0, 15)
    assert not ledger.reasons
    ledger.give_up(2, 15)
    assert ledger.failed == 2
    assert list(ledger.reasons) == ["an event was not done 15 s after the end"]


def test_a_torn_record_is_left_out(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "ledger.bin"
    with path.open("wb") as file:
        ledger = Ledger(file, clock)
        for number in range(3):
            with ledger.attempt(number):
                pass
        ledger.flush()
        file.write(b"torn")
    assert [record.event for record in read_records(path)] == [0, 1, 2]


class Written:
    """A file with ten events in it, and their ledger."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.path, self.book = folder / "bot.db", folder / "ledger.bin"
        sqlite3_side.prepare(str(self.path), sqlite3_side.DEFAULTS)
        with self.book.open("wb") as file, closing(sqlite3.connect(self.path)) as connection:
            ledger = Ledger(file, clock)
            for number in range(1, 11):
                with ledger.attempt(number):
                    event = Event(number, "message", 1 + number % 2, 1 + number % 3, f"user{number % 3}", 1000, "hello")
                    sqlite3_side.handle(connection, event, "BEGIN")
            ledger.flush()

    def spoil(self, sql: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(sql)


@pytest.fixture
def written(tmp_path: Path, clock: Clock) -> Written:
    return Written(tmp_path, clock)


def test_an_honest_file_is_found_good(written: Written) -> None:
    verified = verify(written.path, [written.book])
    assert verified.good
    assert (verified.acknowledged, verified.found, verified.lost, verified.messages) == (10, 10, 0, 10)
    assert verified.xp == 5 * 11 + 5 * 12
    assert verified.integrity_check == "ok"


@pytest.mark.parametrize(
    ("lie", "lost", "consistent"),
    [
        ("DELETE FROM message WHERE id = 4", 1, False),
        ("UPDATE user SET xp = xp - 1 WHERE id = 1", 0, False),
        ("UPDATE user SET messages = messages + 1 WHERE id = 2", 0, False),
        ("UPDATE counters SET messages = messages + 1 WHERE guild_id = 3", 0, False),
        ("UPDATE leaderboard SET xp = xp + iif(user_id = 1, 1, -1) WHERE guild_id = 1 AND user_id < 3", 0, False),
        ("DELETE FROM user WHERE id = 1", 0, False),
    ],
)
def test_a_planted_lie_is_found(written: Written, lie: str, lost: int, consistent: bool) -> None:
    written.spoil(lie)
    verified = verify(written.path, [written.book])
    assert (verified.lost, verified.consistent, verified.good) == (lost, consistent, False)


def test_an_event_that_failed_and_is_there_all_the_same_is_told(written: Written, clock: Clock, tmp_path: Path) -> None:
    other = tmp_path / "other.bin"
    with other.open("wb") as file:
        ledger = Ledger(file, clock)
        with ledger.attempt(5):
            raise sqlite3.OperationalError("disk I/O error")
        ledger.flush()
    verified = verify(written.path, [written.book, other])
    assert verified.failed_but_stored == 1
    assert not verified.good


def test_an_event_acknowledged_twice_counts_as_lost_once(written: Written) -> None:
    verified = verify(written.path, [written.book, written.book])
    assert (verified.acknowledged, verified.lost) == (20, 10)


def test_the_judge_prints_one_object(written: Written) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "millpond.demo.verification", str(written.path), str(written.book)],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert '"acknowledged": 10' in process.stdout
