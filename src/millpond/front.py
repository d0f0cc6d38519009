"""What both facades share: arguments, terms, routes. Nothing here waits."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from os import PathLike
from time import monotonic
from typing import Any, Literal

from millpond import assembly, errors, messages
from millpond.engine.sqlite.calls import (
    Everywhere,
    MemoryRead,
    ReadCall,
    StatementWrite,
    Terms,
    WriteCall,
    WriterOnly,
)
from millpond.engine.sqlite.connection import Connection, Shape
from millpond.engine.sqlite.engine import Engine, Standing
from millpond.engine.sqlite.grant import Lease, LeaseState, Operation
from millpond.engine.sqlite.lanes import Session, Step
from millpond.events import Observer
from millpond.into import check_kind, made
from millpond.locations import locate
from millpond.parameters import PLAIN, check, gathered, in_slices_inside, not_text, several_parameters
from millpond.places import caller, describe
from millpond.ports import Port
from millpond.scheduling.fair_queue import Priority
from millpond.settings import Settings
from millpond.statements.cost import Lane
from millpond.statements.profile import Kind, Profile

__all__ = ["PLAIN", "Durability", "Front", "Waiting", "gathered", "holding", "inside"]

Durability = Literal["full", "normal"]
Waiting = ReadCall | WriteCall | Session | Step | Operation

NO_LIMIT_S = 86_400.0
LATE_GRACE_S = 1.0
"""A write that runs at its deadline gets this long to be decided: a known outcome is worth the wait."""

inside: ContextVar[tuple[Any, ...]] = ContextVar("inside", default=())
"""The savepoints that this task, or the one that started it, is inside of; the innermost last."""

holding: ContextVar[tuple[Lease, ...]] = ContextVar("holding", default=())
"""The transactions that this task, or the one that started it, is inside of."""


class Front:
    """A database's front door: what is the same for tasks and for threads."""

    def __init__(
        self,
        where: str | PathLike[str],
        settings: Settings | Mapping[str, Any] | None = None,
        *,
        row_factory: Any = None,
        observers: Iterable[Observer] = (),
    ) -> None:
        self._engine: Engine | None = None
        self._location = locate(where)
        self._settings = assembly.settings_from(settings)
        check_kind(row_factory, "row_factory")
        self._row_factory = row_factory
        self._observers = checked_observers(observers)
        self._closed_at: tuple[str, float] | None = None
        self._timeout_s = self._settings.timeout_s
        self._full = self._settings.durability == "full"
        self._inline_on = self._settings.inline == "auto" and not self._location.memory
        self._port: Port
        frame = sys._getframe(1)
        self._opened_at = describe(frame.f_code, frame.f_lineno)

    def __repr__(self) -> str:
        standing = self._engine.standing.value if self._engine is not None else Standing.NEW.value
        return f"<Database {self._location.name}: {standing}>"

    def __del__(self) -> None:
        engine = self.__dict__.get("_engine")
        if engine is None or engine.standing is not Standing.OPEN:
            return
        assembly.warn_unclosed(self)
        try:
            threading.Thread(target=engine.close, args=(assembly.FORGOTTEN_GRACE_S,), name="millpond-closing").start()
        except RuntimeError:
            engine.close(assembly.FORGOTTEN_GRACE_S)  # the interpreter ends: no more threads

    def _check_open(self) -> Engine:
        """The engine, if this caller may use it. Raises: DatabaseClosed, Forked, WrongLoop."""
        engine = self._engine
        if engine is None or not engine.is_open:
            raise self._closed()
        return engine

    def _closed(self) -> errors.Error:
        engine = self._engine
        if engine is None:
            return errors.DatabaseClosed(
                f"{self._location.name} is not open yet",
                hint="Open it by a `with` block (`async with` on a loop), or by open() first.",
            )
        if engine.standing is Standing.FORKED:
            return engine.closed_error()
        where, at = self._closed_at or (None, monotonic())
        return messages.database_closed(self._location.name, where, monotonic() - at)

    def _check_params(self, sql: Any, params: Any) -> None:
        if not isinstance(sql, str):
            raise not_text(sql)
        if params.__class__ not in PLAIN:
            check(params, sql)

    def _seconds(self, timeout: float | None, sql: str | None = None) -> float:
        if timeout is None:
            return self._timeout_s
        given: Any = timeout
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not given >= 0:
            raise errors.ProgrammingError(
                messages.line(f"timeout={timeout!r}: seconds, a number not below 0"),
                sql=sql if isinstance(sql, str) else None,
                applied=messages.not_applied(sql) if isinstance(sql, str) else None,
            )
        return float(timeout)

    def _terms(self, timeout: float | None, priority: Priority, durability: str | None, sql: str = "the call") -> Terms:
        """A write's terms, its caller being this one. Raises: ProgrammingError for what is none; DeadlineExceeded."""
        if durability is None:
            full = self._full
        elif durability in ("full", "normal"):
            full = durability == "full"
        else:
            raise errors.ProgrammingError(messages.line(f"durability={durability!r}: 'full' or 'normal'"), applied="no")
        if priority.__class__ is not Priority:
            check_priority(priority, "no")
        timeout_s = self._timeout_s
        if timeout is not None:
            timeout_s = self._seconds(timeout, sql)
            if not timeout_s:
                raise self._no_time(sql)
        port = self._port
        return (port.waiter(), port.caller(), priority, monotonic() + timeout_s, timeout_s, full)

    def _shaped(self, found: list[Any], into: Any, sql: Any = None) -> list[Any]:
        """Rows as the caller wants them. sql: what found them; a write is in the file, whatever comes of its rows."""
        kind = into if into is not None else self._row_factory
        if not found or kind is None:
            return found
        try:
            return made(found, kind)
        except errors.DataError as exc:
            exc.sql = exc.sql or sql
            engine = self._engine
            profile = engine.profiles.get(sql) if engine is not None else None
            if profile is not None and not profile.is_read:
                exc.applied = "yes"
            raise

    def _given(
        self,
        sql: Any,
        into: Any,
        timeout: float | None,
        extra: tuple[Any, ...],
        method: str,
        priority: Any = None,
        *,
        atomic: bool = True,
    ) -> None:
        """Refuse what was wrongly given to a call. Only asked where anything but sql and params was given.

        priority, atomic: given to a statement of a block, which has one for all, and is a whole. Raises:
        ProgrammingError; DeadlineExceeded for a timeout of 0.
        """
        if extra:
            raise several_parameters(method, 1 + len(extra))
        if not atomic:
            raise in_slices_inside()
        if priority is not None:
            raise errors.ProgrammingError(
                f"{method} inside a block takes no priority=: a transaction or snapshot has one, its own",
                hint="Give it where the block begins: db.transaction(priority=...), db.snapshot(priority=...).",
                applied="no",
            )
        if into is not None:
            check_kind(into, "into")
        if timeout is not None and not self._seconds(timeout, sql):
            raise self._no_time(sql)

    def _no_time(self, sql: Any) -> errors.DeadlineExceeded:
        engine = self._engine
        if engine is not None:
            engine.deadlines_missed += 1
        sql = sql if isinstance(sql, str) else "the statement"
        return messages.deadline_exceeded(
            sql=sql, timeout_s=0.0, queue_s=0.0, lock_s=0.0, running_s=0.0, applied=messages.not_applied(sql)
        )

    def _not_for_itself(self, engine: Engine, held: tuple[Lease, ...], method: str) -> None:
        """Raise WouldWaitForItself for a write from inside a transaction of this database."""
        for lease in held:
            if lease.standing is LeaseState.ACTIVE and lease.grant is engine.writer.grant:
                found, here = caller(sys._getframe(1))
                raise messages.would_wait_for_itself(
                    call=found if found and not found.startswith("_") else method,
                    opened=lease.place,
                    here=here,
                    other=None if lease.caller == self._port.caller() else "task",
                )

    def _holds_writer(self, engine: Engine) -> bool:
        """Is this caller inside a transaction of this database, so that it cannot wait for the writer?"""
        return any(one.standing is LeaseState.ACTIVE and one.grant is engine.writer.grant for one in holding.get())

    def _profile_by_reader(self, engine: Engine, sql: str) -> Profile | None:
        """What a statement is, asked of the inline reader. None: where that may be wrong, the writer is to be asked.

        Once there are temporary objects, which may hide others, only the writer's connection knows.
        """
        if engine.memory:
            return None
        if not engine.has_temporaries:
            return engine.profile(sql)
        if not self._holds_writer(engine):
            return None
        profile = engine.profile(sql)
        profile.stale = True  # good for this once: it reads what is committed, and knows nothing temporary
        return profile

    def _send(
        self,
        engine: Engine,
        profile: Profile,
        params: Any,
        shape: Shape,
        timeout: float | None,
        priority: Priority,
        durability: str | None = None,
    ) -> ReadCall | WriteCall:
        """Queue a statement where it belongs. Raises: what may not be run this way; Overloaded."""
        kind = profile.kind
        if params.__class__ is list or params.__class__ is dict:
            params = params.copy()  # its caller may change it before it is run
        if profile.last_write is not None:
            raise messages.of_last_write(profile.last_write, profile.sql)
        if profile.by_readers and not engine.memory:
            timeout_s = self._timeout_s
            if timeout is not None:
                timeout_s = self._seconds(timeout, profile.sql)
                if not timeout_s:
                    raise self._no_time(profile.sql)
            return self._send_read(engine, profile, params, shape, timeout_s, priority)
        terms = self._terms(timeout, priority, durability, profile.sql)
        call: WriteCall
        match kind:
            case Kind.READ:
                call = MemoryRead(profile, params, shape, terms)
            case Kind.WRITE | Kind.SCHEMA:
                call = StatementWrite(profile, params, shape, terms)
                if kind is Kind.SCHEMA:
                    engine.note_schema_write(profile)
            case Kind.WRITER_ONLY:
                call = WriterOnly(profile, params, shape, terms)
            case Kind.EVERYWHERE:
                call = Everywhere(profile, params, shape, terms, engine.tell_everyone)
            case _:
                self._guard(engine, profile, "db")
                raise AssertionError(f"{kind} is refused")
        self._submit(engine, call, "execute" if shape is Shape.RESULT else "fetch_all")
        return call

    def _send_read(
        self, engine: Engine, profile: Profile, params: Any, shape: Shape, timeout_s: float, priority: Priority
    ) -> ReadCall:
        assert engine.lanes is not None
        if priority.__class__ is not Priority:
            check_priority(priority)
        now = monotonic()
        call = ReadCall(
            self._port.waiter(), profile, params, shape, deadline=now + timeout_s, priority=priority,
            caller=self._port.caller(), submitted=now,
        )  # fmt: skip
        call.timeout_s = timeout_s
        if profile.cost.lane is Lane.HEAVY:
            engine.lanes.submit(call)
        else:
            engine.lanes.submit_quick(call)
        return call

    def _submit(self, engine: Engine, call: WriteCall, method: str) -> None:
        """Queue a job for the writer. Raises: WouldWaitForItself, Overloaded, DatabaseClosed."""
        if held := holding.get():
            self._not_for_itself(engine, held, method)
        writer = engine.writer
        if call.cheap and writer.at_once(call):
            return
        refused = writer.submit(call)
        if refused is not None:
            engine.refused += 1
            raise messages.overloaded(
                sql=call.sql, waiting=refused.waiting, limit_name="max_queue", oldest_s=refused.oldest_s,
                retry_after=max(0.05, refused.oldest_s), write=True,
            )  # fmt: skip

    def _ask_session(self, engine: Engine, what: str, priority: Priority, timeout_s: float, place: str) -> Session:
        """Queue for a lane of one's own."""
        assert engine.lanes is not None
        if priority.__class__ is not Priority:
            check_priority(priority)
        if not timeout_s:
            raise self._no_time(what)
        now = monotonic()
        session = Session(
            self._port.waiter(), what, place, deadline=now + timeout_s, priority=priority,
            caller=self._port.caller(), submitted=now,
        )  # fmt: skip
        session.timeout_s = timeout_s
        engine.lanes.submit(session)
        return session

    def _give_up(self, engine: Engine, call: Waiting) -> None:
        """The caller of this was cancelled: take it out, or stop it."""
        match call:
            case WriteCall():
                engine.writer.cancel(call)
            case Step():
                call.session.stop(call)
            case Operation():
                call.grant.stop(call, is_read=True)  # its deadline is past: its neighbours run again if they must
            case _:
                assert engine.lanes is not None
                engine.lanes.cancel(call)
                if isinstance(call, Session):
                    call.give_up()

    def _overdue(self, engine: Engine, call: Waiting) -> errors.Error | None:
        """A call's deadline has passed: its error, or None where its outcome is worth another LATE_GRACE_S."""
        if not isinstance(call, WriteCall):
            error = engine.late(call, call.timeout_s, running=False)
            if isinstance(call, Operation):
                error.applied = messages.not_applied(call.sql)
            self._give_up(engine, call)
            return error
        if engine.writer.cancel(call):
            error = engine.late(call, call.timeout_s, running=False)
            if isinstance(call, Lease):
                call.cause = error
            return error
        if call.overdue < 2:
            call.overdue += 1
            if call.overdue == 2:
                engine.writer.interrupt(call)
            call.deadline = monotonic() + LATE_GRACE_S
            return None
        return engine.late(call, call.timeout_s, running=True)  # it was begun: who knows how it ends

    def _profile_for_many(self, engine: Engine, profile: Profile) -> None:
        """execute_many is for writes."""
        if profile.is_read:
            raise errors.ProgrammingError(
                f"{messages.clip(profile.sql)} reads, and execute_many is for writes",
                hint="Use fetch_all.",
                sql=profile.sql,
            )
        if profile.last_write is not None:
            raise messages.of_last_write(profile.last_write, profile.sql)
        self._guard(engine, profile, "db")

    def _guard(self, engine: Engine, profile: Profile, where: str) -> None:
        """Raise for what has no place there."""
        engine.guard_inside(profile, where)


