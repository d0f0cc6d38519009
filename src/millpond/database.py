"""The asynchronous facade: checks arguments, sets the deadline, looks up the profile, hands over."""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import get_running_loop
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from os import PathLike
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any, Final, Literal, TypeVar, overload

from millpond import assembly, errors, messages
from millpond.callers.tasks import TaskPort, Watch, let_others_run
from millpond.engine.sqlite.calls import (
    Barrier,
    Everywhere,
    FunctionWrite,
    ManyWrite,
    MemoryRead,
    ProfileCall,
    ReadCall,
    ScriptWrite,
    StatementWrite,
    Transaction,
    WriteCall,
    WriterOnly,
)
from millpond.engine.sqlite.connection import ExecuteResult, Shape
from millpond.engine.sqlite.copying import copy_database
from millpond.engine.sqlite.engine import Engine, Standing
from millpond.engine.sqlite.inline import MISS
from millpond.engine.sqlite.lanes import Session
from millpond.events import Observer
from millpond.guesses import instead_of
from millpond.into import maker
from millpond.locations import locate
from millpond.parameters import check
from millpond.places import describe
from millpond.rows import Row
from millpond.scheduling.fair_queue import Priority
from millpond.scheduling.turns import TurnBudget
from millpond.scheduling.write_queue import Refused, State
from millpond.scopes import RowStream, Snapshot, TransactionScope
from millpond.settings import Settings
from millpond.statements.cost import Lane
from millpond.statements.profile import Kind, Profile
from millpond.stats import Health, Stats

__all__ = ["Database", "Params"]

T = TypeVar("T")
Params = Sequence[Any] | Mapping[str, Any] | None
Durability = Literal["full", "normal"]

PLAIN: Final = frozenset({tuple, list, dict, type(None)})
"""Parameters of these types need no further look."""

LATE_GRACE_S = 1.0
"""A write that runs at its deadline gets this long to be decided: a known outcome is worth the wait."""


