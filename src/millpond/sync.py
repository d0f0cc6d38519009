"""The facade for threads: the same methods as `millpond.Database`, without an event loop."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from time import monotonic, perf_counter
from types import TracebackType
from typing import Any, TypeVar, overload

from millpond import assembly, errors, messages
from millpond.callers.threads import Bound, ThreadPort, ThreadWaiter
from millpond.engine.sqlite.calls import Barrier, FunctionWrite, ManyWrite, Question, ScriptWrite, WriteCall
from millpond.engine.sqlite.calls import Transaction as FunctionTransaction
from millpond.engine.sqlite.connection import ALL, ONE, RESULT, VALUE, Connection, ExecuteResult, Shape
from millpond.engine.sqlite.copying import copy_database
from millpond.engine.sqlite.engine import Engine, Standing
from millpond.engine.sqlite.grant import Grant, Lease, LeaseState
from millpond.engine.sqlite.inline import MISS
from millpond.engine.sqlite.lanes import Session
from millpond.events import Observer
from millpond.front import (
    LATE_GRACE_S,
    NO_LIMIT_S,
    PLAIN,
    Durability,
    Front,
    Waiting,
    check_function,
    gathered,
    holding,
    leave,
)
from millpond.guesses import with_guesses
from millpond.locations import locate
from millpond.parameters import check
from millpond.places import describe
from millpond.rows import Row
from millpond.scheduling.fair_queue import Priority
from millpond.scopes import Slices, SnapshotReader, begin_reading, end_reading, warn_forgotten
from millpond.settings import Settings
from millpond.statements.cost import Lane
from millpond.statements.profile import Kind, Profile
from millpond.stats import Health, Stats

__all__ = ["Database", "RowStream", "Savepoint", "Snapshot", "TransactionScope"]

T = TypeVar("T")
Params = Sequence[Any] | Mapping[str, Any] | None


@with_guesses("Database", awaits=False)
class Database(Front):
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
        self._inline_lock = threading.Lock()
        frame = sys._getframe(1)
        self._opened_at = describe(frame.f_code, frame.f_lineno)

    def open(self) -> None:
        """Open it: creates the file if there is none, and keeps it in WAL mode. What `with` does."""
        if self._engine is not None and self._engine.standing is Standing.OPEN:
            raise errors.ProgrammingError(f"{self._location.name} is open already (opened at {self._opened_at})")
        self._port = ThreadPort()
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
        frame = sys._getframe(1)
        self._closed_at = (describe(frame.f_code, frame.f_lineno), monotonic())
        with self._inline_lock:
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
        self, sql: str, params: Params = ..., *, into: None = ..., timeout: float | None = ..., priority: Priority = ...
    ) -> list[Row]: ...
    @overload
    def fetch_all(
        self, sql: str, params: Params = ..., *, into: type[T], timeout: float | None = ..., priority: Priority = ...
    ) -> list[T]: ...
    def fetch_all(
        self,
        sql: str,
        params: Params = None,
        *,
        into: Any = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> list[Any]:
        """All rows."""
        return self._shaped(self._fetch(sql, params, ALL, timeout, priority), into)

    @overload
    def fetch_one(
        self, sql: str, params: Params = ..., *, into: None = ..., timeout: float | None = ..., priority: Priority = ...
    ) -> Row | None: ...
    @overload
    def fetch_one(
        self, sql: str, params: Params = ..., *, into: type[T], timeout: float | None = ..., priority: Priority = ...
    ) -> T | None: ...
    def fetch_one(
        self,
        sql: str,
        params: Params = None,
        *,
        into: Any = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
    ) -> Any:
        """The first row, or None."""
        found = self._fetch(sql, params, ONE, timeout, priority)
        return None if found is None else self._shaped([found], into)[0]

    def fetch_value(
        self, sql: str, params: Params = None, *, timeout: float | None = None, priority: Priority = Priority.NORMAL
    ) -> Any:
        """The first column of the first row, or None."""
        return self._fetch(sql, params, VALUE, timeout, priority)

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
        """Rows one after another, in bounded memory, all of one commit."""
        self._check_open()
        self._check_params(sql, params)
        frame = sys._getframe(1)
        return RowStream(self, sql, params, into, timeout, priority, describe(frame.f_code, frame.f_lineno))

    def execute(
        self,
        sql: str,
        params: Params = None,
        *,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        durability: Durability | None = None,
    ) -> ExecuteResult:
        """Run one statement. A write is committed, and synced by `durability`, before this returns."""
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
        *,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        durability: Durability | None = None,
    ) -> ExecuteResult:
        """Run one statement once per row of parameters, all or none."""
        engine = self._check_open()
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
        """Wait until everything acknowledged before this call survives a power cut."""
        engine = self._check_open()
        if engine.memory or not engine.writer.needs_barrier():
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
        path = locate(target).path
        wanted = True
        limit = timeout if timeout is not None else NO_LIMIT_S

        def work(connection: Connection) -> int:
            return copy_database(connection, path, progress, lambda: wanted)

        try:
            if engine.memory:
                self._on_writer(work, limit)
                return
            session = self._session("backup", Priority.LOW, self._timeout_s, "backup")
            try:
                self._step(session, "backup", work, limit)
            finally:
                wanted = False
                session.give_back(leave)
        finally:
            wanted = False

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
        super()._submit(engine, call, method)

    def _fetch(self, sql: str, params: Any, shape: Shape, timeout: float | None, priority: Priority) -> Any:
        engine = self._check_open()
        self._check_params(sql, params)
        profile = self._profile(sql)
        if self._inline_on and profile.cost.lane is Lane.INLINE and profile.by_readers:
            found = self._inline(engine, profile, params, shape)
            if found is not MISS:
                return found
        return self._answer(engine, self._send(engine, profile, params, shape, timeout, priority))

    def _inline(self, engine: Engine, profile: Profile, params: Any, shape: Shape) -> Any:
        """In this thread, one at a time: more at once only hand the GIL around."""
        assert engine.inline is not None
        try:
            with self._inline_lock:
                if engine.standing is not Standing.OPEN:
                    raise self._closed()
                return engine.inline.run(profile, params, shape, perf_counter())
        except errors.Error:
            raise
        except Exception as exc:
            engine.errors += 1
            raise engine.translate(exc, profile.sql) from exc

    def _profile(self, sql: str) -> Profile:
        engine = self._check_open()
        profile = engine.profiles.get(sql)
        if profile is not None and not profile.stale:
            return profile
        self._check_params(sql, None)
        try:
            with self._inline_lock:
                if (profile := self._profile_by_reader(engine, sql)) is not None:
                    return profile
        except errors.Error:
            engine.errors += 1
            raise
        question = Question(sql, lambda on: engine.profile_on(on, sql), self._terms(None, Priority.NORMAL, None))
        found: Profile = self._write(engine, question, "execute")
        return found

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
            return waiter.result()
        except errors.Error:
            engine.errors += 1
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


@with_guesses("a transaction", awaits=False, handle="tx")
class TransactionScope:
    """An interactive write transaction: `with db.transaction() as tx:`. Its statements run in the calling thread."""

    def __init__(
        self, db: Database, timeout: float | None, priority: Priority, durability: Any, code: Any, line: int
    ) -> None:
        self._db = db
        self._timeout = timeout
        self._priority = priority
        self._durability = durability
        self._code = code
        self._line = line
        self._lease: Lease | None = None
        self._grant: Grant | None = None
        self._savepoints = 0

    def __enter__(self) -> TransactionScope:
        db = self._db
        engine = db._check_open()
        if self._lease is not None:
            raise errors.ProgrammingError(
                "this transaction was begun already", hint="Call db.transaction() for each block."
            )
        known = engine.places.at(self._code, self._line)
        terms = db._terms(self._timeout, self._priority, self._durability)
        lease = Lease(self._code, self._line, known, terms)
        db._submit(engine, lease, "transaction")
        self._lease = lease
        try:
            db._answer(engine, lease)
        except BaseException:
            if lease.grant is not None:
                lease.grant.end(lease, keep=False)
            raise
        self._grant = lease.grant
        holding.set((*(one for one in holding.get() if one.standing is LeaseState.ACTIVE), lease))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease, grant = self._lease, self._grant
        assert lease is not None
        assert grant is not None
        self._grant = None
        holding.set(tuple(one for one in holding.get() if one is not lease))
        if grant.end(lease, keep=error is None):
            db = self._db
            engine = db._engine
            assert engine is not None
            lease.submitted = lease.last
            lease.timeout_s = db._seconds(self._timeout)
            lease.deadline = monotonic() + lease.timeout_s + LATE_GRACE_S
            db._answer(engine, lease)

    def __del__(self) -> None:
        lease, grant = self._lease, self._grant
        engine = self._db._engine
        if lease is not None and grant is not None and engine is not None and lease.standing is LeaseState.ACTIVE:
            lease.abandoned = True
            engine.writer.ring()
            warn_forgotten(engine, "transaction", lease.place)

    def execute(self, sql: str, params: Any = None, *, timeout: float | None = None) -> ExecuteResult:
        """Run one statement, without its rows."""
        result: ExecuteResult = self._run(sql, params, RESULT, timeout)
        return result

    def execute_many(self, sql: str, rows: Iterable[Any], *, timeout: float | None = None) -> ExecuteResult:
        """Run one statement once per row of parameters."""
        found = gathered(rows, sql)
        profile = self._profile(sql)

        def many(connection: Connection) -> ExecuteResult:
            return connection.whole(lambda: connection.many(profile, found))

        result: ExecuteResult = self._do(sql, many, timeout)
        return result

    def execute_script(self, sql: str, *, timeout: float | None = None) -> None:
        """Run several statements."""
        engine = self._active()

        def script(connection: Connection) -> None:
            connection.whole(lambda: engine.script_on(connection, sql, "tx"))

        self._do(sql, script, timeout)

    def fetch_all(self, sql: str, params: Any = None, *, into: Any = None, timeout: float | None = None) -> Any:
        """All rows."""
        return self._db._shaped(self._run(sql, params, ALL, timeout), into)

    def fetch_one(self, sql: str, params: Any = None, *, into: Any = None, timeout: float | None = None) -> Any:
        """The first row, or None."""
        found = self._run(sql, params, ONE, timeout)
        return None if found is None else self._db._shaped([found], into)[0]

    def fetch_value(self, sql: str, params: Any = None, *, timeout: float | None = None) -> Any:
        """The first column of the first row, or None."""
        return self._run(sql, params, VALUE, timeout)

    fetch_val = fetch_value

    def savepoint(self) -> Savepoint:
        """`with tx.savepoint():` — an exception in the block undoes the block alone."""
        self._active()
        self._savepoints += 1
        return Savepoint(self, f"millpond_{self._savepoints}")

    def _active(self) -> Engine:
        lease, grant, engine = self._lease, self._grant, self._db._engine
        if lease is None or engine is None:
            raise errors.ProgrammingError("this transaction was not begun", hint="with db.transaction() as tx: ...")
        (grant or lease.grant or _never()).check(lease)
        if grant is None:
            raise errors.ProgrammingError(
                f"the transaction opened at {lease.place} is over", hint="Use `tx` only inside its `with` block."
            )
        return engine

    def _profile(self, sql: str) -> Profile:
        engine = self._active()
        profile = engine.profiles.get(sql)
        if profile is None or profile.stale:
            if not isinstance(sql, str):
                raise errors.ProgrammingError(f"a statement is text, not {type(sql).__name__}")
            found: Profile = self._do(sql, lambda connection: engine.profile_on(connection, sql))
            profile = found
        if profile.kind is not Kind.READ and profile.kind is not Kind.WRITE:
            engine.guard_inside(profile, "tx")
        return profile

    def _run(self, sql: str, params: Any, shape: Shape, timeout: float | None) -> Any:
        if params.__class__ not in PLAIN:
            check(params, sql)
        profile = self._profile(sql)
        return self._do(sql, lambda connection: connection.query(profile, params, shape), timeout)

    def _do(self, sql: str, work: Callable[[Connection], Any], timeout: float | None = None) -> Any:
        engine = self._active()
        lease, grant = self._lease, self._grant
        assert lease is not None
        assert grant is not None
        seconds = self._db._seconds(timeout)
        bound = None if timeout is None else Bound(seconds)
        run = work if bound is None else bound.around(work)
        try:
            return grant.guarded(lease, sql, lambda: run(engine.writer_connection))
        except (TypeError, ValueError, KeyError, OverflowError) as exc:
            raise engine.translate(exc, sql) from exc
        except errors.OperationalError as exc:
            if bound is None or not bound.passed:
                raise
            engine.deadlines_missed += 1
            raise messages.deadline_exceeded(
                sql=sql, timeout_s=seconds, queue_s=0.0, lock_s=0.0, running_s=seconds, applied="no"
            ) from exc


def _never() -> Grant:
    raise errors.ProgrammingError("this transaction was not begun", hint="with db.transaction() as tx: ...")


class Savepoint:
    """A part of a transaction that can be undone by itself."""

    def __init__(self, tx: TransactionScope, name: str) -> None:
        self._tx = tx
        self._name = name

    def __enter__(self) -> TransactionScope:
        self._send("savepoint")
        return self._tx

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lease = self._tx._lease
        if error is not None and (lease is None or lease.standing is not LeaseState.ACTIVE):
            return  # the transaction is gone, and the savepoint with it
        self._send("release" if error is None else "rollback_to")

    def _send(self, step: str) -> None:
        self._tx._active()
        grant, lease = self._tx._grant, self._tx._lease
        assert lease is not None
        assert grant is not None
        getattr(grant, step)(lease, self._name)


class Snapshot(SnapshotReader):
    """Reads of one commit: `with db.snapshot() as snap:`."""

    _db: Database

    def __enter__(self) -> Snapshot:
        db = self._db
        engine = db._check_open()
        timeout_s = db._seconds(self._timeout)
        if engine.memory:
            self._take_copy(engine, db._on_writer(lambda connection: connection.db.serialize("main"), self._timeout))
            return self
        session = self._session = db._session("snapshot", self._priority, timeout_s, self._place)
        try:
            db._step(session, "BEGIN", begin_reading, timeout_s)
        except BaseException:
            session.give_back(end_reading)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()

    def fetch_all(self, sql: str, params: Any = None, *, into: Any = None, timeout: float | None = None) -> Any:
        """All rows."""
        return self._db._shaped(self._query(sql, params, ALL, timeout), into)

    def fetch_one(self, sql: str, params: Any = None, *, into: Any = None, timeout: float | None = None) -> Any:
        """The first row, or None."""
        found = self._query(sql, params, ONE, timeout)
        return None if found is None else self._db._shaped([found], into)[0]

    def fetch_value(self, sql: str, params: Any = None, *, timeout: float | None = None) -> Any:
        """The first column of the first row, or None."""
        return self._query(sql, params, VALUE, timeout)

    fetch_val = fetch_value

    def _query(self, sql: str, params: Any, shape: Shape, timeout: float | None) -> Any:
        db = self._db
        db._check_params(sql, params)
        profile = self._readable(db._profile(sql))
        if self._copy is not None:
            return self._from_copy(db._check_open(), profile, params, shape)
        seconds = db._seconds(timeout if timeout is not None else self._timeout)
        return db._step(self._lane(), sql, lambda connection: connection.query(profile, params, shape), seconds)


class RowStream:
    """Rows one after another: `for row in db.iterate(sql):`. One slice is kept at a time."""

    def __init__(
        self, db: Database, sql: str, params: Any, into: Any, timeout: float | None, priority: Priority, place: str
    ) -> None:
        self._db = db
        self._into = into
        self._timeout_s = db._seconds(timeout)
        self._priority = priority
        self._place = place
        self._slices = Slices(sql, params)
        self._rows: Iterator[Any] = iter(())

    def __iter__(self) -> RowStream:
        return self

    def __next__(self) -> Any:
        for row in self._rows:
            return row
        if self._slices.ended:
            raise StopIteration
        rows = self._more()
        self._rows = iter(self._db._shaped(rows, self._into))
        for row in self._rows:
            return row
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Free the reader."""
        self._slices.give_back()

    def __del__(self) -> None:
        self._slices.give_back()

    def _more(self) -> list[Any]:
        db, slices = self._db, self._slices
        if slices.profile is None:
            engine = db._check_open()
            profile = slices.profile = db._profile(slices.sql)
            if not profile.by_readers or engine.memory:
                slices.ended = True
                found: list[Any] = db._fetch(slices.sql, slices.params, ALL, self._timeout_s, self._priority)
                return found
            slices.session = db._session("iterate", self._priority, self._timeout_s, self._place)
        session = slices.session
        if session is None or session.given_back:
            raise StopIteration
        try:
            return slices.took(db._step(session, slices.sql, slices.next, self._timeout_s))
        except BaseException:
            slices.give_back()
            raise
