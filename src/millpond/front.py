"""What both facades share: arguments, terms, routes. Nothing here waits."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from os import PathLike
from time import monotonic
from typing import Any, Final, Literal

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
from millpond.into import maker
from millpond.locations import locate
from millpond.parameters import check
from millpond.places import describe
from millpond.ports import Port
from millpond.scheduling.fair_queue import Priority
from millpond.scheduling.write_queue import State
from millpond.settings import Settings
from millpond.statements.cost import Lane
from millpond.statements.profile import Kind, Profile

__all__ = ["PLAIN", "Durability", "Front", "Waiting", "gathered", "holding"]

Durability = Literal["full", "normal"]
Waiting = ReadCall | WriteCall | Session | Step | Operation

PLAIN: Final = frozenset({tuple, list, dict, type(None)})
"""Parameters of these types need no further look."""

_PRIORITIES = frozenset(Priority)
NO_LIMIT_S = 86_400.0
LATE_GRACE_S = 1.0
"""A write that runs at its deadline gets this long to be decided: a known outcome is worth the wait."""

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
        self._row_factory = row_factory
        self._observers = tuple(observers)
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
            raise errors.ProgrammingError(f"a statement is text, not {type(sql).__name__}")
        if params.__class__ not in PLAIN:
            check(params, sql)

    def _seconds(self, timeout: float | None) -> float:
        if timeout is None:
            return self._timeout_s
        given: Any = timeout
        if isinstance(given, bool) or not isinstance(given, (int, float)) or not given >= 0:
            raise errors.ProgrammingError(f"timeout={timeout!r}: seconds, a number not below 0")
        return float(timeout)

    def _terms(self, timeout: float | None, priority: Priority, durability: str | None) -> Terms:
        """A write's terms, its caller being this one. Raises: ProgrammingError for what is none."""
        if durability is None:
            full = self._full
        elif durability in ("full", "normal"):
            full = durability == "full"
        else:
            raise errors.ProgrammingError(f"durability={durability!r}: 'full' or 'normal'")
        if priority not in _PRIORITIES:
            raise errors.ProgrammingError(f"priority={priority!r}: one of Priority.HIGH, NORMAL, LOW, BATCH")
        timeout_s = self._timeout_s if timeout is None else self._seconds(timeout)
        port = self._port
        return (port.waiter(), port.caller(), priority, monotonic() + timeout_s, timeout_s, full)

    def _shaped(self, found: list[Any], into: Any) -> list[Any]:
        """Rows as the caller wants them."""
        kind = into if into is not None else self._row_factory
        if not found or kind is None:
            return found
        if isinstance(kind, type):
            return list(map(maker(kind, found[0].keys()), found))
        return list(map(kind, found))

    def _not_for_itself(self, engine: Engine, held: tuple[Lease, ...], method: str) -> None:
        """Raise WouldWaitForItself for a write from inside a transaction of this database."""
        for lease in held:
            if lease.standing is LeaseState.ACTIVE and lease.grant is engine.writer.grant:
                raise messages.would_wait_for_itself(call=method, opened=lease.place)

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
            return self._send_read(engine, profile, params, shape, self._seconds(timeout), priority)
        terms = self._terms(timeout, priority, durability)
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
                engine.guard_inside(profile, "db")
                raise AssertionError(f"{kind} is refused")
        self._submit(engine, call, "execute" if shape is Shape.RESULT else "fetch_all")
        return call

    def _send_read(
        self, engine: Engine, profile: Profile, params: Any, shape: Shape, timeout_s: float, priority: Priority
    ) -> ReadCall:
        assert engine.lanes is not None
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
        return engine.late(call, call.timeout_s, running=call.state is State.RUNNING)

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
        engine.guard_inside(profile, "db")


def gathered(rows: Any, sql: str) -> list[Any]:
    """Rows of parameters as a list, each looked at. Raises: ParameterError."""
    if isinstance(rows, (str, bytes)) or not isinstance(rows, Iterable):
        raise errors.ParameterError(
            f"execute_many takes an iterable of rows, not {type(rows).__name__}",
            hint="Write [(1, 'a'), (2, 'b')].",
            sql=sql,
        )
    found = list(rows)
    for row in found:
        if row.__class__ not in PLAIN:
            check(row, sql)
    return found


def leave(_connection: Connection) -> None:
    """Nothing is left to clean in the reader."""


def check_function(fn: object) -> None:
    """`write` takes a function. Raises: ProgrammingError."""
    if not isinstance(fn, Callable):  # type: ignore[arg-type]  # an abstract class of collections.abc
        raise errors.ProgrammingError(f"write takes a function of one argument (tx), not {type(fn).__name__}")