class Database:
    """An SQLite database for asyncio.

    async with Database("bot.db") as db: await db.execute(...)

    where: a path, ":memory:", or sqlite:///path. settings: see Settings. row_factory: a type as for `into=`,
    or a function of a Row, for every fetched row. observers: called with typed events, in a thread of their own.

    Each call takes `timeout=` (seconds; queueing, locks and running together) and `priority=`; writes also
    `durability=` ("full": on disk before it returns; "normal": safe from a crash of the process, on disk at
    the next `barrier()`). Cancelling a call stops it; a write is then applied wholly or not at all. Use it on
    the event loop that opened it.
    """

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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened_at = ""
        self._closed_at: tuple[str, float] | None = None
        self._turn = TurnBudget(self._settings.turn_budget_ms / 1000)
        self._timeout_s = self._settings.timeout_s
        self._full = self._settings.durability == "full"
        self._inline_on = self._settings.inline == "auto" and not self._location.memory
        frame = sys._getframe(1)
        self._made_at = describe(frame.f_code, frame.f_lineno)

    def __repr__(self) -> str:
        standing = self._engine.standing.value if self._engine is not None else Standing.NEW.value
        return f"<Database {self._location.name}: {standing}>"

    async def open(self) -> None:
        """Open it: creates the file if there is none, and keeps it in WAL mode. What `async with` does.

        Raises: StorageError, ReadOnlyDatabase, DatabaseCorrupt, LockTimeout with what is wrong with the file.
        """
        if self._engine is not None and self._engine.standing is Standing.OPEN:
            raise errors.ProgrammingError(f"{self._location.name} is open already (opened at {self._opened_at})")
        loop = get_running_loop()
        self._port = TaskPort(loop)
        engine = assembly.build(self._location, self._settings, self._port, self._observers)
        self._opened_at = self._made_at
        await self._port.in_thread(engine.open)
        self._engine = engine
        self._profile_of = engine.profiles.get
        self._watch = Watch(loop, self._timeout_s, self._late)
        self._loop = loop
        assembly.watch_over(self)

    async def close(self) -> None:
        """Stop admitting, finish what is queued within `close_grace_s`, close. Twice is once."""
        engine = self._engine
        if engine is None or engine.standing is not Standing.OPEN:
            return
        frame = sys._getframe(1)
        self._closed_at = (describe(frame.f_code, frame.f_lineno), monotonic())
        self._loop = None
        self._watch.close()
        await self._port.in_thread(lambda: engine.close(self._settings.close_grace_s))

    async def __aenter__(self) -> Database:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        engine = getattr(self, "_engine", None)
        if engine is None or engine.standing is not Standing.OPEN:
            return
        assembly.warn_unclosed(self)
        try:
            threading.Thread(target=engine.close, args=(assembly.FORGOTTEN_GRACE_S,), name="millpond-closing").start()
        except RuntimeError:
            engine.close(assembly.FORGOTTEN_GRACE_S)  # the interpreter ends: no more threads

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(instead_of(name, "Database", awaits=True))

    @overload
    async def fetch_all(
        self, sql: str, params: Params = ..., *, into: None = ..., timeout: float | None = ..., priority: Priority = ...
    ) -> list[Row]: ...
    @overload
    async def fetch_all(
        self, sql: str, params: Params = ..., *, into: type[T], timeout: float | None = ..., priority: Priority = ...
    ) -> list[T]: ...
    async def fetch_all(
        self,
        sql: str,
        params: Params = None,
        *,
        into: Any = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> list[Any]:
        """All rows. into: a type to make of each (dataclass, NamedTuple, TypedDict, attrs, msgspec, pydantic, scalar).

        Raises: errors.Error; DeadlineExceeded after `timeout` seconds.
        """
        found = self._try_inline(sql, params, Shape.ALL)
        if found is MISS:
            found = await self._queue(sql, params, Shape.ALL, timeout, priority)
        elif self._spent:
            await self._next_turn()
        if into is None and self._row_factory is None:
            return found  # type: ignore[no-any-return]  # a list, by its shape
        return self._shaped(found, into)

    @overload
    async def fetch_one(
        self, sql: str, params: Params = ..., *, into: None = ..., timeout: float | None = ..., priority: Priority = ...
    ) -> Row | None: ...
    @overload
    async def fetch_one(
        self, sql: str, params: Params = ..., *, into: type[T], timeout: float | None = ..., priority: Priority = ...
    ) -> T | None: ...
    async def fetch_one(
        self,
        sql: str,
        params: Params = None,
        *,
        into: Any = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Any:
        """The first row, or None. What else the statement would find is not looked for."""
        found = self._try_inline(sql, params, Shape.ONE)
        if found is MISS:
            found = await self._queue(sql, params, Shape.ONE, timeout, priority)
        elif self._spent:
            await self._next_turn()
        if found is None or (into is None and self._row_factory is None):
            return found
        return self._shaped([found], into)[0]

    async def fetch_value(
        self,
        sql: str,
        params: Params = None,
        *,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Any:
        """The first column of the first row, or None."""
        found = self._try_inline(sql, params, Shape.VALUE)
        if found is MISS:
            found = await self._queue(sql, params, Shape.VALUE, timeout, priority)
        elif self._spent:
            await self._next_turn()
        return found

    fetch_val = fetch_value

    def iterate(
        self,
        sql: str,
        params: Params = None,
        *,
        into: Any = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> RowStream:
        """Rows one after another, in bounded memory, all of one commit. Leaving the loop early frees the reader.

        timeout: seconds for the reader to come, and for each step.
        """
        self._check_open()
        self._check_params(sql, params)
        frame = sys._getframe(1)
        return RowStream(self, sql, params, into, timeout, priority, describe(frame.f_code, frame.f_lineno))

    async def execute(
        self,
        sql: str,
        params: Params = None,
        *,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        durability: Durability | None = None,
    ) -> ExecuteResult:
        """Run one statement. A write is committed, and synced by `durability`, before this returns.

        Raises: errors.Error; its `.applied` says whether the write is in the file.
        """
        result: ExecuteResult = await self._queue(sql, params, Shape.RESULT, timeout, priority, durability)
        return result

    async def execute_many(
        self,
        sql: str,
        rows: Iterable[Any] | AsyncIterable[Any],
        *,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        durability: Durability | None = None,
    ) -> ExecuteResult:
        """Run one statement once per row of parameters, all or none. rows: any iterable, also asynchronous."""
        engine = self._check_open()
        gathered = [row async for row in rows] if isinstance(rows, AsyncIterable) else list(_each(rows, sql))
        for row in gathered:
            if row.__class__ not in PLAIN:
                check(row, sql)
        profile = await self._profile(sql)
        if profile.is_read:
            raise errors.ProgrammingError(
                f"{messages.clip(sql)} reads, and execute_many is for writes", hint="Use fetch_all.", sql=sql
            )
        engine.guard_inside(profile, "db")
        if not gathered:
            return ExecuteResult(0, None)
        how = self._how(timeout, priority, durability)
        result: ExecuteResult = await self._write(
            lambda waiter, caller: ManyWrite(waiter, profile, gathered, caller, **how), timeout, "execute_many"
        )
        return result

    async def execute_script(
        self,
        sql: str,
        *,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        durability: Durability | None = None,
    ) -> None:
        """Run several statements, all or none."""
        engine = self._check_open()
        how = self._how(timeout, priority, durability)
        await self._write(
            lambda waiter, caller: ScriptWrite(waiter, sql, engine.guard_inside, caller, **how),
            timeout,
            "execute_script",
        )

    async def write(
        self,
        fn: Callable[[Transaction], T],
        *,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        durability: Durability | None = None,
    ) -> T:
        """Run `fn(tx)` atomically in the writer: read-modify-write without holding it over an await.

        fn: an ordinary function, short, without side effects outside the database: it runs again when a
        neighbour's fault ends the transaction. Returns what it returns; what it raises undoes it.
        """
        engine = self._check_open()
        if not callable(fn):
            raise errors.ProgrammingError(f"write takes a function of one argument (tx), not {type(fn).__name__}")
        how = self._how(timeout, priority, durability)
        result: T = await self._write(
            lambda waiter, caller: FunctionWrite(waiter, fn, engine.transaction_on, caller, **how), timeout, "write"
        )
        return result

    def transaction(
        self,
        *,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        durability: Durability | None = None,
    ) -> TransactionScope:
        """`async with db.transaction() as tx:` — an interactive write transaction, atomic and isolated.

        It holds the writer: await nothing but the database inside, or use `write`. timeout: seconds to wait for it.
        Raises (on entering): LockTimeout, DeadlineExceeded, WouldWaitForItself; LeaseExpired inside, after max_lease.
        """
        self._check_open()
        frame = sys._getframe(1)
        return TransactionScope(self, timeout, priority, durability, frame.f_code, frame.f_lineno)

    def snapshot(self, *, timeout: float | None = None, priority: Priority = Priority.NORMAL) -> Snapshot:
        """`async with db.snapshot() as snap:` — every read sees the commit that was the latest on entering."""
        self._check_open()
        frame = sys._getframe(1)
        return Snapshot(self, timeout, priority, describe(frame.f_code, frame.f_lineno))

    async def barrier(self, *, timeout: float | None = None) -> None:
        """Wait until everything acknowledged before this call survives a power cut.

        Costs one fsync, shared by all who wait, and nothing where all was synced. Cancelling leaves the sync running.
        Raises: DeadlineExceeded; StorageError if the sync failed (then nothing is promised).
        Source: group commit, DeWitt et al. 1984.
        """
        engine = self._check_open()
        if engine.memory or not engine.writer.needs_barrier():
            return
        how = self._how(timeout, Priority.HIGH, "full")
        await self._write(lambda waiter, caller: Barrier(waiter, "barrier", caller, **how), timeout, "barrier")

    async def backup(
        self,
        target: str | PathLike[str],
        *,
        progress: Callable[[int, int], None] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Copy the database, as it is now, to the file `target`, while it goes on being read and written.

        progress: called on the loop with pages done and pages in all. The copy appears when it is whole;
        a file of that name is replaced. timeout: seconds, None for no limit.
        """
        engine = self._check_open()
        path = locate(target).path
        port = self._port
        wanted = True

        def tell(done: int, pages: int) -> None:
            if progress is not None:
                port.call(progress, done, pages)

        limit = timeout if timeout is not None else 86_400.0
        try:
            if engine.memory:
                await self._on_writer(lambda connection: copy_database(connection, path, tell, lambda: wanted), limit)
                return
            session = await self._session("backup", Priority.LOW, self._timeout_s, "backup")
            try:
                await self._step(
                    session, "backup", lambda connection: copy_database(connection, path, tell, lambda: wanted), limit
                )
            finally:
                wanted = False
                session.give_back(_leave)
        finally:
            wanted = False

    def stats(self) -> Stats:
        """A cheap, consistent snapshot of the counters."""
        return self._check_open().stats()

    async def health(self) -> Health:
        """How it stands, and the checks behind that; costs one small read."""
        engine = self._engine
        if engine is None or engine.standing is not Standing.OPEN:
            raise self._closed()
        failure: BaseException | None = None
        try:
            await self.fetch_value("SELECT 1", timeout=5.0)
        except errors.Error as exc:
            failure = exc
        return engine.health(failure)

    def _check_open(self) -> Engine:
        engine = self._engine
        if engine is None or engine.standing is not Standing.OPEN or self._loop is None:
            raise self._closed()
        if self._loop is not get_running_loop():
            raise messages.wrong_loop(self._opened_at, id(self._loop))
        return engine

    def _closed(self) -> errors.Error:
        engine = self._engine
        if engine is None:
            return errors.DatabaseClosed(
                f"{self._location.name} is not open yet",
                hint="Use `async with Database(...) as db:`, or `await db.open()` first.",
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

    def _try_inline(self, sql: str, params: Any, shape: Shape) -> Any:
        """The read's result, here and now; MISS if it must be queued."""
        if not self._inline_on or self._loop is not get_running_loop():
            return MISS
        profile = self._profile_of(sql)
        if (
            profile is None
            or profile.cost.lane is not Lane.INLINE
            or profile.kind is not Kind.READ
            or profile.stale
            or params.__class__ not in PLAIN
        ):
            return MISS
        engine = self._engine
        if engine is None or engine.standing is not Standing.OPEN or engine.inline is None:
            return MISS
        turn = self._turn
        now = perf_counter()
        if not turn.armed:
            turn.begin(now)
            self._loop.call_soon(turn.reset)
        try:
            found = engine.inline.run(profile, params, shape, now)
        except Exception as exc:
            engine.errors += 1
            raise engine.translate(exc, sql) from exc
        self._spent = perf_counter() >= turn.slice_ends
        return found

    _spent = False

    async def _next_turn(self) -> None:
        self._spent = False
        self._turn.yields()
        await let_others_run()
        self._turn.resumes(perf_counter())

    def _shaped(self, found: list[Any], into: Any) -> list[Any]:
        """Rows as the caller wants them."""
        kind = into if into is not None else self._row_factory
        if not found:
            return found
        if isinstance(kind, type):
            return list(map(maker(kind, found[0].keys()), found))
        return list(map(kind, found))

    async def _profile(self, sql: str) -> Profile:
        engine = self._check_open()
        profile = self._profile_of(sql)
        if profile is not None and not profile.stale:
            return profile
        if not isinstance(sql, str):
            raise errors.ProgrammingError(f"a statement is text, not {type(sql).__name__}")
        try:
            if not engine.memory:
                try:
                    return engine.profile(sql)
                except errors.NoSuchTable:
                    if not engine.has_temporaries:
                        raise
            return await self._write(
                lambda waiter, caller: ProfileCall(waiter, sql, engine.profile_on, caller), None, "profile", own=True
            )
        except errors.Error:
            engine.errors += 1
            raise

    async def _queue(
        self,
        sql: str,
        params: Any,
        shape: Shape,
        timeout: float | None,
        priority: Priority,
        durability: Durability | None = None,
    ) -> Any:
        """The long way: whatever the statement is, to where it belongs."""
        engine = self._check_open()
        self._check_params(sql, params)
        profile = await self._profile(sql)
        kind = profile.kind
        timeout_s = self._seconds(timeout)
        if kind is Kind.READ and not engine.memory and not profile.temporary:
            if shape is Shape.RESULT:
                shape = Shape.ALL
                return ExecuteResult(-1, None) if await self._read(profile, params, shape, timeout_s, priority) else ExecuteResult(-1, None)
            return await self._read(profile, params, shape, timeout_s, priority)
        how = self._how(timeout, priority, durability)
        make: Callable[[Any, Any], WriteCall]
        match kind:
            case Kind.READ:
                make = lambda waiter, caller: MemoryRead(waiter, profile, params, shape, caller, **how)  # noqa: E731
            case Kind.WRITE | Kind.SCHEMA:
                if kind is Kind.SCHEMA:
                    engine.has_temporaries = engine.has_temporaries or profile.temporary
                how["cost_s"] = profile.cost.mean_s or 0.00003
                make = lambda waiter, caller: StatementWrite(waiter, profile, params, shape, caller, **how)  # noqa: E731
            case Kind.WRITER_ONLY:
                make = lambda waiter, caller: WriterOnly(waiter, profile, params, shape, caller, **how)  # noqa: E731
            case Kind.EVERYWHERE:
                make = lambda waiter, caller: Everywhere(  # noqa: E731
                    waiter, profile, params, shape, caller, tell=engine.tell_everyone, **how
                )
            case _:
                engine.guard_inside(profile, "db")
                raise AssertionError(f"{kind} is refused")
        return await self._write(make, timeout, "execute" if shape is Shape.RESULT else "fetch_all")

    async def _read(self, profile: Profile, params: Any, shape: Shape, timeout_s: float, priority: Priority) -> Any:
        engine = self._check_open()
        assert engine.lanes is not None
        now = monotonic()
        call = ReadCall(
            self._port.waiter(), profile, params, shape, deadline=now + timeout_s, priority=priority,
            caller=self._port.caller(), submitted=now,
        )  # fmt: skip
        call.timeout_s = timeout_s
        try:
            if profile.cost.lane is Lane.HEAVY:
                engine.lanes.submit(call)
            else:
                engine.lanes.submit_quick(call)
        except errors.Overloaded:
            engine.refused += 1
            raise
        self._watch.add(call, timeout_s)
        try:
            return await call.waiter
        except asyncio.CancelledError:
            engine.cancelled += 1
            engine.lanes.cancel(call)
            raise
        except errors.Error:
            engine.errors += 1
            raise

    def _seconds(self, timeout: float | None) -> float:
        if timeout is None:
            return self._timeout_s
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not timeout >= 0:
            raise errors.ProgrammingError(f"timeout={timeout!r}: seconds, a number not below 0")
        return float(timeout)

    def _how(self, timeout: float | None, priority: Priority, durability: str | None) -> dict[str, Any]:
        """A write's terms."""
        if durability is not None and durability not in ("full", "normal"):
            raise errors.ProgrammingError(f"durability={durability!r}: 'full' or 'normal'")
        if priority not in (0, 1, 2, 3):
            raise errors.ProgrammingError(f"priority={priority!r}: one of Priority.HIGH, NORMAL, LOW, BATCH")
        return {
            "priority": int(priority),
            "deadline": monotonic() + self._seconds(timeout),
            "full": self._full if durability is None else durability == "full",
        }

    async def _write(
        self, make: Callable[[Any, Any], WriteCall], timeout: float | None, method: str, *, own: bool = False
    ) -> Any:
        """Queue a job for the writer and wait for its answer."""
        engine = self._check_open()
        caller = self._port.caller()
        self._not_for_itself(engine, caller, method)
        call = make(self._port.waiter(), caller)
        call.timeout_s = self._seconds(timeout)
        if call.deadline is None:
            call.deadline = monotonic() + call.timeout_s
        self._submit(engine, call)
        return await self._answer(engine, call)

    def _not_for_itself(self, engine: Engine, caller: Any, method: str) -> None:
        grant = engine.writer.grant
        if grant is not None and (lease := grant.current) is not None and lease.caller is caller:
            raise messages.would_wait_for_itself(call=method, opened=lease.place or "?")

    def _submit(self, engine: Engine, call: WriteCall) -> None:
        refused = engine.writer.submit(call)
        if refused is not None:
            engine.refused += 1
            raise self._overloaded(refused, call.sql)

    def _overloaded(self, refused: Refused, sql: str) -> errors.Overloaded:
        return messages.overloaded(
            sql=sql, waiting=refused.waiting, limit_name="max_queue", oldest_s=refused.oldest_s,
            retry_after=max(0.05, refused.oldest_s), write=True,
        )  # fmt: skip

    async def _answer(self, engine: Engine, call: WriteCall) -> Any:
        self._watch.add(call, call.timeout_s)
        try:
            return await call.waiter
        except asyncio.CancelledError:
            engine.cancelled += 1
            engine.writer.cancel(call)
            raise
        except errors.Error:
            engine.errors += 1
            raise

    async def _on_writer(self, work: Callable[[Any], Any], timeout: float | None) -> Any:
        """Run something on the only connection of a database in memory."""
        how = self._how(timeout, Priority.NORMAL, None)
        return await self._write(lambda waiter, caller: ProfileCall.of(waiter, work, caller, **how), timeout, "backup")

    async def _session(self, what: str, priority: Priority, timeout_s: float, place: str) -> Session:
        """A lane of one's own."""
        engine = self._check_open()
        assert engine.lanes is not None
        now = monotonic()
        session = Session(
            self._port.waiter(), what, place, deadline=now + timeout_s, priority=priority,
            caller=self._port.caller(), submitted=now,
        )  # fmt: skip
        session.timeout_s = timeout_s
        engine.lanes.submit(session)
        self._watch.add(session, timeout_s)
        try:
            await session.waiter
        except BaseException:
            engine.lanes.cancel(session)
            session.give_up()
            raise
        return session

    async def _step(self, session: Session, sql: str, run: Callable[[Any], Any], timeout_s: float) -> Any:
        """Run a step of a session in its lane."""
        engine = self._check_open()
        step = session.step(self._port.waiter(), sql, run, timeout_s)
        self._watch.add(step, timeout_s)
        try:
            return await step.waiter
        except asyncio.CancelledError:
            engine.cancelled += 1
            session.stop(step)
            raise
        except errors.Error:
            engine.errors += 1
            raise

    def _late(self, call: Any) -> None:
        """A call's deadline has passed."""
        engine = self._engine
        assert engine is not None
        if not isinstance(call, WriteCall):
            error = engine.late(call, call.timeout_s, running=False)
            call.waiter.set_exception(error)
            if isinstance(call, (ReadCall, Session)):
                assert engine.lanes is not None
                engine.lanes.cancel(call)
                if isinstance(call, Session):
                    call.give_up()
            else:
                call.session.stop(call)
            return
        if engine.writer.cancel(call):
            call.waiter.set_exception(engine.late(call, call.timeout_s, running=False))
        elif call.overdue < 2:
            # It runs: its outcome is worth a moment. Then a running one is interrupted, at its neighbours' cost.
            call.overdue += 1
            if call.overdue == 2:
                engine.writer.interrupt(call)
            call.deadline = monotonic() + LATE_GRACE_S
            self._watch.add(call, LATE_GRACE_S)
        else:
            call.waiter.set_exception(engine.late(call, call.timeout_s, running=call.state is State.RUNNING))


def _each(rows: Any, sql: str) -> Iterable[Any]:
    if isinstance(rows, (str, bytes)) or not isinstance(rows, Iterable):
        raise errors.ParameterError(
            f"execute_many takes an iterable of rows, not {type(rows).__name__}", hint="Write [(1, 'a'), (2, 'b')].", sql=sql
        )
    return rows


def _leave(_connection: Any) -> None:
    """Nothing is left to clean after a backup."""
