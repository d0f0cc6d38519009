"""What `async with` and `async for` give: transactions, savepoints, snapshots, row streams."""

from __future__ import annotations

import asyncio
import types
import warnings
from collections.abc import AsyncIterable, Iterable, Iterator
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, overload

from millpond import errors
from millpond.engine.sqlite.connection import ALL, ONE, RESULT, VALUE, Columns, Connection, ExecuteResult, Shape
from millpond.engine.sqlite.grant import ACTIVE, Grant, Lease, LeaseState
from millpond.front import NO_LIMIT_S, PLAIN, gathered, holding
from millpond.guesses import with_guesses
from millpond.parameters import check
from millpond.places import describe
from millpond.rows import Row
from millpond.scheduling.fair_queue import Priority
from millpond.statements.profile import Profile

if TYPE_CHECKING:
    from millpond.database import Database
    from millpond.engine.sqlite.engine import Engine
    from millpond.engine.sqlite.lanes import Session

__all__ = [
    "RowStream", "Savepoint", "Slices", "Snapshot", "SnapshotReader", "TransactionScope", "begin_reading",
    "end_reading", "warn_forgotten",
]  # fmt: skip

T = TypeVar("T")

FIRST_SLICE = 64
INLINE_ROWS = 20
SLICE = 1_000
"""Rows per step of a stream: few at first, so that the first comes soon; then enough to make hops cheap."""


