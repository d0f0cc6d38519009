"""What happened: typed events for observers. Values only; they carry no parameters and no rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "BatchCommitted",
    "BatchLost",
    "Checkpointed",
    "Closed",
    "EngineConflictSeen",
    "Event",
    "LaneClosed",
    "LaneOpened",
    "LaneReplaced",
    "LeakFound",
    "LeaseExpired",
    "LeaseHeld",
    "LockWaited",
    "LogEmptied",
    "LogPinned",
    "Observer",
    "Opened",
    "ReadsHeld",
    "StatementFinished",
    "UpkeepDone",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """Base of all. at: seconds on the process's monotonic clock."""

    at: float


@dataclass(frozen=True, slots=True)
class Opened(Event):
    """The database is open. sqlite: the engine's version."""

    path: str
    sqlite: str


@dataclass(frozen=True, slots=True)
class Closed(Event):
    """The database is closed. abandoned: calls that were failed by it."""

    path: str
    abandoned: int


@dataclass(frozen=True, slots=True)
class StatementFinished(Event):
    """A call is over. route: inline, quick, heavy or writer. error: class name of what it raised."""

    sql: str
    route: str
    waited_s: float
    ran_s: float
    rows: int
    error: str | None


@dataclass(frozen=True, slots=True)
class BatchCommitted(Event):
    """The writer committed. gate_s: waiting for the write lock; work_s: the jobs; commit_s: COMMIT, sync included."""

    jobs: int
    full: bool
    gate_s: float
    work_s: float
    commit_s: float


@dataclass(frozen=True, slots=True)
class BatchLost(Event):
    """A transaction ended under its jobs. cause: the error's class; rerun: innocent jobs that run again."""

    cause: str
    rerun: int


@dataclass(frozen=True, slots=True)
class LockWaited(Event):
    """Another holder of the write lock kept the writer waiting. pid: None where it cannot be known."""

    waited_s: float
    pid: int | None
    program: str | None


@dataclass(frozen=True, slots=True)
class LaneOpened(Event):
    """A reader was opened. lanes: how many there are now."""

    lanes: int


@dataclass(frozen=True, slots=True)
class LaneClosed(Event):
    """An idle reader was closed. lanes: how many are left."""

    lanes: int


@dataclass(frozen=True, slots=True)
class LaneReplaced(Event):
    """A reader was broken and got a new connection. cause: the error's class."""

    cause: str


@dataclass(frozen=True, slots=True)
class LeaseHeld(Event):
    """An interactive transaction keeps the writer for long. place: the line that opened it."""

    place: str
    held_s: float
    waiting: int


@dataclass(frozen=True, slots=True)
class LeaseExpired(Event):
    """An interactive transaction was taken back at its limit and rolled back."""

    place: str
    held_s: float


@dataclass(frozen=True, slots=True)
class LeakFound(Event):
    """Something that was opened was collected without being closed. what: snapshot, transaction, database."""

    what: str
    place: str


@dataclass(frozen=True, slots=True)
class EngineConflictSeen(Event):
    """Another SQLite library opened the file in this process. place: where."""

    place: str


@dataclass(frozen=True, slots=True)
class Checkpointed(Event):
    """Pages of the log were moved into the database. database: its name, main or as attached. pages: moved now.

    left: still to be moved; whole: nothing is, and the log is begun anew by the next write.
    by_writer: between two batches, which waited for it.
    """

    database: str
    pages: int
    left: int
    seconds: float
    whole: bool
    by_writer: bool


@dataclass(frozen=True, slots=True)
class LogPinned(Event):
    """A reader of an old commit keeps the log from being begun anew, and it grows. Told once of each.

    wal_bytes: its length; held_s: for how long that reader has been seen. The rest as in stats.LogPin.
    """

    wal_bytes: int
    held_s: float
    what: str
    place: str | None
    pid: int | None
    program: str | None


@dataclass(frozen=True, slots=True)
class ReadsHeld(Event):
    """New long reads waited until older ones had ended, so that the log could be begun anew. reads: so many.

    begun_anew: whether it could.
    """

    held_s: float
    reads: int
    begun_anew: bool


@dataclass(frozen=True, slots=True)
class LogEmptied(Event):
    """At a quiet time: all of the log is in the database, and its file is cut to nothing. wal_bytes: what it was."""

    database: str
    wal_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class UpkeepDone(Event):
    """A job of a quiet time is done. what: analyze or vacuum; detail: which table, or how many pages were freed."""

    what: str
    detail: str
    seconds: float


Observer = Callable[[Event], None]
"""Called with each event, in a thread of its own; what it raises is counted and logged, never passed on."""
