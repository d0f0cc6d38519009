"""What happened: typed events for observers. Values only; they carry no parameters and no rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "BatchCommitted",
    "BatchLost",
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
    "Observer",
    "Opened",
    "StatementFinished",
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


Observer = Callable[[Event], None]
"""Called with each event, in a thread of its own; what it raises is counted and logged, never passed on."""
