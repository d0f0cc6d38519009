"""The writer's connection in the hands of its callers: leases, one after another, inside one transaction.

    writer's thread --start--> lease 1 --end--> lease 2 --end--> ... --over--> writer's thread: COMMIT

While a grant is out, whoever holds the current lease runs its statements itself, where it is: a thread
hop per statement is what makes others slow. What is not proven cheap it sends to the writer's thread
(`inbox`), which otherwise only watches the clock: it takes a lease back at its limit, even when the
event loop of its holder hangs.

    WAITING --grant--> ACTIVE --end(ok)--> ENDED --commit--> (answered)
       |                 |--end(failed)--> ROLLED_BACK
       |                 |--limit--------> EXPIRED
       `--given up       `--transaction ended by itself--> LOST (ENDED ones of the same grant too)
"""

from __future__ import annotations

import enum
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from types import CodeType
from typing import Any

import apsw

from millpond import errors, messages
from millpond.engine.sqlite.bell import Bell
from millpond.engine.sqlite.calls import Terms, WriteCall
from millpond.engine.sqlite.connection import RESULT, Connection, Parameters, Shape
from millpond.places import describe
from millpond.ports import Port, Reply
from millpond.scheduling.places import Place
from millpond.statements.profile import Profile

__all__ = ["Grant", "Lease", "LeaseState", "Operation"]

STATEMENT_GRACE_S = 0.05
"""What a lease that has outlived its limit gets to end the statement that it runs."""


class LeaseState(enum.Enum):
    """Where an interactive transaction stands."""

    WAITING = "waiting"
    ACTIVE = "active"
    ENDED = "ended"
    ROLLED_BACK = "rolled back"
    EXPIRED = "expired"
    LOST = "lost"


WAITING, ACTIVE, ENDED, ROLLED_BACK, EXPIRED, LOST = LeaseState
"""A member of an enum costs 100 ns on Python 3.11, a global 10."""


class Lease(WriteCall):
    """An interactive transaction: the right to use the writer's connection until it ends.

    granted: when it had it; begun: when its holder went on, which on a loop with much to do is later.
    """

    lease = True
    standing = WAITING
    grant: Grant | None = None
    offered: Grant | None = None
    granted = 0.0
    begun = 0.0
    last = 0.0
    statements = 0
    sent_s = 0.0
    warned = False
    woken = False
    abandoned = False
    cause: BaseException | None = None

    def __init__(self, code: CodeType, line: int, known: Place, terms: Terms) -> None:
        super().__init__("transaction", terms)
        self._code = code
        self._line = line
        self.known = known
        self.cheap = known.shares

    @property
    def shares(self) -> bool:  # type: ignore[override]  # learnt while it waits, from those before it
        """May it share a batch? As is known now: thousands may have been queued before the first of them ran."""
        return self.known.shares

    @property
    def cost_s(self) -> float:  # type: ignore[override]  # as above
        """What is predicted of it, in seconds."""
        return self.known.cost_s

    least_s = cost_s

    @property
    def place(self) -> str:
        """The line that opened it, for people."""
        return describe(self._code, self._line)

    @property
    def code(self) -> CodeType:
        """The code that opened it."""
        return self._code


class Operation:
    """A lease's statement for the writer's thread. always: it runs though nobody waits for its answer any more."""

    __slots__ = ("always", "deadline", "grant", "run", "sql", "started", "submitted", "timeout_s", "waiter")

    def __init__(
        self, grant: Grant, waiter: Any, sql: str, run: Callable[[], Any], timeout_s: float, *, always: bool
    ) -> None:
        self.grant = grant
        self.waiter = waiter
        self.sql = sql
        self.run = run
        self.always = always
        self.timeout_s = timeout_s
        self.submitted = monotonic()
        self.started: float | None = None
        self.deadline: float | None = self.submitted + timeout_s

    @property
    def settled(self) -> bool:
        return bool(self.waiter.done())


