"""A reader that is kept by one caller, and what those are told whose reader is gone."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from millpond import errors
from millpond.engine.sqlite.connection import Connection
from millpond.messages import line
from millpond.statements.demand import NOTHING

__all__ = ["End", "Session", "Step", "closed", "closing", "fault", "no_thread", "nothing"]


class Lane(Protocol):
    """What a session needs of its lane."""

    def put(self, item: Step | End | None) -> None: ...
    def interrupt(self, call: object | None) -> None: ...


class Session:
    """A lane kept by one caller: a snapshot or an iterator. Its steps run in the lane's thread.

    what, place: for people. began: since when it has a lane. broken: what took its reader away, and with it the
    commit that it saw. wants: nothing; its steps run unasked, since nobody else can have its lane.
    """

    wants = NOTHING

    __slots__ = (
        "_lane", "began", "broken", "caller", "deadline", "given_back", "given_up", "last", "line", "place", "priority",
        "queued", "submitted", "timeout_s", "waiter", "what",
    )  # fmt: skip

    def __init__(
        self, waiter: Any, what: str, place: str, *, deadline: float, priority: int, caller: Any, submitted: float
    ) -> None:
        self.waiter = waiter
        self.what = what
        self.place = place
        self.deadline: float | None = deadline
        self.priority = priority
        self.caller = caller
        self.submitted = self.last = self.began = submitted
        self.queued = False
        self.line = 0
        self.given_back = False
        self.given_up = False
        self.timeout_s = 0.0
        self.broken: BaseException | None = None
        self._lane: Lane | None = None

    @property
    def settled(self) -> bool:
        return bool(self.waiter.done())

    @property
    def sql(self) -> str:
        return self.what

    def over(self) -> errors.StorageError:
        """The error for whatever is still asked of it."""
        error = errors.StorageError(
            line(f"the {self.what} opened at {self.place} is over: its reader broke"),
            detail="A new reader would see a later commit.",
            hint="Begin it anew, and read again what belongs together.",
        )
        error.__cause__ = self.broken
        return error

    def step(self, waiter: Any, sql: str, run: Callable[[Connection], Any], timeout_s: float) -> Step:
        """Have the lane run something on its connection."""
        assert self._lane is not None
        step = Step(self, waiter, sql, run, timeout_s)
        self._lane.put(step)
        return step

    def give_back(self, last: Callable[[Connection], None]) -> None:
        """End it, with a last step that leaves the connection clean. Safe from finalizers and twice."""
        if not self.given_back and self._lane is not None:
            self.given_back = True
            self._lane.put(End(self, last))

    def give_up(self) -> None:
        """Its caller was cancelled while it waited for the lane, or just as it came."""
        self.given_up = True
        if self._lane is not None:
            self.give_back(nothing)

    def stop(self, step: Step) -> None:
        """Interrupt a step that nobody waits for any more."""
        if self._lane is not None:
            self._lane.interrupt(step)

    def taken_by(self, lane: Lane) -> None:
        self._lane = lane
        if self.given_up:
            self.give_back(nothing)


class Step:
    """One step of a session, answered on its waiter."""

    __slots__ = ("deadline", "run", "session", "sql", "started", "submitted", "timeout_s", "waiter")

    def __init__(
        self, session: Session, waiter: Any, sql: str, run: Callable[[Connection], Any], timeout_s: float
    ) -> None:
        self.session = session
        self.waiter = waiter
        self.sql = sql
        self.run = run
        self.timeout_s = timeout_s
        self.submitted = monotonic()
        self.started: float | None = None
        self.deadline: float | None = self.submitted + timeout_s

    @property
    def settled(self) -> bool:
        return bool(self.waiter.done())


class End:
    __slots__ = ("last", "session")
    settled = False

    def __init__(self, session: Session | None, last: Callable[[Connection], None]) -> None:
        self.session = session
        self.last = last


def nothing(_connection: Connection) -> None:
    """A session that never ran a step leaves nothing behind."""


def closed() -> errors.DatabaseClosed:
    """For a read that waited."""
    return errors.DatabaseClosed("the database was closed before this read ran")


def closing() -> errors.DatabaseClosed:
    """For a read that comes now."""
    return errors.DatabaseClosed("the database is closing and takes no more reads")


def no_thread(exc: RuntimeError) -> errors.OperationalError:
    """For a read that has no reader at all, and gets none."""
    error = errors.OperationalError(
        "this read was not run: no thread can be started for it",
        detail=str(exc),
        hint="Raise the limit of threads (ulimit -u, TasksMax=, pids.max), or look for what leaks them.",
        retryable=True,
    )
    error.__cause__ = exc
    return error


def fault(exc: BaseException) -> errors.InternalError:
    """The error for whoever waited for a reader that failed by a fault of Millpond's own."""
    error = errors.InternalError(line(f"a reader failed: {type(exc).__name__}: {exc}"))
    error.__cause__ = exc
    return error
