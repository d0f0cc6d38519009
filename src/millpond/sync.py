"""The facade for threads: the same methods as `millpond.Database`, without an event loop."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any, Never, TypeVar, overload

from millpond import assembly, errors, messages
from millpond.bulk import SlicesOfThread
from millpond.callers.spells import Spells
from millpond.callers.threads import ThreadPort, ThreadWaiter
from millpond.engine.sqlite.calls import Barrier, FunctionWrite, ManyWrite, Question, ScriptWrite, WriteCall, WriterOnly
from millpond.engine.sqlite.calls import Transaction as FunctionTransaction
from millpond.engine.sqlite.connection import ALL, ONE, RESULT, VALUE, Connection, ExecuteResult, Shape
from millpond.engine.sqlite.copying import Copy
from millpond.engine.sqlite.engine import Engine, Standing
from millpond.engine.sqlite.grant import Lease
from millpond.engine.sqlite.inline import MISS
from millpond.engine.sqlite.lanes import Session
from millpond.engine.sqlite.result_cache import NONE, Pending
from millpond.events import Observer
from millpond.front import (
    NO_LIMIT_S,
    Durability,
    Front,
    Waiting,
    check_function,
    gathered,
    leave,
)
from millpond.guesses import with_guesses
from millpond.migrations.files import read
from millpond.migrations.plan import Migration
from millpond.migrations.steps import EXISTS, RECORDED, prepare
from millpond.parameters import PLAIN
from millpond.places import closed_at, describe
from millpond.rows import Row
from millpond.scheduling.fair_queue import Priority
from millpond.settings import Settings
from millpond.statements.cost import Lane
from millpond.statements.profile import Profile
from millpond.stats import Health, Stats
from millpond.sync_feeds import ResultFeed, Watching
from millpond.sync_scopes import RowStream, Savepoint, Snapshot, TransactionScope

__all__ = ["Database", "ResultFeed", "RowStream", "Savepoint", "Snapshot", "TransactionScope"]

T = TypeVar("T")
Params = Sequence[Any] | Mapping[str, Any] | None

APART_S = 0.001
"""Reads further apart do not share a transaction: threads have no turns whose end would end it."""


@with_guesses("Database", awaits=False)
class Database(Front, Watching):
    """An SQLite database for threads: `with Database("bot.db") as db: db.execute(...)`.

    Arguments, methods and errors are those of `millpond.Database`. Any thread may use it; cheap reads run in
    the thread that asks, writes of all threads share their commits.
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
        self._port: ThreadPort
        frame = sys._getframe(1)
        self._opened_at = describe(frame.f_code, frame.f_lineno)

    def open(self) -> None:
        """Open it: creates the file if there is none, and keeps it in WAL mode. What `with` does."""
        if self._engine is not None and self._engine.standing is Standing.OPEN:
            raise errors.ProgrammingError(f"{self._location.name} is open already (opened at {self._opened_at})")
        self._port = ThreadPort()
        self._spells = Spells()
        engine = assembly.build(self._location, self._settings, self._port, self._observers)
        engine.open()
        self._engine = engine
        assembly.watch_over(self)

    def close(self) -> None:
        """Stop admitting, finish what is queued within `close_grace_s`, close. Twice is once."""
        engine = self._engine
        if engine is not None and engine.standing is Standing.CLOSING:
            engine.close(self._settings.close_grace_s)  # by another thread: wait for the same end
            return
        if engine is None or engine.standing is not Standing.OPEN:
            return
        self._closed_at = (closed_at(sys._getframe(1)), monotonic())
        engine.close(self._settings.close_grace_s)

    def __enter__(self) -> Database:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @overload
    def fetch_all(
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
    def fetch_all(
        self,
        sql: str,
        params: Params = ...,
        *,
        into: type[T],
        timeout: float | None = ...,
        priority: Priority = ...,
        cache: bool = ...,
    ) -> list[T]: ...
    def fetch_all(
        self,
        sql: str,
        params: Params = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        cache: bool = True,
    ) -> list[Any]:
        """All rows."""
        if extra or into is not None or timeout is not None:
            self._given(sql, into, timeout, extra, "fetch_all")
        return self._shaped(self._fetch(sql, params, ALL, timeout, priority, cache), into, sql)

    @overload
    def fetch_one(
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
    def fetch_one(
        self,
        sql: str,
        params: Params = ...,
        *,
        into: type[T],
        timeout: float | None = ...,
        priority: Priority = ...,
        cache: bool = ...,
    ) -> T | None: ...
    def fetch_one(
        self,
        sql: str,
        params: Params = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        cache: bool = True,
    ) -> Any:
        """The first row, or None."""
        if extra or into is not None or timeout is not None:
            self._given(sql, into, timeout, extra, "fetch_one")
        found = self._fetch(sql, params, ONE, timeout, priority, cache)
        return None if found is None else self._shaped([found], into, sql)[0]

    def fetch_value(
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
        return self._fetch(sql, params, VALUE, timeout, priority, cache)

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
        """Rows one after another, in bounded memory, all of one commit."""
        if extra or into is not None or timeout is not None:
            self._given(sql, into, timeout, extra, "iterate")
        self._check_open()
        self._check_params(sql, params)
        frame = sys._getframe(1)
        return RowStream(self, sql, params, into, timeout, priority, describe(frame.f_code, frame.f_lineno))

    def execute(
        self,
        sql: str,
        params: Params = None,
        *extra: Never,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        durability: Durability | None = None,
    ) -> ExecuteResult:
        """Run one statement. A write is committed, and synced by `durability`, before this returns."""
        if extra:
            self._given(sql, None, None, extra, "execute")
        engine = self._check_open()
        self._check_params(sql, params)
        profile = self._profile(sql)
        call = self._send(engine, profile, params, RESULT, timeout, priority, durability)
        result: ExecuteResult = self._answer(engine, call)
        return result

    def execute_many(
        self,
        sql: str,
        rows: Iterable[Any],
        *extra: Never,
        atomic: bool = True,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        durability: Durability | None = None,
    ) -> ExecuteResult:
        """Run one statement once per row of parameters, all or none; with atomic=False in slices."""
        if extra:
            self._given(sql, None, None, extra, "execute_many")
        if not atomic:
            return SlicesOfThread(self, sql, timeout, priority, durability).run(rows)
        engine = self._check_open()
        self._check_params(sql, None)
        found = gathered(rows, sql)
        profile = self._profile(sql)
        self._profile_for_many(engine, profile)
        if not found:
            return ExecuteResult(0, None)
        call = ManyWrite(profile, found, self._terms(timeout, priority, durability))
        result: ExecuteResult = self._write(engine, call, "execute_many")
        return result

    def execute_script(
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
        self._write(engine, call, "execute_script")

    def write(
        self,
        fn: Callable[[FunctionTransaction], T],
        *,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        durability: Durability | None = None,
    ) -> T:
        """Run `fn(tx)` atomically in the writer: read-modify-write that shares its commit with others."""
        engine = self._check_open()
        check_function(fn)
        call = FunctionWrite(fn, engine, self._terms(timeout, priority, durability))
        call.row_factory = self._row_factory
        result: T = self._write(engine, call, "write")
        return result

    def transaction(
        self,
        *,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        durability: Durability | None = None,
    ) -> TransactionScope:
        """`with db.transaction() as tx:` — an interactive write transaction, atomic and isolated."""
        self._check_open()
        frame = sys._getframe(1)
        return TransactionScope(self, timeout, priority, durability, frame.f_code, frame.f_lineno)

    def snapshot(self, *, timeout: float | None = None, priority: Priority = Priority.NORMAL) -> Snapshot:
        """`with db.snapshot() as snap:` — every read sees the commit that was the latest on entering."""
        self._check_open()
        frame = sys._getframe(1)
        return Snapshot(self, timeout, priority, describe(frame.f_code, frame.f_lineno))

    def barrier(self, *, timeout: float | None = None) -> None:
        """Wait until everything acknowledged before this call, by whatever process, survives a power cut."""
        engine = self._check_open()
        if engine.memory or not engine.writer.commits.needs_barrier():
            return
        self._write(engine, Barrier(self._terms(timeout, Priority.HIGH, "full")), "barrier")

    def backup(
        self,
        target: str | PathLike[str],
        *,
        progress: Callable[[int, int], None] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Copy the database, as it is now, to the file `target`. progress: called in the reader's thread."""
        engine = self._check_open()
        limit = self._seconds(timeout) if timeout is not None else NO_LIMIT_S
        with Copy(target, progress) as copy:
            if engine.memory:
                self._on_writer(copy.run, limit)
            else:
                session = self._session("backup", Priority.LOW, self._timeout_s, "backup")
                try:
                    self._step(session, "backup", copy.run, limit)
                finally:
                    session.give_back(leave)
            copy.publish()

    def migrate(
        self, folder: str | PathLike[str], *, dry_run: bool = False, timeout: float | None = None
    ) -> list[Migration]:
        """Apply a folder's numbered .sql and .py files that were not applied yet; as `millpond.Database.migrate`."""
        until = monotonic() + (NO_LIMIT_S if timeout is None else self._seconds(timeout))
        steps = prepare(read(folder), self.fetch_all(RECORDED) if self.fetch_value(EXISTS) else [])
        return [one.migration for one in steps if dry_run or self.write(one, timeout=max(0.0, until - monotonic()))]

    def stats(self) -> Stats:
        """A cheap, consistent snapshot of the counters."""
        return self._check_open().stats()

    def health(self) -> Health:
        """How it stands, and the checks behind that; costs one small read."""
        engine = self._check_open()
        failure: BaseException | None = None
        try:
            self.fetch_value("SELECT 1", timeout=5.0)
        except errors.Error as exc:
            failure = exc
        return engine.health(failure)

    def _holds_writer(self, engine: Engine) -> bool:
        return threading.get_ident() == engine.writer.thread_id or super()._holds_writer(engine)

    def _submit(self, engine: Engine, call: WriteCall, method: str) -> None:
        """Queue a job for the writer; not from within a function that the writer runs, which would wait for itself."""
        if threading.get_ident() == engine.writer.thread_id:
            raise messages.would_wait_in_write(method)
        if isinstance(call, WriterOnly) and engine.inline is not None:
            with engine.inline_lock:
                engine.inline.let_go()  # a checkpoint, say, would wait for the transaction that is kept
        super()._submit(engine, call, method)

    def _fetch(
        self, sql: str, params: Any, shape: Shape, timeout: float | None, priority: Priority, cached: bool = False
    ) -> Any:
        engine = self._check_open()
        self._check_params(sql, params)
        profile = self._profile(sql)
        cache = engine.cache if cached and profile.cacheable and params.__class__ in PLAIN else None
        pending: Pending | None = None
        if cache is not None:
            found = cache.look(profile, shape, params)
            if found is not NONE:
                return found
            pending = cache.pending(profile, shape, params)
        found = MISS
        if self._inline_on and profile.cost.lane is Lane.INLINE and profile.by_readers:
            found = self._inline(engine, profile, params, shape)
        if found is MISS:
            found = self._answer(engine, self._send(engine, profile, params, shape, timeout, priority))
        if pending is not None and cache is not None:
            cache.keep(pending, shape, params, found)
        return found

    def _inline(self, engine: Engine, profile: Profile, params: Any, shape: Shape) -> Any:
        """In this thread, one at a time: more at once only hand the GIL around."""
        reader, spells, me = engine.inline, self._spells, threading.get_ident()
        assert reader is not None
        began = spells.enter(me, perf_counter())
        try:
            with engine.inline_lock:
                if not engine.is_open:
                    raise self._closed()
                if began - reader.ended > APART_S:
                    reader.let_go()
                found = reader.run(profile, params, shape, began)
                if engine.observed and found is not MISS:
                    engine.finished_inline(profile.sql, reader.ended - began, found, None)
                return found
        except errors.Error:
            raise
        except Exception as exc:
            engine.errors += 1
            error = engine.translate(exc, profile.sql)
            if engine.observed:
                engine.finished_inline(profile.sql, 0.0, None, error)
            raise error from exc
        finally:
            spells.leave(me, perf_counter())

    def _profile(self, sql: str) -> Profile:
        engine = self._check_open()
        profile = engine.profiles.get(sql)
        if profile is not None and not profile.stale:
            return profile
        self._check_params(sql, None)
        try:
            with engine.inline_lock:
                if (profile := self._profile_by_reader(engine, sql)) is not None:
                    return profile
        except errors.Error as exc:
            engine.errors += 1
            messages.for_threads(exc)
            raise
        question = Question(sql, lambda on: engine.profile_on(on, sql), self._terms(None, Priority.NORMAL, None))
        found: Profile = self._write(engine, question, "execute")
        return found

    def _closed(self) -> errors.Error:
        return messages.for_threads(super()._closed())

    def _not_for_itself(self, engine: Engine, held: tuple[Lease, ...], method: str) -> None:
        try:
            super()._not_for_itself(engine, held, method)
        except errors.Error as exc:
            messages.for_threads(exc)
            raise

    def _guard(self, engine: Engine, profile: Profile, where: str) -> None:
        try:
            super()._guard(engine, profile, where)
        except errors.Error as exc:
            messages.for_threads(exc)
            raise

    def _write(self, engine: Engine, call: WriteCall, method: str) -> Any:
        """Queue a job for the writer and wait for its answer."""
        self._submit(engine, call, method)
        return self._answer(engine, call)

    def _answer(self, engine: Engine, call: Waiting) -> Any:
        """Wait for a call until its deadline; KeyboardInterrupt stops it."""
        waiter: ThreadWaiter = call.waiter
        try:
            assert call.deadline is not None
            while not waiter.wait(call.deadline - monotonic()):
                error = self._overdue(engine, call)
                if error is not None:
                    waiter.settle(None, error)
            result = waiter.result()
            if engine.observed:
                engine.finished(call, result, None)
            return result
        except errors.Error as exc:
            engine.errors += 1
            messages.for_threads(exc)
            if not isinstance(call, WriteCall) or call.reads:
                exc.applied = None
            if engine.observed:
                engine.finished(call, None, exc)
            raise
        except Exception as exc:
            if engine.observed:
                engine.finished(call, None, exc)  # what a function given to `write` raised
            raise
        except (KeyboardInterrupt, SystemExit):
            engine.cancelled += 1
            waiter.give_up()
            self._give_up(engine, call)
            raise

    def _on_writer(self, work: Callable[[Connection], Any], timeout: float | None) -> Any:
        """Run something on the only connection of a database in memory."""
        engine = self._check_open()
        question = Question("a question", work, self._terms(timeout, Priority.NORMAL, None))
        return self._write(engine, question, "backup")

    def _session(self, what: str, priority: Priority, timeout_s: float, place: str) -> Session:
        engine = self._check_open()
        session = self._ask_session(engine, what, priority, timeout_s, place)
        try:
            self._answer(engine, session)
        except BaseException:
            session.give_up()
            raise
        return session

    def _step(self, session: Session, sql: str, run: Callable[[Connection], Any], timeout_s: float) -> Any:
        engine = self._check_open()
        return self._answer(engine, session.step(self._port.waiter(), sql, run, timeout_s))