def check_priority(priority: object, applied: errors.Applied | None = None) -> None:
    """Raise ProgrammingError for what is none; a number of one is taken."""
    if not isinstance(priority, int) or priority not in range(len(Priority)):
        raise errors.ProgrammingError(
            messages.line(f"priority={priority!r}: one of Priority.HIGH, NORMAL, LOW, BATCH"), applied=applied
        )


def leave(_connection: Connection) -> None:
    """Nothing is left to clean in the reader."""


def checked_observers(observers: Any) -> tuple[Observer, ...]:
    """Observers are functions of an event. Raises: ProgrammingError."""
    if not isinstance(observers, Iterable):
        raise errors.ProgrammingError(
            f"observers={type(observers).__name__}: a list of functions of one event",
            hint="Write Database(path, observers=[tell]), with `def tell(event): ...`.",
        )
    found = tuple(observers)
    for one in found:
        if not callable(one):
            raise errors.ProgrammingError(
                f"an observer is a function of one event, not {type(one).__name__}",
                hint="Write `def tell(event): ...`, and Database(path, observers=[tell]).",
            )
        if inspect.iscoroutinefunction(one) or inspect.iscoroutinefunction(getattr(one, "__call__", None)):  # noqa: B004  # its kind is asked, not whether it is there
            raise errors.ProgrammingError(
                f"observer {getattr(one, '__qualname__', type(one).__name__)} is async, and would never be awaited",
                hint="Write `def tell(event): ...`: it is called in a thread of its own. To go on in a loop: "
                "`loop.call_soon_threadsafe(queue.put_nowait, event)`.",
            )
    return found


def check_function(fn: object) -> None:
    """`write` takes a function. Raises: ProgrammingError."""
    if not isinstance(fn, Callable):  # type: ignore[arg-type]  # an abstract class of collections.abc
        raise errors.ProgrammingError(
            f"write takes a function of one argument (tx), not {type(fn).__name__}", applied="no"
        )
