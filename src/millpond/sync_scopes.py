"""What `with` and `for` give in threads: transactions, savepoints, snapshots, row streams."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Never, TypeVar, overload

from millpond import errors, messages
from millpond.block_reads import ThreadBlockReads
from millpond.callers.threads import Bound, ThreadWaiter
from millpond.engine.sqlite.connection import ALL, RESULT, Connection, ExecuteResult, Shape
from millpond.engine.sqlite.grant import Grant, Lease, LeaseState
from millpond.engine.sqlite.inline import MISS
from millpond.engine.sqlite.slices import reading
from millpond.front import LATE_GRACE_S, PLAIN, gathered, holding, inside
from millpond.guesses import with_guesses
from millpond.parameters import check, not_text
from millpond.places import describe
from millpond.rows import Row
from millpond.scheduling.fair_queue import Priority
from millpond.scheduling.nest import Nest, Ticket
from millpond.scopes import LEASE_GRACE_S, over_already
from millpond.snapshots import SnapshotReader, begin_reading, end_reading
from millpond.statements.profile import Kind, Profile
from millpond.streams import Stream, warn_forgotten

if TYPE_CHECKING:
    from millpond.engine.sqlite.engine import Engine
    from millpond.sync import Database

__all__ = ["RowStream", "Savepoint", "Snapshot", "TransactionScope"]

R = TypeVar("R")
T = TypeVar("T")


@with_guesses("a transaction", awaits=False, handle="tx")
class TransactionScope(ThreadBlockReads):
    """An interactive write transaction: `with db.transaction() as tx:`. Its statements run in the calling thread."""

    _db: Database

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
        self._nest: Nest | None = None
        self._nest_lock = threading.Lock()

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
        if self._nest is not None:
            with self._nest_lock:
                tickets = self._nest.end()
            self._db._port.settle([(ticket, None, None) for ticket in tickets])
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

    def execute(
        self, sql: str, params: Any = None, *extra: Never, timeout: float | None = None, priority: None = None
    ) -> ExecuteResult:
        """Run one statement, without its rows."""
        if extra or timeout is not None or priority is not None:
            self._db._given(sql, None, timeout, extra, "execute", priority)
        result: ExecuteResult = self._run(sql, params, RESULT, timeout)
        return result

    def execute_many(
        self,
        sql: str,
        rows: Iterable[Any],
        *extra: Never,
        atomic: bool = True,
        timeout: float | None = None,
        priority: None = None,
    ) -> ExecuteResult:
        """Run one statement once per row of parameters."""
        if extra or not atomic or timeout is not None or priority is not None:
            self._db._given(sql, None, timeout, extra, "execute_many", priority, atomic=atomic)
        found = gathered(rows, sql)
        profile = self._profile(sql)

        def many(connection: Connection) -> ExecuteResult:
            return connection.whole(lambda: connection.many(profile, found))

        result: ExecuteResult = self._do(sql, many, timeout)
        return result

    def execute_script(self, sql: str, *, timeout: float | None = None, priority: None = None) -> None:
        """Run several statements."""
        if timeout is not None or priority is not None:
            self._db._given(sql, None, timeout, (), "execute_script", priority)
        engine = self._active()
        self._db._check_params(sql, None)

        def script(connection: Connection) -> None:
            connection.whole(lambda: engine.script_on(connection, sql, "tx"))

        self._do(sql, script, timeout)

    @overload
    def iterate(
        self, sql: str, params: Any = ..., *, into: None = ..., timeout: float | None = ...
    ) -> Iterator[Row]: ...
    @overload
    def iterate(self, sql: str, params: Any = ..., *, into: type[T], timeout: float | None = ...) -> Iterator[T]: ...
    def iterate(
        self,
        sql: str,
        params: Any = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: None = None,
    ) -> Iterator[Any]:
        """Rows one after another. They are fetched first, so the loop may change what it reads from."""
        if extra or into is not None or timeout is not None or priority is not None:
            self._db._given(sql, into, timeout, extra, "iterate", priority)
        self._active()
        self._db._check_params(sql, params)
        return self._rows(sql, params, into, timeout)

    def _rows(self, sql: str, params: Any, into: Any, timeout: float | None) -> Iterator[Any]:
        yield from self.fetch_all(sql, params, into=into, timeout=timeout)

    def savepoint(self) -> Savepoint:
        """`with tx.savepoint():` — an exception in the block undoes the block alone."""
        self._active()
        self._savepoints += 1
        frame = sys._getframe(1)
        return Savepoint(self, f"millpond_{self._savepoints}", describe(frame.f_code, frame.f_lineno))

    def _active(self) -> Engine:
        lease, grant, engine = self._lease, self._grant, self._db._engine
        if lease is None or engine is None:
            raise errors.ProgrammingError("this transaction was not begun", hint="with db.transaction() as tx: ...")
        try:
            (grant or lease.grant or _never()).check(lease)
        except errors.Error as exc:
            messages.for_threads(exc)
            raise
        if grant is None:
            raise errors.ProgrammingError(
                f"the transaction opened at {lease.place} is over", hint="Use `tx` only inside its `with` block."
            )
        return engine

    def _profile(self, sql: str) -> Profile:
        engine = self._active()
        try:
            profile = engine.profiles.get(sql)
        except TypeError:
            raise not_text(sql) from None
        if profile is None or profile.stale:
            if not isinstance(sql, str):
                raise not_text(sql)
            found: Profile = self._do(sql, lambda connection: engine.profile_on(connection, sql), counts=False)
            profile = found
        if profile.kind is not Kind.READ and profile.kind is not Kind.WRITE:
            self._db._guard(engine, profile, "tx")
        return profile

    def _run(self, sql: str, params: Any, shape: Shape, timeout: float | None) -> Any:
        if params.__class__ not in PLAIN:
            check(params, sql)
        profile = self._profile(sql)
        return self._do(sql, lambda connection: connection.query(profile, params, shape), timeout)

    def _do(
        self, sql: str, work: Callable[[Connection], Any], timeout: float | None = None, *, counts: bool = True
    ) -> Any:
        engine = self._active()
        lease, grant = self._lease, self._grant
        assert lease is not None
        assert grant is not None
        seconds = self._db._seconds(timeout)
        bound = None if timeout is None else Bound(seconds)
        run = work if bound is None else bound.around(work)
        try:
            # Looked at under the grant's lock, under which savepoints begin.
            found = grant.guarded(
                lease, sql, lambda: run(engine.writer_connection) if self._nest is None else MISS, counts=counts
            )
            if found is MISS:
                return self._guarded(sql, lambda: run(engine.writer_connection), seconds)
            return found
        except (TypeError, ValueError, KeyError, OverflowError) as exc:
            raise engine.translate(exc, sql) from exc
        except errors.ParameterError as exc:
            engine.translate(exc, sql)
            raise
        except errors.Error as exc:
            if bound is None or not bound.passed or not isinstance(exc, errors.OperationalError):
                messages.for_threads(exc)
                raise
            engine.deadlines_missed += 1
            raise messages.deadline_exceeded(
                sql=sql, timeout_s=seconds, queue_s=0.0, lock_s=0.0, running_s=seconds, applied="no"
            ) from exc

    def _guarded(
        self, sql: str, work: Callable[[], Any], seconds: float, *, chain: tuple[Any, ...] | None = None
    ) -> Any:
        """Do something with the connection, once no savepoint of another thread is open."""
        lease, grant, port = self._lease, self._grant, self._db._port
        assert lease is not None
        assert grant is not None
        ticket: Ticket | None = None
        began = monotonic()
        held = inside.get() if chain is None else chain

        def attempt() -> Any:
            nonlocal ticket
            nest = self._nest
            if nest is not None:
                with self._nest_lock:
                    if not nest.may(held, ticket):
                        waiter = port.waiter()
                        if ticket is None:
                            ticket = nest.wait(held, waiter)
                        else:
                            ticket.waiter = waiter
                        return MISS
            return work()

        try:
            while (found := grant.guarded(lease, sql, attempt)) is MISS:
                assert ticket is not None
                waiter: ThreadWaiter = ticket.waiter
                if not waiter.wait(min(began + seconds, self._lease_ends(lease)) - monotonic()):
                    self._active()
                    top = self._nest.top if self._nest is not None else None
                    raise messages.savepoint_in_the_way(
                        sql=sql, waited_s=monotonic() - began, opened=top and top.place, callers="thread"
                    )
            return found
        finally:
            if ticket is not None:
                self._leave(ticket=ticket)

    def _lease_ends(self, lease: Lease) -> float:
        return lease.granted + self._db._settings.max_lease + LEASE_GRACE_S

    def _leave(self, *, mark: Savepoint | None = None, ticket: Ticket | None = None) -> None:
        """A savepoint ended, or who waited has run: whose turn is it now?"""
        nest = self._nest
        assert nest is not None
        with self._nest_lock:
            if mark is not None:
                nest.leave(mark)
            if ticket is not None:
                nest.drop(ticket)
            following = nest.next()
        if following is not None:
            self._db._port.settle([(following, None, None)])


def _never() -> Grant:
    raise errors.ProgrammingError("this transaction was not begun", hint="with db.transaction() as tx: ...")


class Savepoint:
    """A part of a transaction that can be undone by itself. Other threads' statements on `tx` wait for its end."""

    def __init__(self, tx: TransactionScope, name: str, place: str) -> None:
        self._tx = tx
        self._name = name
        self.place = place

    def __enter__(self) -> TransactionScope:
        tx = self._tx
        tx._active()
        with tx._nest_lock:
            if tx._nest is None:
                tx._nest = Nest()
            nest = tx._nest
            if self in nest:
                raise errors.ProgrammingError(
                    "this savepoint is open already", hint="Call tx.savepoint() for each block.", applied="no"
                )
        self._run(f"SAVEPOINT {self._name}")
        inside.set((*inside.get(), self))
        return tx

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tx = self._tx
        lease = tx._lease
        inside.set(tuple(one for one in inside.get() if one is not self))
        try:
            if error is not None and (lease is None or lease.standing is not LeaseState.ACTIVE):
                return  # the transaction is gone, and the savepoint with it
            tx._active()
            if tx._nest is None or self not in tx._nest:
                if error is None:
                    raise over_already(self.place)
                return
            try:
                self._run(f"RELEASE {self._name}" if error is None else f"ROLLBACK TO {self._name}", ends=True)
            except errors.DeadlineExceeded:
                grant = tx._grant
                if grant is not None and lease is not None:
                    grant.rollback_to(lease, self._name)
                raise
        finally:
            tx._leave(mark=self)

    def _run(self, sql: str, *, ends: bool = False) -> None:
        tx = self._tx
        engine = tx._active()

        def run() -> None:
            connection, nest = engine.writer_connection, tx._nest
            assert nest is not None
            connection.run(sql)
            if sql.startswith("ROLLBACK"):
                connection.run(f"RELEASE {self._name}")
            elif not ends:
                with tx._nest_lock:
                    nest.enter(self)

        tx._guarded(sql.partition(" ")[0], run, tx._db._timeout_s, chain=(self,) if ends else None)