@with_guesses("a transaction", awaits=True, handle="tx")
class TransactionScope:
    """An interactive write transaction: `async with db.transaction() as tx:`.

    Its methods are the database's. What it writes is seen by others only after the block; an exception in
    the block, or a cancel, undoes all of it. It belongs to this object, not to a task: `gather` inside is safe.
    """

    _lease: Lease | None = None
    _grant: Grant | None = None
    _savepoints = 0
    _turn = 0

    def __init__(
        self, db: Database, timeout: float | None, priority: Priority, durability: Any, code: Any, line: int
    ) -> None:
        self._db = db
        self._terms = (timeout, priority, durability)
        self._code = code
        self._line = line

    def __repr__(self) -> str:
        standing = self._lease.standing.value if self._lease is not None else "not begun"
        return f"<transaction opened at {describe(self._code, self._line)}: {standing}>"

    async def __aenter__(self) -> TransactionScope:
        db = self._db
        engine = db._engine
        if engine is None or not engine.is_open:
            raise db._closed()
        if self._lease is not None:
            raise errors.ProgrammingError(
                "this transaction was begun already", hint="Call db.transaction() for each block."
            )
        port = db._port
        known = engine.places.at(self._code, self._line)
        terms = db._terms(*self._terms)
        lease = Lease(self._code, self._line, known, terms)
        db._submit(engine, lease, "transaction")
        self._lease = lease
        try:
            if lease.standing is not ACTIVE:
                await db._answer(engine, lease)
            while lease.offered is not None and lease.offered.wait_again(lease):
                await db._answer(engine, lease)
            if lease.standing is not ACTIVE:
                raise lease.cause or errors.TransactionLost(f"the transaction opened at {lease.place} was not begun")
        except BaseException:
            if lease.grant is not None:
                lease.grant.end(lease, keep=False)  # it came just as its caller was cancelled
            raise
        self._grant = lease.grant
        held = holding.get()
        # A task that was started inside another transaction inherits it, and may outlive it.
        holding.set((*(one for one in held if one.standing is ACTIVE), lease) if held else (lease,))
        self._turn = port.turn()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        lease, grant = self._lease, self._grant
        assert lease is not None
        assert grant is not None
        self._grant = None
        held = holding.get()
        holding.set(() if len(held) == 1 and held[0] is lease else tuple(one for one in held if one is not lease))
        keep = error is None
        if grant.inbox:
            operation = grant.send("end", lambda: grant.end(lease, keep=keep), NO_LIMIT_S, always=True)
            waits = await operation.waiter
        else:
            waits = grant.end(lease, keep=keep, awaited=self._turn != self._db._port.turn())
        if waits:
            engine = self._db._engine
            assert engine is not None
            lease.submitted = lease.last
            lease.deadline = lease.last + lease.timeout_s
            await self._db._answer(engine, lease)

    def __del__(self) -> None:
        lease, grant = self._lease, self._grant
        if lease is None or grant is None or lease.standing is not ACTIVE:
            return
        lease.abandoned = True
        engine = self._db._engine
        if engine is not None:
            engine.writer.ring()
            warn_forgotten(engine, "transaction", lease.place)

    async def execute(self, sql: str, params: Any = None, *, timeout: float | None = None) -> ExecuteResult:
        """Run one statement, without its rows."""
        result: ExecuteResult = await self._run(sql, params, RESULT, timeout)
        return result

    async def execute_many(
        self, sql: str, rows: Iterable[Any] | AsyncIterable[Any], *, timeout: float | None = None
    ) -> ExecuteResult:
        """Run one statement once per row of parameters."""
        found = gathered([row async for row in rows] if isinstance(rows, AsyncIterable) else rows, sql)
        profile = self._profile(sql)

        def many(connection: Connection) -> ExecuteResult:
            return connection.whole(lambda: connection.many(profile, found))

        result: ExecuteResult = await self._do(sql, many, timeout, in_thread=len(found) > INLINE_ROWS)
        return result

    async def execute_script(self, sql: str, *, timeout: float | None = None) -> None:
        """Run several statements."""
        engine = self._active()

        def script(connection: Connection) -> None:
            connection.whole(lambda: engine.script_on(connection, sql, "tx"))

        await self._do(sql, script, timeout, in_thread=True)

    @overload
    async def fetch_all(
        self, sql: str, params: Any = ..., *, into: None = ..., timeout: float | None = ...
    ) -> list[Row]: ...
    @overload
    async def fetch_all(
        self, sql: str, params: Any = ..., *, into: type[T], timeout: float | None = ...
    ) -> list[T]: ...
    async def fetch_all(self, sql: str, params: Any = None, *, into: Any = None, timeout: float | None = None) -> Any:
        """All rows."""
        found = await self._run(sql, params, ALL, timeout)
        return self._db._shaped(found, into) if into is not None or self._db._row_factory is not None else found

    @overload
    async def fetch_one(
        self, sql: str, params: Any = ..., *, into: None = ..., timeout: float | None = ...
    ) -> Row | None: ...
    @overload
    async def fetch_one(
        self, sql: str, params: Any = ..., *, into: type[T], timeout: float | None = ...
    ) -> T | None: ...
    async def fetch_one(self, sql: str, params: Any = None, *, into: Any = None, timeout: float | None = None) -> Any:
        """The first row, or None."""
        found = await self._run(sql, params, ONE, timeout)
        if found is None or (into is None and self._db._row_factory is None):
            return found
        return self._db._shaped([found], into)[0]

    async def fetch_value(self, sql: str, params: Any = None, *, timeout: float | None = None) -> Any:
        """The first column of the first row, or None."""
        return await self._run(sql, params, VALUE, timeout)

    fetch_val = fetch_value

    def savepoint(self) -> Savepoint:
        """`async with tx.savepoint():` — an exception in the block undoes the block alone."""
        self._active()
        self._savepoints += 1
        return Savepoint(self, f"millpond_{self._savepoints}")

    def _active(self) -> Engine:
        lease, grant = self._lease, self._grant
        engine = self._db._engine
        if lease is None or engine is None:
            raise errors.ProgrammingError(
                "this transaction was not begun", hint="async with db.transaction() as tx: ..."
            )
        if grant is None:
            if lease.grant is not None:
                lease.grant.check(lease)
            raise errors.ProgrammingError(
                f"the transaction opened at {lease.place} is over", hint="Use `tx` only inside its `async with` block."
            )
        grant.check(lease)
        return engine

    def _profile(self, sql: str) -> Profile:
        engine = self._active()
        profile = engine.profiles.get(sql)
        if profile is None or profile.stale:
            if not isinstance(sql, str):
                raise errors.ProgrammingError(f"a statement is text, not {type(sql).__name__}")
            grant, lease = self._grant, self._lease
            assert lease is not None
            assert grant is not None
            profile = grant.guarded(lease, sql, lambda: engine.profile_on(engine.writer_connection, sql))
            assert isinstance(profile, Profile)
        if not profile.is_read and not profile.is_write:
            engine.guard_inside(profile, "tx")
        return profile

    async def _run(self, sql: str, params: Any, shape: Shape, timeout: float | None) -> Any:
        if params.__class__ not in PLAIN:
            check(params, sql)
        engine, grant, lease = self._db._engine, self._grant, self._lease
        if grant is None or lease is None or engine is None:
            self._active()
            raise AssertionError("a transaction without a grant is not active")
        profile = engine.profiles.get(sql)
        if profile is None or profile.stale or not (profile.is_read or profile.is_write):
            profile = self._profile(sql)
        try:
            if grant.inbox or not profile.cost.inline:
                return await self._in_thread(sql, lambda: grant.run(lease, profile, params, shape), profile, timeout)
            return grant.run(lease, profile, params, shape)
        except (TypeError, ValueError, KeyError, OverflowError) as exc:
            raise engine.translate(exc, sql) from exc

    async def _do(self, sql: str, work: Any, timeout: float | None, *, in_thread: bool) -> Any:
        engine = self._active()
        grant, lease = self._grant, self._lease
        assert lease is not None
        assert grant is not None

        def run() -> Any:
            try:
                return grant.guarded(lease, sql, lambda: work(engine.writer_connection))
            except (TypeError, ValueError, KeyError, OverflowError) as exc:
                raise engine.translate(exc, sql) from exc

        if in_thread or grant.busy:
            return await self._in_thread(sql, run, None, timeout)
        return run()

    async def _in_thread(self, sql: str, run: Any, profile: Profile | None, timeout: float | None) -> Any:
        """Let the writer's thread run it, until the timeout or the lease's limit."""
        grant, lease, db = self._grant, self._lease, self._db
        assert grant is not None
        assert lease is not None
        sent = monotonic()
        left_s = max(0.0, lease.granted + db._settings.max_lease - sent)
        operation = grant.send(sql, run, min(db._seconds(timeout), left_s))
        place = db._watch.add(operation, operation.timeout_s)
        try:
            return await operation.waiter
        except asyncio.CancelledError:
            grant.stop(operation, is_read=profile is not None and profile.is_read)
            raise
        finally:
            place[0] = None
            lease.sent_s += monotonic() - sent  # the database's time, not the holder's


