"""The asynchronous facade: checks arguments, sets the deadline, looks up the profile, hands over."""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import get_running_loop
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from os import PathLike
from threading import get_ident
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any, Never, TypeVar, overload

from millpond import assembly, errors, messages
from millpond.bulk import Slices, gathered_in_turns
from millpond.callers.tasks import TaskPort, Watch, let_others_run
from millpond.engine.sqlite.calls import (
    Barrier,
    FunctionWrite,
    ManyWrite,
    Question,
    ScriptWrite,
    Transaction,
    WriteCall,
)
from millpond.engine.sqlite.connection import ALL, ONE, RESULT, VALUE, ExecuteResult, Shape
from millpond.engine.sqlite.copying import Copy
from millpond.engine.sqlite.engine import Engine, Standing
from millpond.engine.sqlite.inline import MISS
from millpond.engine.sqlite.lanes import Session
from millpond.engine.sqlite.result_cache import NONE, Pending, ResultCache
from millpond.engine.sqlite.slices import SLICE
from millpond.events import Observer
from millpond.feeds import Watching
from millpond.front import LATE_GRACE_S, NO_LIMIT_S, PLAIN, Durability, Front, Waiting, check_function, leave
from millpond.guesses import with_guesses
from millpond.migrations.files import read
from millpond.migrations.plan import Migration
from millpond.migrations.steps import EXISTS, RECORDED, prepare
from millpond.places import closed_at, describe
from millpond.rows import Row
from millpond.scheduling.fair_queue import Priority
from millpond.scheduling.turns import TurnBudget
from millpond.scopes import TransactionScope
from millpond.settings import Settings
from millpond.snapshots import Snapshot
from millpond.statements.profile import Profile
from millpond.stats import Health, Stats
from millpond.streams import RowStream

__all__ = ["Database", "Params"]

CLOCKED = 16
"""One kept result in so many looks at the clock: they take a microsecond each."""
T = TypeVar("T")
Params = Sequence[Any] | Mapping[str, Any] | None