class Grant:
    """One hand-over of the connection to some leases. together: they share the transaction with others.

    open: others may still come in by `enter`, until `shut`. tell: called with each statement that is over.
    """

    def __init__(
        self,
        connection: Connection,
        leases: list[Lease],
        *,
        together: bool,
        port: Port,
        bell: Bell,
        translate: Callable[[BaseException, str | None], BaseException],
        claims: threading.Lock,
        is_open: bool = False,
        tell: Callable[[str, float, Any, BaseException | None], None] | None = None,
    ) -> None:
        self._connection = connection
        self._port = port
        self._bell = bell
        self._translate = translate
        self._together = together
        self._tell = tell
        self._stopping = threading.Lock()
        self._claims = claims
        self._running: Operation | None = None
        self.lock = threading.Lock()
        self.waiting: deque[Lease] = deque(leases)
        self.inbox: deque[Operation] = deque()
        self.current: Lease | None = None
        self.ended: list[Lease] = []
        self.cause: BaseException | None = None
        self.over = False
        self.open = is_open

    @property
    def lost(self) -> bool:
        """Did the transaction end under the leases?"""
        return self.cause is not None

    @property
    def busy(self) -> bool:
        """Is the writer's thread at work for the current lease? Then the rest must go there too."""
        return bool(self.inbox)

    def start(self) -> None:
        """Hand over to the first lease, and wake the others with it where that is cheap.

        Leases that are known to be short mostly end in the turn of the loop in which they begin. Woken
        together they follow one another in one turn; who comes too early waits again for its own grant.
        """
        with self.lock:
            self._next()
            if self._port.wakes_together and not self.over:
                early = [lease for lease in self.waiting if not lease.waiter.done()]
                for lease in early:
                    lease.woken = True
                    lease.offered = self
                self._port.settle([(lease, None, None) for lease in early])

    def enter(self, lease: Lease) -> bool:
        """Begin a lease here and now, if nobody else's is under way. False: it must be queued. Waits for nobody."""
        if not self.lock.acquire(blocking=False):
            return False
        try:
            if not self.open or self.current is not None:
                return False
            self._connection.run("SAVEPOINT lease")
            lease.grant = self
            lease.standing = ACTIVE
            lease.granted = lease.last = monotonic()
            self.current = lease
            return True
        finally:
            self.lock.release()

    def shut(self) -> None:
        """Nobody else comes in; over once the lease that is under way has ended. Waits for nobody."""
        self.open = False
        self._bell.ring()

    def end_if_shut(self) -> None:
        """In the writer's thread: it is over if nobody can come in and no lease is under way or waits."""
        if not self._has_users():  # looked at first without the lock, which a holder may have for long
            with self.lock:
                self.over = self.over or not self._has_users()

    def _has_users(self) -> bool:
        return self.open or self.current is not None or bool(self.waiting)

    def fail(self, cause: BaseException) -> None:
        """Under the lock: the transaction is gone, and what ended in it is lost."""
        self.cause = cause
        self.open = False
        self.over = True
        self.current = None
        self._bell.ring()

    def run(self, lease: Lease, profile: Profile, params: Parameters, shape: Shape) -> Any:
        """Run a statement of the lease here and now.

        Raises: the statement's error; LeaseExpired, TransactionLost, ProgrammingError when the lease is over.
        """
        connection = self._connection
        with self.lock:
            if lease.standing is not ACTIVE:
                self.check(lease)
            lease.statements += 1
            if profile.ends_transaction:
                lease.known.never_shares()
            started = monotonic()
            try:
                if shape is RESULT:
                    result: Any = connection.change(profile, params)
                else:
                    result = connection.query(profile, params, shape)
            except apsw.Error as exc:
                lease.last = ended = monotonic()
                error = self._failed(lease, exc, profile.sql)
                if self._tell is not None:
                    self._tell(profile.sql, ended - started, None, error)
                raise error from exc
            lease.last = ended = monotonic()
            profile.cost.ran_again(ended - started)
            if self._tell is not None:
                self._tell(profile.sql, ended - started, result, None)
            return result

    def guarded(self, lease: Lease, sql: str, work: Callable[[], Any], *, counts: bool = True) -> Any:
        """Do something with the connection on behalf of the lease. counts: it is a statement of its own."""
        with self.lock:
            self.check(lease)
            lease.statements += counts
            try:
                return work()
            except apsw.Error as exc:
                raise self._failed(lease, exc, sql) from exc
            finally:
                lease.last = monotonic()

    def send(self, sql: str, run: Callable[[], Any], timeout_s: float, *, always: bool = False) -> Operation:
        """Let the writer's thread run it; the answer comes to the operation's waiter."""
        operation = Operation(self, self._port.waiter(), sql, run, timeout_s, always=always)
        self.inbox.append(operation)
        self._bell.ring()
        return operation

    def stop(self, operation: Operation, *, is_read: bool) -> None:
        """Its caller gave up. A write in company is let run: an interrupt would cost the others theirs."""
        with self._stopping:
            if self._running is operation and (is_read or not self._together):
                self._connection.db.interrupt()

    def work(self) -> None:
        """In the writer's thread: run what was sent."""
        while self.inbox:
            operation = self.inbox[0]
            if operation.always or not operation.waiter.done():
                self._running = operation
                operation.started = monotonic()
                reply: Reply
                try:
                    reply = (operation, operation.run(), None)
                except BaseException as exc:
                    reply = (operation, None, exc)
                with self._stopping:
                    self._running = None
                self._port.settle([reply])
            self.inbox.popleft()

    def end(self, lease: Lease, *, keep: bool, awaited: bool = True) -> bool:
        """The lease's block is left. True: its commit is to be waited for, on `lease.waiter`.

        awaited: between grant and end the holder did not run through, but let others run.

        Raises: LeaseExpired, TransactionLost if it is gone already (only when it was to be kept);
        ForeignKeyViolation if it leaves deferred violations behind.
        """
        with self.lock:
            if lease.standing is not ACTIVE:
                if keep:
                    self.check(lease)
                return False
            violation: BaseException | None = None
            if keep and self._connection.deferred_violations():
                keys = self._connection.violated_keys()
                violation = messages.deferred_violation(f"the transaction opened at {lease.place}", keys=keys)
            if keep and violation is None:
                if self._together:
                    self._connection.run("RELEASE lease")
                if lease.waiter.done():
                    lease.waiter = self._port.waiter()
                lease.standing = ENDED
                self.ended.append(lease)
            else:
                self._undo(lease, ROLLED_BACK)
            lease.known.ended(monotonic() - max(lease.granted, lease.begun) - lease.sent_s, awaited=awaited)
            self._next()
            if violation is not None:
                raise violation
            return keep

    def wait_again(self, lease: Lease) -> bool:
        """It was woken with its neighbours, before its turn. False: its turn has come, or it is over."""
        with self._claims:
            if lease.standing is not WAITING:
                return False
            lease.waiter = self._port.waiter()
            lease.woken = False
            return True

    def withdraw(self, lease: Lease) -> bool:
        """Its caller gave up before it came. False: it has come."""
        with self._claims:
            if lease.standing is not WAITING:
                return False
            lease.standing = ROLLED_BACK
            return True

    def savepoint(self, lease: Lease, name: str) -> None:
        self.guarded(lease, "SAVEPOINT", lambda: self._connection.run(f"SAVEPOINT {name}"), counts=False)

    def release(self, lease: Lease, name: str) -> None:
        self.guarded(lease, "RELEASE", lambda: self._connection.run(f"RELEASE {name}"), counts=False)

    def rollback_to(self, lease: Lease, name: str) -> None:
        def undo() -> None:
            self._connection.run(f"ROLLBACK TO {name}")
            self._connection.run(f"RELEASE {name}")

        self.guarded(lease, "ROLLBACK TO", undo, counts=False)

    def take_back(self, lease: Lease, cause: BaseException) -> bool:
        """Roll a lease back against its holder's will; what it runs is stopped. False: it had ended."""
        if not self.lock.acquire(timeout=STATEMENT_GRACE_S):
            self._connection.db.interrupt()
            self.lock.acquire()
        try:
            if self.current is not lease or lease.standing is not ACTIVE:
                return False
            lease.cause = cause
            self._undo(lease, EXPIRED)
            lease.known.ended(monotonic() - lease.granted)
            self._next()
            return True
        finally:
            self.lock.release()

    def check(self, lease: Lease) -> None:
        """Raise what the holder of a lease that is over must be told."""
        match lease.standing:
            case LeaseState.ACTIVE:
                return
            case LeaseState.EXPIRED | LeaseState.LOST if lease.cause is not None:
                raise lease.cause
            case _:
                raise errors.ProgrammingError(
                    "this transaction is over",
                    detail=f"it was opened at {lease.place} and is {lease.standing.value}",
                    hint="Use `tx` only inside its `async with` block.",
                )

    def _failed(self, lease: Lease, exc: apsw.Error, sql: str) -> BaseException:
        error = self._translate(exc, sql)
        if not self._connection.db.in_transaction:
            self._lose(lease, error)
        return error

    def _next(self) -> None:
        self.current = None
        while self.waiting and not self.over:
            lease = self.waiting.popleft()
            with self._claims:
                gone = lease.waiter.done() and not lease.woken
                if gone or lease.standing is not WAITING:
                    lease.standing = ROLLED_BACK
                    continue
                lease.grant = self
                lease.standing = ACTIVE
                comes = lease.woken
            lease.granted = lease.last = monotonic()
            if self._together:
                self._connection.run("SAVEPOINT lease")
            self.current = lease
            if not comes:
                self._port.settle([(lease, None, None)])
            return
        if not self.open:
            self.over = True
            self._bell.ring()

    def _undo(self, lease: Lease, standing: LeaseState) -> None:
        lease.standing = standing
        if not self._connection.db.in_transaction:
            return
        if self._together:
            self._connection.run("ROLLBACK TO lease")
            self._connection.run("RELEASE lease")
        else:
            self._connection.run("ROLLBACK")

    def _lose(self, lease: Lease, error: BaseException) -> None:
        """The transaction is gone, with all that ended in it without an answer."""
        lease.standing = LOST
        sql = error.sql if isinstance(error, errors.Error) else None
        lease.cause = messages.transaction_lost(opened=lease.place, cause_sql=sql, cause=str(error))
        lease.cause.__cause__ = error
        self.fail(error)