@with_guesses("a snapshot", awaits=False, handle="snap")
class Snapshot(SnapshotReader, ThreadBlockReads):
    """Reads of one commit: `with db.snapshot() as snap:`."""

    _db: Database

    def __enter__(self) -> Snapshot:
        db = self._db
        engine = db._check_open()
        self._begin()
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

    @overload
    def iterate(
        self, sql: str, params: Any = ..., *, into: None = ..., timeout: float | None = ...
    ) -> RowStream[Row]: ...
    @overload
    def iterate(self, sql: str, params: Any = ..., *, into: type[T], timeout: float | None = ...) -> RowStream[T]: ...
    def iterate(
        self,
        sql: str,
        params: Any = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: None = None,
    ) -> RowStream[Any]:
        """Rows of the snapshot one after another, in bounded memory."""
        db = self._db
        if extra or into is not None or timeout is not None or priority is not None:
            db._given(sql, into, timeout, extra, "iterate", priority)
        db._check_params(sql, params)
        if self._copy is None:
            self._lane()
        seconds = timeout if timeout is not None else self._timeout
        return RowStream(db, sql, params, into, seconds, self._priority, self._place, self)

    def _run(self, sql: str, params: Any, shape: Shape, timeout: float | None) -> Any:
        db = self._db
        db._check_params(sql, params)
        profile = self._readable(db._profile(sql))
        seconds = db._seconds(timeout if timeout is not None else self._timeout)
        if self._copy is not None:
            return self._from_copy(db._check_open(), profile, params, shape, seconds)
        return db._step(self._lane(), sql, reading(profile, params, shape), seconds)