class Savepoint:
    """A part of a transaction that can be undone by itself."""

    def __init__(self, tx: TransactionScope, name: str) -> None:
        self._tx = tx
        self._name = name

    async def __aenter__(self) -> TransactionScope:
        await self._send("savepoint")
        return self._tx

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        lease = self._tx._lease
        if error is not None and (lease is None or lease.standing is not LeaseState.ACTIVE):
            return  # the transaction is gone, and the savepoint with it
        await self._send("release" if error is None else "rollback_to")

    async def _send(self, step: str) -> None:
        tx = self._tx
        tx._active()
        grant, lease = tx._grant, tx._lease
        assert lease is not None
        assert grant is not None
        act = getattr(grant, step)
        if grant.busy:
            await tx._in_thread(step, lambda: act(lease, self._name), None, None)
        else:
            act(lease, self._name)


class SnapshotReader:
    """What the snapshots of both facades share."""

    def __init__(self, db: Any, timeout: float | None, priority: Priority, place: str) -> None:
        self._db = db
        self._timeout = timeout
        self._priority = priority
        self._place = place
        self._session: Session | None = None
        self._copy: Connection | None = None

    def __del__(self) -> None:
        session = self._session
        if session is not None and not session.given_back:
            session.give_back(end_reading)
            engine = self._db._engine
            if engine is not None:
                warn_forgotten(engine, "snapshot", self._place)

    def _take_copy(self, engine: Engine, image: bytes | None) -> None:
        """A database in memory has one connection: its snapshot is a copy."""
        self._copy = Connection(engine.setup, readonly=False, uri=":memory:")
        if image:
            self._copy.db.deserialize("main", image)
            self._copy.look_at_schema()

    def _from_copy(self, engine: Engine, profile: Profile, params: Any, shape: Shape) -> Any:
        assert self._copy is not None
        try:
            return self._copy.query(profile, params, shape)
        except Exception as exc:
            raise engine.translate(exc, profile.sql) from exc

    def _give_back(self) -> None:
        if self._session is not None:
            self._session.give_back(end_reading)
        if self._copy is not None:
            self._copy.close()
            self._copy = None

    def _readable(self, profile: Profile) -> Profile:
        if not profile.is_read:
            raise errors.ProgrammingError(
                "a snapshot only reads",
                hint="Write through `db`; the snapshot will not see it.",
                sql=profile.sql,
                applied="no",
            )
        if not profile.by_readers:
            raise errors.ProgrammingError(
                "a snapshot has neither temporary tables nor last_insert_rowid() and changes()",
                hint="They belong to the connection that writes. Ask `db`, or `tx` inside a transaction.",
                sql=profile.sql,
            )
        return profile

    def _lane(self) -> Session:
        session = self._session
        if session is None or session.given_back:
            raise errors.ProgrammingError("this snapshot is over", hint="Use it only inside its `with` block.")
        return session