@with_guesses("Database", awaits=True)
class Database(Front, Watching):
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
        super().__init__(where, settings, row_factory=row_factory, observers=observers)
        self._port: TaskPort
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = TurnBudget(self._settings.turn_budget_ms / 1000)
        self._cache: ResultCache | None = None
        self._hits = 0
        self._spent = False
        self._outside: deque[asyncio.Future[None]] = deque()
        self._opening = False
        self._thread = 0
        frame = sys._getframe(1)
        self._opened_at = describe(frame.f_code, frame.f_lineno)

    async def open(self) -> None:
        """Open it: creates the file if there is none, and keeps it in WAL mode. What `async with` does.

        Raises: StorageError, ReadOnlyDatabase, DatabaseCorrupt, LockTimeout with what is wrong with the file.
        """
        if self._engine is not None and self._engine.standing is Standing.OPEN:
            raise errors.ProgrammingError(f"{self._location.name} is open already (opened at {self._opened_at})")
        if self._opening:
            raise errors.ProgrammingError(f"{self._location.name} is being opened by another task")
        loop = get_running_loop()
        self._port = TaskPort(loop)
        engine = assembly.build(self._location, self._settings, self._port, self._observers)
        self._opening = True
        try:
            await self._port.in_thread(engine.open, engine.give_up)
        except asyncio.CancelledError:
            threading.Thread(target=engine.close, args=(0.0,), name="millpond-closing").start()
            raise
        finally:
            self._opening = False
        self._engine = engine
        self._profile_of = engine.profiles.get
        self._cache = engine.cache
        self._watch = Watch(loop, self._timeout_s, self._late)
        self._loop = loop
        self._thread = get_ident()
        assembly.watch_over(self)

    async def close(self) -> None:
        """Stop admitting, finish what is queued within `close_grace_s`, close. Twice is once."""
        engine = self._engine
        if engine is not None and engine.standing is Standing.CLOSING:  # by another task: wait for the same end
            await self._port.in_thread(lambda: engine.close(self._settings.close_grace_s))
            return
        if engine is None or engine.standing is not Standing.OPEN:
            return
        loop, port = self._loop, self._port
        if loop is not None and loop is not get_running_loop():
            if not loop.is_closed():
                raise messages.wrong_loop(self._opened_at, id(loop))
            port = TaskPort(get_running_loop())  # its own loop is gone: nobody else can close it any more
            self._outside.clear()
        self._closed_at = (closed_at(sys._getframe(1)), monotonic())
        self._loop = None
        self._turn_over()
        try:
            await port.in_thread(lambda: engine.close(self._settings.close_grace_s))
        finally:
            self._watch.close()  # what waits while it is closed keeps its deadline

    async def __aenter__(self) -> Database:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @overload
    async def fetch_all(
        self,
        sql: str,
        params: Params = ...,
        *,
        into: None = ...,
        timeout: float | None = ...,
        priority: Priority = ...,
        cache: bool = ...,
    ) -> list[Row]: ...
    @overload
    async def fetch_all(
        self,
        sql: str,
        params: Params = ...,
        *,
        into: type[T],
        timeout: float | None = ...,
        priority: Priority = ...,
        cache: bool = ...,
    ) -> list[T]: ...
    async def fetch_all(
        self,
        sql: str,
        params: Params = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        cache: bool = True,
    ) -> list[Any]:
        """All rows. into: a type to make of each (dataclass, NamedTuple, TypedDict, attrs, msgspec, pydantic, scalar).

        Raises: errors.Error; DeadlineExceeded after `timeout` seconds.
        """
        if extra or into is not None or timeout is not None:
            self._given(sql, into, timeout, extra, "fetch_all")
        found = self._try_inline(sql, params, ALL, cache)
        if found is MISS:
            found = await self._queue(sql, params, ALL, timeout, priority, cache=cache)
        elif self._spent:
            await self._next_turn()
        if into is None and self._row_factory is None:
            return found  # type: ignore[no-any-return]  # a list, by its shape
        if len(found) > SLICE:
            return await self._shaped_in_slices(found, into, sql)
        return self._shaped(found, into, sql)

    @overload
    async def fetch_one(
        self,
        sql: str,
        params: Params = ...,
        *,
        into: None = ...,
        timeout: float | None = ...,
        priority: Priority = ...,
        cache: bool = ...,
    ) -> Row | None: ...
    @overload
    async def fetch_one(
        self,
        sql: str,
        params: Params = ...,
        *,
        into: type[T],
        timeout: float | None = ...,
        priority: Priority = ...,
        cache: bool = ...,
    ) -> T | None: ...
    async def fetch_one(
        self,
        sql: str,
        params: Params = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        cache: bool = True,
    ) -> Any:
        """The first row, or None. What else the statement would find is not looked for."""
        if extra or into is not None or timeout is not None:
            self._given(sql, into, timeout, extra, "fetch_one")
        found = self._try_inline(sql, params, ONE, cache)
        if found is MISS:
            found = await self._queue(sql, params, ONE, timeout, priority, cache=cache)
        elif self._spent:
            await self._next_turn()
        if found is None or (into is None and self._row_factory is None):
            return found
        return self._shaped([found], into, sql)[0]

    async def fetch_value(
        self,
        sql: str,
        params: Params = None,
        *extra: Never,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        cache: bool = True,
    ) -> Any:
        """The first column of the first row, or None."""
        if extra or timeout is not None:
            self._given(sql, None, timeout, extra, "fetch_value")
        found = self._try_inline(sql, params, VALUE, cache)
        if found is MISS:
            found = await self._queue(sql, params, VALUE, timeout, priority, cache=cache)
        elif self._spent:
            await self._next_turn()
        return found

    fetch_val = fetch_value

    @overload
    def iterate(
        self, sql: str, params: Params = ..., *, into: None = ..., timeout: float | None = ..., priority: Priority = ...
    ) -> RowStream[Row]: ...
    @overload
    def iterate(
        self, sql: str, params: Params = ..., *, into: type[T], timeout: float | None = ..., priority: Priority = ...
    ) -> RowStream[T]: ...
    def iterate(
        self,
        sql: str,
        params: Params = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> RowStream[Any]:
        """Rows one after another, in bounded memory, all of one commit. Leaving the loop early frees the reader.

        timeout: seconds for the reader to come, and for each step.
        """
        if extra or into is not None or timeout is not None:
            self._given(sql, into, timeout, extra, "iterate")
        self._check_open()
        self._check_params(sql, params)
        frame = sys._getframe(1)
        return RowStream(self, sql, params, into, timeout, priority, describe(frame.f_code, frame.f_lineno))

    async def execute(
        self,
        sql: str,
        params: Params = None,
        *extra: Never,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        durability: Durability | None = None,
    ) -> ExecuteResult:
        """Run one statement. A write is committed, and synced by `durability`, before this returns.

        Raises: errors.Error; its `.applied` says whether the write is in the file.
        """
        if extra:
            self._given(sql, None, None, extra, "execute")
        result: ExecuteResult = await self._queue(sql, params, RESULT, timeout, priority, durability)
        return result

    async def execute_many(
        self,
        sql: str,
        rows: Iterable[Any] | AsyncIterable[Any],
        *extra: Never,
        atomic: bool = True,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        durability: Durability | None = None,
    ) -> ExecuteResult:
        """Run one statement once per row of parameters, all or none. rows: any iterable, also asynchronous.

        atomic=False: in slices of `bulk_slice_ms`, between which the writes of others get through. Rows are taken
        as they are needed, so they may be more than fit into memory. Each slice is written wholly or not at all;
        the first that fails ends the call, and the error's `.rows_applied` says how many rows are in the file.
        timeout: for the whole call.
        """
        if extra:
            self._given(sql, None, None, extra, "execute_many")
        if not atomic:
            return await Slices(self, sql, timeout, priority, durability).run(rows)
        engine = self._check_open()
        self._check_params(sql, None)
        found = await gathered_in_turns(rows, sql)
        profile = await self._profile(sql)
        self._profile_for_many(engine, profile)
        if not found:
            return ExecuteResult(0, None)
        call = ManyWrite(profile, found, self._terms(timeout, priority, durability))
        result: ExecuteResult = await self._write(engine, call, "execute_many")
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
        self._check_params(sql, None)
        call = ScriptWrite(sql, engine.script_on, self._terms(timeout, priority, durability))
        await self._write(engine, call, "execute_script")

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
        neighbour's fault ends the transaction. It runs in the writer's thread, or here once it has shown to
        be quick, so it must not wait for this loop. Returns what it returns; what it raises undoes it.
        """
        engine = self._check_open()
        check_function(fn)
        call = FunctionWrite(fn, engine, self._terms(timeout, priority, durability))
        call.row_factory = self._row_factory
        self._submit(engine, call, "write")
        result: T = await self._answer(engine, call)
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
        """Wait until everything acknowledged before this call, by whatever process, survives a power cut.

        Costs one fsync, shared by all who wait; nothing where all was synced and no other process has written.
        Cancelling leaves the sync running.
        Raises: DeadlineExceeded; StorageError if the sync failed (then nothing is promised).
        Source: group commit, DeWitt et al. 1984.
        """
        engine = self._check_open()
        if engine.memory or not engine.writer.commits.needs_barrier():
            return
        await self._write(engine, Barrier(self._terms(timeout, Priority.HIGH, "full")), "barrier")

    async def backup(
        self,
        target: str | PathLike[str],
        *,
        progress: Callable[[int, int], None] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Copy the database, as it is now, to the file `target`, while it goes on being read and written.

        progress: called on the loop with pages done and pages in all. The copy appears when it is whole, and
        then survives a power cut; a file of that name is replaced. What progress raises stops it.
        timeout: seconds, None for no limit.
        """
        engine = self._check_open()
        limit = self._seconds(timeout) if timeout is not None else NO_LIMIT_S
        with Copy(target, progress, self._port.call) as copy:
            if engine.memory:
                await self._on_writer(copy.run, limit)
            else:
                session = await self._session("backup", Priority.LOW, self._timeout_s, "backup")
                try:
                    await self._step(session, "backup", copy.run, limit)
                finally:
                    session.give_back(leave)
            await self._port.in_thread(copy.publish)

    async def migrate(
        self, folder: str | PathLike[str], *, dry_run: bool = False, timeout: float | None = None
    ) -> list[Migration]:
        """Apply a folder's numbered .sql and .py files that were not applied yet; returns those that this call did.

        Each runs in one transaction with its row in the table millpond_migration. Several processes may start at
        once: each migration is applied by one of them. dry_run: return what would be applied, and change nothing.
        timeout: seconds for all of it, None for no limit. Cancelling keeps those that are committed.
        Raises: MigrationError before anything runs; else the error of the one that fails, with the file's name.
        """
        self._check_open()
        until = monotonic() + (NO_LIMIT_S if timeout is None else self._seconds(timeout))
        sources = await self._port.in_thread(lambda: read(folder))
        rows = await self.fetch_all(RECORDED) if await self.fetch_value(EXISTS) else []
        steps = await self._port.in_thread(lambda: prepare(sources, rows))
        return [
            step.migration for step in steps if dry_run or await self.write(step, timeout=max(0.0, until - monotonic()))
        ]

    def stats(self) -> Stats:
        """A cheap, consistent snapshot of the counters."""
        return self._check_open().stats()

    async def health(self) -> Health:
        """How it stands, and the checks behind that; costs one small read."""
        engine = self._check_open()
        failure: BaseException | None = None
        try:
            await self.fetch_value("SELECT 1", timeout=5.0)
        except errors.Error as exc:
            failure = exc
        return engine.health(failure)

    def _check_open(self) -> Engine:
        engine = self._engine
        if engine is None or not engine.is_open or self._loop is None:
            raise self._closed()
        if get_ident() != self._thread or (self._port.caller() is None and self._loop is not get_running_loop()):
            raise messages.wrong_loop(self._opened_at, id(self._loop))
        return engine

    def _try_inline(self, sql: str, params: Any, shape: Shape, cached: bool) -> Any:
        """The read's result, here and now; MISS if it must be queued."""
        loop = self._loop
        if loop is None or get_ident() != self._thread or not self._inline_on:
            return MISS  # another loop of this thread does no harm here: nothing is waited for
        try:
            profile = self._profile_of(sql)
        except TypeError:
            return MISS  # no text: the long way says so
        if profile is None or profile.stale or params.__class__ not in PLAIN:
            return MISS
        cache = self._cache
        if cached and profile.cacheable and cache is not None:
            found = cache.look(profile, shape, params)
            if found is not NONE:
                self._hits += 1
                if not self._hits % CLOCKED:
                    self._spent = perf_counter() >= self._slice_ends(loop)
                return found
        else:
            cache = None
        if not profile.cost.inline or not profile.by_readers:
            return MISS
        engine = self._engine
        if engine is None or not engine.is_open or engine.inline is None:
            return MISS
        pending = cache.pending(profile, shape, params) if cache is not None else None
        now = perf_counter()
        slice_ends = self._slice_ends(loop, now)
        try:
            found = engine.inline.run(profile, params, shape, now)
        except Exception as exc:
            engine.errors += 1
            error = engine.translate(exc, sql)
            if engine.observed:
                engine.finished_inline(sql, perf_counter() - now, None, error)
            raise error from exc
        self._spent = engine.inline.ended >= slice_ends
        if found is not MISS:
            if pending is not None and cache is not None:
                cache.keep(pending, shape, params, found)
            if engine.observed:
                engine.finished_inline(sql, engine.inline.ended - now, found, None)
        return found

    def _slice_ends(self, loop: asyncio.AbstractEventLoop, now: float | None = None) -> float:
        """When this caller has had its share of the loop's turn."""
        turn = self._turn
        if not turn.armed:
            turn.begin(perf_counter() if now is None else now)
            loop.call_soon(self._turn_over)
        return turn.slice_ends

    def _turn_over(self) -> None:
        self._turn.reset()
        if self._outside:
            self._let_in()
        engine = self._engine
        if engine is not None and engine.inline is not None:
            engine.inline.let_go()

    def _let_in(self) -> None:
        """The next callers of those who wait for a later turn; all of them where there are no turns any more."""
        loop, turn = self._loop, self._turn
        while self._outside and (loop is None or not turn.is_full):
            waiter = self._outside.popleft()
            if not waiter.done():
                waiter.set_result(None)
                turn.yields()
        if loop is not None:
            self._slice_ends(loop)  # that turn has an end too, at which the next ones come

    async def _next_turn(self) -> None:
        self._spent = False
        turn = self._turn
        loop = get_running_loop()
        if (turn.is_full or self._outside) and loop is self._loop:
            waiter: asyncio.Future[None] = loop.create_future()
            self._outside.append(waiter)
            await waiter
        else:
            turn.yields()
            await let_others_run()
        turn.resumes(perf_counter())

    async def _shaped_in_slices(self, found: list[Any], into: Any, sql: str) -> list[Any]:
        """Many rows as the caller wants them. Its own code makes them, so here; others run in between."""
        shaped: list[Any] = []
        for at in range(0, len(found), SLICE):
            shaped += self._shaped(found[at : at + SLICE], into, sql)
            await let_others_run()
        return shaped

    async def _profile(self, sql: str) -> Profile:
        engine = self._check_open()
        profile = self._profile_of(sql)
        if profile is not None and not profile.stale:
            return profile
        self._check_params(sql, None)
        try:
            if (profile := self._profile_by_reader(engine, sql)) is not None:
                return profile
        except errors.Error:
            engine.errors += 1
            raise
        question = Question(sql, lambda on: engine.profile_on(on, sql), self._terms(None, Priority.NORMAL, None))
        found: Profile = await self._write(engine, question, "profile")
        return found

    async def _queue(
        self,
        sql: str,
        params: Any,
        shape: Shape,
        timeout: float | None,
        priority: Priority,
        durability: Durability | None = None,
        *,
        cache: bool = False,
    ) -> Any:
        """The long way: whatever the statement is, to where it belongs."""
        engine = self._check_open()
        self._check_params(sql, params)
        profile = self._profile_of(sql)
        if profile is None or profile.stale:
            profile = await self._profile(sql)
        pending: Pending | None = None
        if cache and profile.cacheable and engine.cache is not None and params.__class__ in PLAIN:
            pending = engine.cache.pending(profile, shape, params)
        found = await self._answer(engine, self._send(engine, profile, params, shape, timeout, priority, durability))
        if pending is not None and engine.cache is not None:
            engine.cache.keep(pending, shape, params, found)
        return found

    async def _write(self, engine: Engine, call: WriteCall, method: str) -> Any:
        """Queue a job for the writer and wait for its answer."""
        self._submit(engine, call, method)
        return await self._answer(engine, call)

    async def _answer(self, engine: Engine, call: Waiting) -> Any:
        """Wait for a call, its deadline watched; a cancel stops it."""
        place = self._watch.add(call, call.timeout_s)
        try:
            if not engine.observed:
                return await call.waiter
            result = await call.waiter
            engine.finished(call, result, None)
            return result
        except asyncio.CancelledError as exc:
            engine.cancelled += 1
            self._give_up(engine, call)
            if engine.observed:
                engine.finished(call, None, exc)
            raise
        except GeneratorExit:
            call.waiter.cancel()  # collected, maybe while this thread holds a lock: nothing may be locked here
            raise
        except errors.Error as exc:
            engine.errors += 1
            if not isinstance(call, WriteCall) or call.reads:
                exc.applied = None  # whoever raised it could not know that it reads
            if engine.observed:
                engine.finished(call, None, exc)
            raise
        except Exception as exc:
            if engine.observed:
                engine.finished(call, None, exc)  # what a function given to `write` raised
            raise
        finally:
            place[0] = None

    async def _on_writer(self, work: Callable[[Any], Any], timeout: float | None) -> Any:
        """Run something on the only connection of a database in memory."""
        engine = self._check_open()
        question = Question("a question", work, self._terms(timeout, Priority.NORMAL, None))
        return await self._write(engine, question, "backup")

    async def _session(self, what: str, priority: Priority, timeout_s: float, place: str) -> Session:
        """A lane of one's own."""
        engine = self._check_open()
        session = self._ask_session(engine, what, priority, timeout_s, place)
        try:
            await self._answer(engine, session)
        except BaseException:
            session.give_up()
            raise
        return session

    async def _step(self, session: Session, sql: str, run: Callable[[Any], Any], timeout_s: float) -> Any:
        """Run a step of a session in its lane."""
        engine = self._check_open()
        return await self._answer(engine, session.step(self._port.waiter(), sql, run, timeout_s))

    def _late(self, call: Any) -> None:
        """A call's deadline has passed."""
        engine = self._engine
        assert engine is not None
        error = self._overdue(engine, call)
        if error is None:
            self._watch.add(call, LATE_GRACE_S)
        elif not call.waiter.done():
            call.waiter.set_exception(error)