class RowStream(Stream[R]):
    """Rows one after another: `for row in db.iterate(sql):`. One slice is kept at a time."""

    _db: Database

    def __iter__(self) -> RowStream[R]:
        return self

    def __next__(self) -> R:
        for row in self._rows:
            return row  # type: ignore[no-any-return]  # as `into=` says
        if self._slices.ended:
            raise StopIteration
        with self._slices:
            rows = self._more()
        self._rows = iter(self._db._shaped(rows, self._into, self._slices.sql))
        for row in self._rows:
            return row  # type: ignore[no-any-return]  # as `into=` says
        self.close()
        raise StopIteration

    def close(self) -> None:
        """Free the reader. The loop ends at once, whatever was read ahead."""
        self._rows = iter(())
        self._slices.give_back()

    def _more(self) -> list[Any]:
        db, slices = self._db, self._slices
        if slices.profile is None:
            engine = db._check_open()
            profile = db._profile(slices.sql)
            snapshot = slices.snapshot
            if snapshot is not None:
                copied: list[Any] | None = snapshot._stream(engine, slices, profile)
                if copied is not None:
                    return copied
            elif not profile.by_readers or engine.memory:
                slices.ended = True
                found: list[Any] = db._fetch(slices.sql, slices.params, ALL, self._timeout_s, self._priority)
                return found
            else:
                slices.session = db._session("iterate", self._priority, self._timeout_s, self._place)
            slices.profile = profile  # not before: who was cancelled until here begins anew
        session = slices.session
        if session is None or session.given_back:
            raise slices.gone(db)
        try:
            return slices.took(db._step(session, slices.sql, slices.next, self._timeout_s))
        except BaseException:
            slices.give_back()
            raise