class Snapshot(SnapshotReader):
    """Reads of one commit: `async with db.snapshot() as snap:`. Writes go on beside it, unseen.

    It keeps a reader, and the log from being emptied, for as long as it lasts. A database in memory is
    copied for it.
    """

    _db: Database

    async def __aenter__(self) -> Snapshot:
        db = self._db
        engine = db._check_open()
        timeout_s = db._seconds(self._timeout)
        if engine.memory:
            image = await db._on_writer(lambda connection: connection.db.serialize("main"), self._timeout)
            self._take_copy(engine, image)
            return self
        session = self._session = await db._session("snapshot", self._priority, timeout_s, self._place)
        try:
            await db._step(session, "BEGIN", begin_reading, timeout_s)
        except BaseException:
            session.give_back(end_reading)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._give_back()

    async def fetch_all(self, sql: str, params: Any = None, *, into: Any = None, timeout: float | None = None) -> Any:
        """All rows."""
        return self._db._shaped(await self._query(sql, params, ALL, timeout), into)

    async def fetch_one(self, sql: str, params: Any = None, *, into: Any = None, timeout: float | None = None) -> Any:
        """The first row, or None."""
        found = await self._query(sql, params, ONE, timeout)
        return None if found is None else self._db._shaped([found], into)[0]

    async def fetch_value(self, sql: str, params: Any = None, *, timeout: float | None = None) -> Any:
        """The first column of the first row, or None."""
        return await self._query(sql, params, VALUE, timeout)

    fetch_val = fetch_value

    async def _query(self, sql: str, params: Any, shape: Shape, timeout: float | None) -> Any:
        db = self._db
        db._check_params(sql, params)
        profile = self._readable(await db._profile(sql))
        if self._copy is not None:
            return self._from_copy(db._check_open(), profile, params, shape)
        seconds = db._seconds(timeout if timeout is not None else self._timeout)
        return await db._step(self._lane(), sql, lambda connection: connection.query(profile, params, shape), seconds)


class Slices:
    """The rows of a running statement in a lane, some at a time."""

    def __init__(self, sql: str, params: Any) -> None:
        self.sql = sql
        self.params = params
        self.profile: Profile | None = None
        self.session: Session | None = None
        self.ended = False
        self._cursor: Any = None
        self._columns: Profile | Columns | None = None
        self._size = FIRST_SLICE

    def next(self, connection: Connection) -> tuple[list[Any], bool]:
        """In the lane: the next rows, and whether they are the last."""
        assert self.profile is not None
        if self._cursor is None:
            self._cursor = connection.db.cursor()
            self._cursor.execute(self.sql, self.params)
            self._columns = connection.begun(self._cursor, self.profile)
        assert self._columns is not None
        found = connection.converted(self._columns, list(islice(self._cursor, self._size)))
        return list(map(self._columns.row, found)), len(found) < self._size

    def took(self, answer: tuple[list[Any], bool]) -> list[Any]:
        """In the caller: note what came."""
        rows, over = answer
        self._size = SLICE
        if over:
            self.give_back()
        return rows

    def give_back(self) -> None:
        """Free the reader. Twice is once."""
        self.ended = True
        session = self.session
        if session is not None and not session.given_back:
            cursor = self._cursor

            def close(_connection: Connection) -> None:
                if cursor is not None:
                    cursor.close(True)

            session.give_back(close)


class RowStream:
    """Rows one after another: `async for row in db.iterate(sql):`. One slice is kept at a time.

    Its reader is freed at the end, when the loop is left, at `aclose()`, and when it is collected.
    """

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

    def __aiter__(self) -> RowStream:
        return self

    async def __anext__(self) -> Any:
        for row in self._rows:
            return row
        if self._slices.ended:
            raise StopAsyncIteration
        self._rows = iter(self._db._shaped(await self._more(), self._into))
        for row in self._rows:
            return row
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Free the reader."""
        self._slices.give_back()

    def __del__(self) -> None:
        self._slices.give_back()

    async def _more(self) -> list[Any]:
        db, slices = self._db, self._slices
        if slices.profile is None:
            engine = db._check_open()
            profile = slices.profile = await db._profile(slices.sql)
            if not profile.by_readers or engine.memory:
                slices.ended = True
                found: list[Any] = await db._queue(slices.sql, slices.params, ALL, self._timeout_s, self._priority)
                return found
            slices.session = await db._session("iterate", self._priority, self._timeout_s, self._place)
        session = slices.session
        if session is None or session.given_back:
            raise StopAsyncIteration
        try:
            return slices.took(await db._step(session, slices.sql, slices.next, self._timeout_s))
        except BaseException:
            slices.give_back()
            raise


def warn_forgotten(engine: Engine, what: str, place: str) -> None:
    """Name the line that opened what nobody closed."""
    engine.leaked(what, place)
    warnings.warn(f"the {what} opened at {place} was forgotten; it is given back", ResourceWarning, stacklevel=3)


def begin_reading(connection: Connection) -> None:
    """First step of a snapshot: the read pins the commit."""
    connection.run("BEGIN")
    connection.look_at_schema()


def end_reading(connection: Connection) -> None:
    """Last step of a snapshot."""
    if connection.db.in_transaction:
        connection.run("ROLLBACK")
