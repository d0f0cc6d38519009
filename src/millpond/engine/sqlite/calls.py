"""What waits in a queue of the engine, and knows how to run itself on a connection."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import apsw

from millpond import errors
from millpond.engine.sqlite.connection import ALL, ONE, RESULT, VALUE, Connection, ExecuteResult, Parameters, Shape
from millpond.scheduling.write_queue import WriteJob
from millpond.statements.cost import Cost, Costs
from millpond.statements.profile import Profile

__all__ = [
    "Barrier", "Everywhere", "FunctionWrite", "ManyWrite", "MemoryRead", "Question", "ReadCall", "ScriptWrite",
    "StatementWrite", "Terms", "Transaction", "WriteCall", "WriterOnly",
]  # fmt: skip

ENGINE_ERRORS = (apsw.Error, TypeError, ValueError, KeyError, OverflowError)
"""What apsw raises, and what Python raises while it binds parameters."""
UNKNOWN_COST_S = 0.00003
ROW_COST_S = 0.000003
"""Predicted seconds in the writer, before a statement's own are known."""


class ReadCall:
    """A read on its way to a lane."""

    __slots__ = (
        "caller",
        "cancelled",
        "deadline",
        "params",
        "priority",
        "profile",
        "queued",
        "ran_s",
        "shape",
        "started",
        "submitted",
        "timeout_s",
        "waiter",
    )  # fmt: skip

    def __init__(
        self,
        waiter: Any,
        profile: Profile,
        params: Parameters,
        shape: Shape,
        *,
        deadline: float,
        priority: int,
        caller: Any,
        submitted: float,
    ) -> None:
        self.waiter = waiter
        self.profile = profile
        self.params = params
        self.shape = shape
        self.deadline: float | None = deadline
        self.priority = priority
        self.caller = caller
        self.submitted = submitted
        self.queued = False
        self.started: float | None = None
        self.ran_s = 0.0
        self.timeout_s = 0.0
        self.cancelled = False

    @property
    def settled(self) -> bool:
        return bool(self.waiter.done())

    @property
    def sql(self) -> str:
        return self.profile.sql

    def run(self, connection: Connection) -> Any:
        return connection.query(self.profile, self.params, self.shape)


Terms = tuple[Any, Any, int, float, float, bool]
"""On what terms a write is queued: waiter, caller, priority, deadline, timeout in seconds, synced or not."""


class WriteCall(WriteJob):
    """A job for the writer.

    cheap: proven to take so little that it may run on a loop; cost: where that is learnt. started: when it
    began to run; committing: its COMMIT is under way; stop: cancelled or late while
    it ran, so it is to be undone if that is still possible; overdue: how often its deadline was put off.
    """

    result: Any = None
    error: BaseException | None = None
    started: float | None = None
    cheap = False
    cost: Cost | None = None
    committing = False
    stop = False
    overdue = 0

    def __init__(self, sql: str, terms: Terms) -> None:
        self.sql = sql
        self.waiter, self.caller, self.priority, self.deadline, self.timeout_s, self.full = terms

    @property
    def savepoint(self) -> bool:
        """Must it be undone by itself when it fails among others?"""
        return True

    @property
    def settled(self) -> bool:
        return bool(self.waiter.done())

    def run(self, connection: Connection) -> Any:
        raise AssertionError(f"{type(self).__name__} is not run as a job")


class StatementWrite(WriteCall):
    """One statement. It is atomic by itself, so it needs no savepoint (but for ON CONFLICT FAIL)."""

    def __init__(self, profile: Profile, params: Parameters, shape: Shape, terms: Terms) -> None:
        super().__init__(profile.sql, terms)
        self.profile = profile
        self.params = params
        self.shape = shape
        self.alone = profile.ends_transaction
        cost = self.cost = profile.cost
        self.cost_s = cost.mean_s or UNKNOWN_COST_S
        self.cheap = cost.inline and profile.is_write and not self.alone

    @property
    def savepoint(self) -> bool:
        return self.profile.keeps_partial

    def run(self, connection: Connection) -> Any:
        return connection.query(self.profile, self.params, self.shape)


class ManyWrite(WriteCall):
    """One statement over many rows of parameters, all or none."""

    def __init__(self, profile: Profile, rows: Sequence[Parameters], terms: Terms) -> None:
        super().__init__(profile.sql, terms)
        self.profile = profile
        self.rows = rows
        self.alone = profile.ends_transaction
        self.cost_s = ROW_COST_S * len(rows)

    def run(self, connection: Connection) -> ExecuteResult:
        return connection.many(self.profile, self.rows)


class ScriptWrite(WriteCall):
    """Several statements, all or none."""

    def __init__(self, sql: str, script_on: Callable[[Connection, str, str], None], terms: Terms) -> None:
        super().__init__(sql, terms)
        self.script_on = script_on

    def run(self, connection: Connection) -> None:
        self.script_on(connection, self.sql, "execute_script")


class FunctionHost(Protocol):
    """What a function needs of the engine."""

    functions: Costs

    def transaction_on(self, connection: Connection) -> Transaction: ...


