"""`async with db.transaction() as tx:` and its savepoints."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any, Never, TypeVar, overload

from millpond import errors, messages
from millpond.block_reads import BlockReads
from millpond.engine.sqlite.connection import RESULT, Connection, ExecuteResult, Shape
from millpond.engine.sqlite.grant import ACTIVE, Grant, Lease, LeaseState
from millpond.front import NO_LIMIT_S, PLAIN, gathered, holding, inside
from millpond.guesses import with_guesses
from millpond.parameters import check, not_text
from millpond.places import describe
from millpond.rows import Row
from millpond.scheduling.fair_queue import Priority
from millpond.scheduling.nest import Nest, Ticket
from millpond.statements.profile import Profile
from millpond.streams import warn_forgotten

if TYPE_CHECKING:
    from millpond.database import Database
    from millpond.engine.sqlite.engine import Engine

__all__ = ["Savepoint", "TransactionScope", "over_already"]

T = TypeVar("T")
R = TypeVar("R")

INLINE_ROWS = 20
LEASE_GRACE_S = 0.1
"""Who waits in a transaction is told of the end of its lease by the lease, not by a clock of its own."""


@with_guesses("a transaction", awaits=True, handle="tx")
class TransactionScope(BlockReads):
    """An interactive write transaction: `async with db.transaction() as tx:`.

    Its methods are the database's. What it writes is seen by others only after the block; an exception in
    the block, or a cancel, undoes all of it. It belongs to this object, not to a task: `gather` inside is safe.
    While a savepoint is open, tasks that were not started inside it wait for its end.
    """

    _db: Database
    _lease: Lease | None = None
    _grant: Grant | None = None
    _savepoints = 0
    _turn = 0
    _nest: Nest | None = None

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
        except GeneratorExit:
            self._abandon(lease)
            raise
        except BaseException:
            if lease.grant is not None:
                lease.grant.end(lease, keep=False)  # it came just as its caller was cancelled
            raise
        self._grant = lease.grant
        held = holding.get()
        # A task that was started inside another transaction inherits it, and may outlive it.
        holding.set((*(one for one in held if one.standing is ACTIVE), lease) if held else (lease,))
        self._turn = port.turn()
        lease.begun = monotonic()
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
        if kind is GeneratorExit:
            self._abandon(lease)
            return
        held = holding.get()
        holding.set(() if len(held) == 1 and held[0] is lease else tuple(one for one in held if one is not lease))
        keep = error is None
        if self._nest is not None:
            self._db._port.settle([(ticket, None, None) for ticket in self._nest.end()])
            self._nest = None
        if grant.inbox:
            operation = grant.send("end", lambda: grant.end(lease, keep=keep), NO_LIMIT_S, always=True)
            waits = await operation.waiter
        else:
            waits = grant.end(lease, keep=keep, awaited=self._turn != self._db._port.turn())
        if waits:
            engine = self._db._engine
            assert engine is not None
            lease.submitted = lease.last
            lease.overdue = 0
            lease.deadline = lease.last + lease.timeout_s
            await self._db._answer(engine, lease)

    def __del__(self) -> None:
        lease, grant = self._lease, self._grant
        if lease is None or grant is None or lease.standing is not ACTIVE:
            return
        self._abandon(lease)
        engine = self._db._engine
        if engine is not None:
            warn_forgotten(engine, "transaction", lease.place)

    def _abandon(self, lease: Lease) -> None:
        """Its coroutine is collected, maybe while this thread holds a lock: the writer's thread is to undo it."""
        lease.abandoned = True
        engine = self._db._engine
        if engine is not None:
            engine.writer.ring()

    async def execute(
        self, sql: str, params: Any = None, *extra: Never, timeout: float | None = None, priority: None = None
    ) -> ExecuteResult:
        """Run one statement, without its rows."""
        if extra or timeout is not None or priority is not None:
            self._db._given(sql, None, timeout, extra, "execute", priority)
        result: ExecuteResult = await self._run(sql, params, RESULT, timeout)
        return result

    async def execute_many(
        self,
        sql: str,
        rows: Iterable[Any] | AsyncIterable[Any],
        *extra: Never,
        atomic: bool = True,
        timeout: float | None = None,
        priority: None = None,
    ) -> ExecuteResult:
        """Run one statement once per row of parameters."""
        if extra or not atomic or timeout is not None or priority is not None:
            self._db._given(sql, None, timeout, extra, "execute_many", priority, atomic=atomic)
        found = gathered([row async for row in rows] if isinstance(rows, AsyncIterable) else rows, sql)
        profile = self._profile(sql)

        def many(connection: Connection) -> ExecuteResult:
            return connection.whole(lambda: connection.many(profile, found))

        result: ExecuteResult = await self._do(sql, many, timeout, in_thread=len(found) > INLINE_ROWS)
        return result

    async def execute_script(self, sql: str, *, timeout: float | None = None, priority: None = None) -> None:
        """Run several statements."""
        if timeout is not None or priority is not None:
            self._db._given(sql, None, timeout, (), "execute_script", priority)
        engine = self._active()
        self._db._check_params(sql, None)

        def script(connection: Connection) -> None:
            connection.whole(lambda: engine.script_on(connection, sql, "tx"))

        await self._do(sql, script, timeout, in_thread=True)

    @overload
    def iterate(
        self, sql: str, params: Any = ..., *, into: None = ..., timeout: float | None = ...
    ) -> AsyncIterator[Row]: ...
    @overload
    def iterate(
        self, sql: str, params: Any = ..., *, into: type[T], timeout: float | None = ...
    ) -> AsyncIterator[T]: ...
    def iterate(
        self,
        sql: str,
        params: Any = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: None = None,
    ) -> AsyncIterator[Any]:
        """Rows one after another. They are fetched first, so the loop may change what it reads from."""
        if extra or into is not None or timeout is not None or priority is not None:
            self._db._given(sql, into, timeout, extra, "iterate", priority)
        self._active()
        self._db._check_params(sql, params)
        return self._rows(sql, params, into, timeout)

    async def _rows(self, sql: str, params: Any, into: Any, timeout: float | None) -> AsyncIterator[Any]:
        for row in await self.fetch_all(sql, params, into=into, timeout=timeout):
            yield row

    def savepoint(self) -> Savepoint:
        """`async with tx.savepoint():` — an exception in the block undoes the block alone."""
        self._active()
        self._savepoints += 1
        frame = sys._getframe(1)
        return Savepoint(self, f"millpond_{self._savepoints}", describe(frame.f_code, frame.f_lineno))

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
        if not isinstance(sql, str):
            raise not_text(sql)
        profile = engine.profiles.get(sql)
        if profile is None or profile.stale:
            grant, lease = self._grant, self._lease
            assert lease is not None
            assert grant is not None
            profile = grant.guarded(lease, sql, lambda: engine.profile_on(engine.writer_connection, sql), counts=False)
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
        if self._nest is not None:
            timeout = await self._own_turn(sql, timeout)
        try:
            profile = engine.profiles.get(sql)
        except TypeError:
            raise not_text(sql) from None
        if profile is None or profile.stale or not (profile.is_read or profile.is_write):
            if grant.inbox:  # the thread has the connection: what the statement is, is asked there too
                return await self._in_thread(sql, lambda: self._run_new(sql, params, shape), None, timeout)
            profile = self._profile(sql)
        try:
            if grant.inbox or not profile.cost.inline:
                return await self._in_thread(sql, lambda: grant.run(lease, profile, params, shape), profile, timeout)
            return grant.run(lease, profile, params, shape)
        except (TypeError, ValueError, KeyError, OverflowError) as exc:
            raise engine.translate(exc, sql) from exc
        except errors.ParameterError as exc:
            engine.translate(exc, sql)
            raise

    def _run_new(self, sql: str, params: Any, shape: Shape) -> Any:
        """In the writer's thread: a statement that is not known yet."""
        engine, grant, lease = self._db._engine, self._grant, self._lease
        if grant is None or lease is None or engine is None:
            raise errors.ProgrammingError("this transaction is over")
        try:
            return grant.run(lease, self._profile(sql), params, shape)
        except (TypeError, ValueError, KeyError, OverflowError) as exc:
            raise engine.translate(exc, sql) from exc

    async def _do(self, sql: str, work: Any, timeout: float | None, *, in_thread: bool) -> Any:
        engine = self._active()
        grant, lease = self._grant, self._lease
        assert lease is not None
        assert grant is not None
        if self._nest is not None:
            timeout = await self._own_turn(sql, timeout)

        def run() -> Any:
            try:
                return grant.guarded(lease, sql, lambda: work(engine.writer_connection))
            except (TypeError, ValueError, KeyError, OverflowError) as exc:
                raise engine.translate(exc, sql) from exc
            except errors.ParameterError as exc:
                engine.translate(exc, sql)
                raise

        if in_thread or grant.busy:
            return await self._in_thread(sql, run, None, timeout)
        return run()

    async def _own_turn(
        self, sql: str, timeout: float | None, mark: Savepoint | None = None, ends: Savepoint | None = None
    ) -> float | None:
        """Wait until no savepoint of another task is open. mark: a savepoint that begins then; ends: one that
        ends, after those inside it. Returns what is left of the timeout.

        Raises: DeadlineExceeded; what ended the transaction meanwhile.
        """
        nest, lease, port = self._nest, self._lease, self._db._port
        assert nest is not None
        assert lease is not None
        chain = inside.get() if ends is None else (ends,)
        ticket: Ticket | None = None
        began = monotonic()
        until = began
        try:
            while not nest.may(chain, ticket):
                waiter = port.waiter()
                if ticket is None:
                    until += self._db._seconds(timeout)
                    ticket = nest.wait(chain, waiter)
                else:
                    ticket.waiter = waiter
                left_s = min(until, lease.granted + self._db._settings.max_lease + LEASE_GRACE_S) - monotonic()
                if left_s > 0:
                    await asyncio.wait((waiter,), timeout=left_s)
                self._active()
                if left_s <= 0:
                    raise messages.savepoint_in_the_way(
                        sql=sql, waited_s=monotonic() - began, opened=nest.top and nest.top.place, callers="task"
                    )
            if mark is not None:
                nest.enter(mark)
        finally:
            if ticket is not None:
                nest.drop(ticket)
                self._next_turn()
        return timeout if ticket is None else max(0.0, until - monotonic())

    def _next_turn(self) -> None:
        """Something ended: whose turn is it now?"""
        nest = self._nest
        if nest is None:
            return
        if not nest:
            self._nest = None
            return
        ticket = nest.next()
        if ticket is not None:
            self._db._port.settle([(ticket, None, None)])

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
    """A part of a transaction that can be undone by itself.

    It belongs to the task that entered it, and to those started inside it; others wait for its end.
    """

    def __init__(self, tx: TransactionScope, name: str, place: str) -> None:
        self._tx = tx
        self._name = name
        self.place = place

    async def __aenter__(self) -> TransactionScope:
        tx = self._tx
        tx._active()
        if tx._nest is None:
            tx._nest = Nest()
        elif self in tx._nest:
            raise errors.ProgrammingError(
                "this savepoint is open already", hint="Call tx.savepoint() for each block.", applied="no"
            )
        await tx._own_turn("SAVEPOINT", None, self)
        inside.set((*inside.get(), self))
        try:
            await self._send("savepoint")
        except BaseException:
            self._leave()
            raise
        return tx

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        tx = self._tx
        lease = tx._lease
        if kind is GeneratorExit:
            return  # collected: the transaction is undone by the writer
        try:
            if error is not None and (lease is None or lease.standing is not LeaseState.ACTIVE):
                return  # the transaction is gone, and the savepoint with it
            tx._active()
            if tx._nest is None or self not in tx._nest:
                if error is None:
                    raise over_already(self.place)
                return
            try:
                await tx._own_turn("RELEASE", None, ends=self)
            except BaseException:
                await self._send("rollback_to")
                raise
            await self._send("release" if error is None else "rollback_to")
        finally:
            self._leave()

    def _leave(self) -> None:
        inside.set(tuple(one for one in inside.get() if one is not self))
        nest = self._tx._nest
        if nest is not None:
            nest.leave(self)
            self._tx._next_turn()

    async def _send(self, step: str) -> None:
        tx = self._tx
        tx._active()
        grant, lease = tx._grant, tx._lease
        assert lease is not None
        assert grant is not None
        act = getattr(grant, step)
        if not grant.busy:
            act(lease, self._name)
        elif step == "savepoint":
            await tx._in_thread(step, lambda: act(lease, self._name), None, None)
        else:
            await grant.send(step, lambda: act(lease, self._name), NO_LIMIT_S, always=True).waiter


def over_already(place: str) -> errors.ProgrammingError:
    """A savepoint's block ends later than that of the one around it."""
    return errors.ProgrammingError(
        messages.line(f"the savepoint opened at {place} ended with the one around it"),
        hint="Wait inside a savepoint for those that were started there.",
        applied="no",
    )
