"""What became of each event: the one place where both sides are timed and counted.

Records go to a file as they come, so that a long run takes no memory and a killed one leaves its evidence.
"""

from __future__ import annotations

import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple

__all__ = ["LOCKED", "Attempt", "Ledger", "Record", "read_records"]

LOCKED = "database is locked"
"""SQLite's words for it, found in the message of sqlite3.OperationalError."""

_RECORD = struct.Struct("<qdd?")
_FLUSH_EVERY = 512
_KINDS_KEPT = 20


class Record(NamedTuple):
    """event: its id; finished_s: seconds since the start; latency_s: of the whole event; acknowledged: or failed."""

    event: int
    finished_s: float
    latency_s: float
    acknowledged: bool


class Ledger:
    """Counts and times the events of one process. Safe for threads."""

    def __init__(self, file: BinaryIO, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.started = clock()
        self.acknowledged = 0
        self.failed = 0
        self.locked = 0
        self.reasons: Counter[str] = Counter()
        self._file = file
        self._lock = threading.Lock()
        self._waiting: list[bytes] = []

    def start(self) -> None:
        """The clock of the measurement starts now."""
        self.started = self.clock()

    def attempt(self, event: int) -> Attempt:
        """Time a block as one event's work; an exception in it is the event's failure, and goes no further."""
        return Attempt(self, event)

    def write(self, event: int, started: float, error: BaseException | None) -> None:
        ended = self.clock()
        record = _RECORD.pack(event, ended - self.started, ended - started, error is None)
        with self._lock:
            self._waiting.append(record)
            if error is None:
                self.acknowledged += 1
            else:
                self._count(error)
            if len(self._waiting) >= _FLUSH_EVERY:
                self._flush()

    def give_up(self, workers: int, after_s: float) -> None:
        """Count workers that never came back as failures."""
        if workers:
            with self._lock:
                self.failed += workers
                self.reasons[f"an event was not done {after_s:g} s after the end"] += workers

    def flush(self) -> None:
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        self._file.write(b"".join(self._waiting))
        self._file.flush()
        self._waiting.clear()

    def _count(self, error: BaseException) -> None:
        self.failed += 1
        text = f"{type(error).__name__}: {error}"
        if LOCKED in text:
            self.locked += 1
        if text in self.reasons or len(self.reasons) < _KINDS_KEPT:
            self.reasons[text] += 1


class Attempt:
    """One event's work, as a `with` block."""

    __slots__ = ("_event", "_ledger", "_started", "failed")

    def __init__(self, ledger: Ledger, event: int) -> None:
        self._ledger = ledger
        self._event = event
        self.failed = False

    def __enter__(self) -> Attempt:
        self._started = self._ledger.clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.failed = error is not None
        self._ledger.write(self._event, self._started, error)
        # A cancelled task or an interpreter that ends is no failure to go on after.
        return isinstance(error, Exception)


def read_records(path: Path) -> Iterator[Record]:
    """The records of a ledger's file; a torn last one is left out."""
    with path.open("rb") as file:
        while chunk := file.read(_RECORD.size * 4096):
            whole = len(chunk) - len(chunk) % _RECORD.size
            for fields in _RECORD.iter_unpack(chunk[:whole]):
                yield Record(*fields)