class FunctionWrite(WriteCall):
    """A caller's function, run in the writer with a transaction of plain methods."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        host: FunctionHost,
        terms: Terms,
    ) -> None:
        super().__init__("write", terms)
        self.function = function
        self.open_transaction = host.transaction_on
        cost = self.cost = host.functions.of(function)
        self.cheap = cost is not None and cost.inline

    def run(self, connection: Connection) -> Any:
        tx = self.open_transaction(connection)
        try:
            result = self.function(tx)
        finally:
            tx.end()
        if result is not None and inspect.isawaitable(result):
            if inspect.iscoroutine(result):
                result.close()
            raise errors.ProgrammingError(
                f"write({getattr(self.function, '__qualname__', 'fn')}): the function returned an awaitable, "
                "but it runs in the writer's thread",
                hint="Give `write` a plain function (def, not async def); to await between statements "
                "use `async with db.transaction()`.",
                applied="no",
            )
        return result


class WriterOnly(WriteCall):
    """A statement that must be outside any transaction: VACUUM, checkpoints, the writer's own pragmas."""

    outside = True

    def __init__(self, profile: Profile, params: Parameters, shape: Shape, terms: Terms) -> None:
        super().__init__(profile.sql, terms)
        self.profile = profile
        self.params = params
        self.shape = shape

    def run(self, connection: Connection) -> Any:
        return connection.query(self.profile, self.params, self.shape)


class Everywhere(WriterOnly):
    """A statement that each connection must run: here first, where its errors show; then by the others."""

    def __init__(
        self,
        profile: Profile,
        params: Parameters,
        shape: Shape,
        terms: Terms,
        tell: Callable[[str, Parameters, Connection], None],
    ) -> None:
        super().__init__(profile, params, shape, terms)
        self.tell = tell

    def run(self, connection: Connection) -> Any:
        result = super().run(connection)
        self.tell(self.profile.sql, self.params, connection)
        connection.caught_up()
        return result


class MemoryRead(WriterOnly):
    """A read where only the writer's connection can answer it: between transactions."""

    outside = False
    reads = True

    def __init__(self, profile: Profile, params: Parameters, shape: Shape, terms: Terms) -> None:
        super().__init__(profile, params, shape, terms)
        self.full = False


class Question(WriteCall):
    """Something to ask of the writer's connection, between transactions; mostly what a statement is."""

    reads = True

    def __init__(self, sql: str, ask: Callable[[Connection], Any], terms: Terms) -> None:
        super().__init__(sql, terms)
        self.full = False
        self.ask = ask

    def run(self, connection: Connection) -> Any:
        return self.ask(connection)


class Barrier(WriteCall):
    """Nothing to do but to have the log synced, with whatever else is synced then."""

    def __init__(self, terms: Terms) -> None:
        super().__init__("barrier", terms)
        self.full = True

    def run(self, connection: Connection) -> None:
        # Writing the same value dirties page 1: the commit has a frame to sync, and with it all before it.
        connection.run(f"PRAGMA user_version = {connection.db.pragma('user_version')}")


class Transaction:
    """What a function given to `write` gets: the database's methods, without await, on the writer's connection.

    Every statement belongs to one atomic piece of work. It is over when the function returns.
    """

    __slots__ = ("_connection", "_guard", "_lookup", "_over", "_script_on", "_translate")

    def __init__(
        self,
        connection: Connection,
        lookup: Callable[[Connection, str], Profile],
        guard: Callable[[Profile, str], None],
        script_on: Callable[[Connection, str, str], None],
        translate: Callable[[BaseException, str | None], BaseException],
    ) -> None:
        self._connection = connection
        self._lookup = lookup
        self._guard = guard
        self._script_on = script_on
        self._translate = translate
        self._over = False

    def execute(self, sql: str, params: Parameters = None) -> ExecuteResult:
        """Run one statement, without its rows."""
        result: ExecuteResult = self._run(sql, params, RESULT)
        return result

    def execute_many(self, sql: str, rows: Iterable[Parameters]) -> ExecuteResult:
        """Run one statement once per row of parameters."""
        profile = self._profile(sql)
        try:
            return self._connection.whole(lambda: self._connection.many(profile, rows))
        except ENGINE_ERRORS as exc:
            raise self._translate(exc, sql) from exc

    def execute_script(self, sql: str) -> None:
        """Run several statements."""
        self._check()
        try:
            self._connection.whole(lambda: self._script_on(self._connection, sql, "tx"))
        except ENGINE_ERRORS as exc:
            raise self._translate(exc, sql) from exc

    def fetch_all(self, sql: str, params: Parameters = None) -> list[Any]:
        """All rows."""
        result: list[Any] = self._run(sql, params, ALL)
        return result

    def fetch_one(self, sql: str, params: Parameters = None) -> Any:
        """The first row, or None."""
        return self._run(sql, params, ONE)

    def fetch_value(self, sql: str, params: Parameters = None) -> Any:
        """The first column of the first row, or None."""
        return self._run(sql, params, VALUE)

    fetch_val = fetch_value

    def end(self) -> None:
        self._over = True

    def _run(self, sql: str, params: Parameters, shape: Shape) -> Any:
        try:
            return self._connection.query(self._profile(sql), params, shape)
        except ENGINE_ERRORS as exc:
            raise self._translate(exc, sql) from exc

    def _profile(self, sql: str) -> Profile:
        self._check()
        profile = self._lookup(self._connection, sql)
        if not profile.is_read and not profile.is_write:
            self._guard(profile, "tx")
        return profile

    def _check(self) -> None:
        if self._over:
            raise errors.ProgrammingError(
                "this transaction is over: its function has returned",
                hint="Use `tx` only inside the function that was given to `write`.",
            )
