"""What waits in a queue of the engine, and knows how to run itself on a connection."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from types import AsyncGeneratorType, GeneratorType
from typing import Any, Never, Protocol, TypeVar, overload

import apsw

from millpond import errors, messages
from millpond.engine.sqlite.connection import ALL, ONE, RESULT, VALUE, Connection, ExecuteResult, Parameters, Shape
from millpond.engine.sqlite.slices import all_rows
from millpond.guesses import with_guesses
from millpond.into import check_kind, made
from millpond.parameters import PLAIN, check, gathered, in_slices_inside, not_text, several_parameters
from millpond.scheduling.write_queue import WriteJob
from millpond.statements.cost import Cost, Costs
from millpond.statements.demand import UNKNOWN, Use
from millpond.statements.profile import Profile

__all__ = [
    "Barrier", "Everywhere", "FunctionWrite", "ManyWrite", "MemoryRead", "Question", "ReadCall", "ScriptWrite",
    "StatementWrite", "Terms", "Transaction", "WriteCall", "WriterOnly",
]  # fmt: skip

T = TypeVar("T")

ENGINE_ERRORS = (apsw.Error, TypeError, ValueError, KeyError, OverflowError)
"""What apsw raises, and what Python raises while it binds parameters."""
UNKNOWN_COST_S = 0.00003
ROW_COST_S = 0.000003
CHARACTER_COST_S = 0.0000002
"""Predicted seconds in the writer, before a statement's own are known; of a script for each of its characters."""


class ReadCall:
    """A read on its way to a lane."""

    __slots__ = (
        "caller",
        "cancelled",
        "deadline",
        "heavy",
        "line",
        "params",
        "priority",
        "profile",
        "queued",
        "ran_s",
        "rows",
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
        self.heavy = False
        self.line = 0
        self.rows = 0

    @property
    def settled(self) -> bool:
        return bool(self.waiter.done())

    @property
    def sql(self) -> str:
        return self.profile.sql

    @property
    def wants(self) -> Use:
        """What it will probably use of the cores and the interpreter; UNKNOWN is no guess."""
        demand = self.profile.cost.demand
        return UNKNOWN if demand is None else demand.use

    def run(self, connection: Connection) -> Any:
        if self.shape is ALL:
            return all_rows(connection, self.profile, self.params, self._came)
        return connection.query(self.profile, self.params, self.shape)

    def _came(self, rows: int) -> bool:
        """So many rows are there. Are the others still wanted?"""
        self.rows = rows
        return not self.settled


_GENERATORS = (GeneratorType, AsyncGeneratorType)

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
    def least_s(self) -> float:  # type: ignore[override]  # asked for only where it is queued
        return self.profile.cost.least_s

    @property
    def savepoint(self) -> bool:
        return self.profile.keeps_partial or bool(self.profile.names)  # its rows may fail to come when it has run

    def run(self, connection: Connection) -> Any:
        return connection.query(self.profile, self.params, self.shape)


class ManyWrite(WriteCall):
    """One statement over many rows of parameters, all or none. ran_s: how long it ran."""

    ran_s = 0.0

    def __init__(self, profile: Profile, rows: Sequence[Parameters], terms: Terms) -> None:
        super().__init__(profile.sql, terms)
        self.profile = profile
        self.rows = rows
        self.alone = profile.ends_transaction
        self.cost_s = self.least_s = (profile.cost.row_s or ROW_COST_S) * len(rows)

    def run(self, connection: Connection) -> ExecuteResult:
        began = monotonic()
        result = connection.many(self.profile, self.rows)
        self.ran_s = monotonic() - began
        self.profile.cost.ran_many(self.ran_s, len(self.rows))
        return result


class ScriptWrite(WriteCall):
    """Several statements, all or none."""

    def __init__(self, sql: str, script_on: Callable[[Connection, str, str], None], terms: Terms) -> None:
        super().__init__(sql, terms)
        self.script_on = script_on
        self.cost_s = self.least_s = CHARACTER_COST_S * len(sql)

    def run(self, connection: Connection) -> None:
        self.script_on(connection, self.sql, "execute_script")


class FunctionHost(Protocol):
    """What a function needs of the engine."""

    functions: Costs

    def transaction_on(self, connection: Connection) -> Transaction: ...


class FunctionWrite(WriteCall):
    """A caller's function, run in the writer with a transaction of plain methods."""

    row_factory: Any = None

    def __init__(
        self,
        function: Callable[[Any], Any],
        host: FunctionHost,
        terms: Terms,
    ) -> None:
        self.waiter, self.caller, self.priority, self.deadline, self.timeout_s, self.full = terms
        self.function = function
        self.open_transaction = host.transaction_on
        cost = self.cost = host.functions.of(function)
        self.cheap = cost is not None and cost.inline

    @property
    def least_s(self) -> float:  # type: ignore[override]  # asked for only where it is queued
        return self.cost.least_s if self.cost is not None else 0.0

    @property
    def sql(self) -> str:  # type: ignore[override]  # made when it is asked for, which is only by errors
        return f"write({getattr(self.function, '__name__', type(self.function).__name__)})"

    def run(self, connection: Connection) -> Any:
        tx = self.open_transaction(connection)
        if self.row_factory is not None:
            tx._factory = self.row_factory
        try:
            result = self.function(tx)
        finally:
            tx.end()
        if result is not None and (inspect.isawaitable(result) or isinstance(result, _GENERATORS)):
            if inspect.iscoroutine(result) or inspect.isgenerator(result):
                result.close()
            if isinstance(result, _GENERATORS):
                raise errors.ProgrammingError(
                    f"write({getattr(self.function, '__qualname__', 'fn')}): the function returned a generator, "
                    "whose statements would run after its transaction",
                    hint="Give `write` a function without `yield` that returns its rows as a list.",
                    applied="no",
                )
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


@with_guesses("a transaction", awaits=False, handle="tx")
class Transaction:
    """What a function given to `write` gets: the database's methods, without await, on the writer's connection.

    Every statement belongs to one atomic piece of work. It is over when the function returns. Its time, its
    priority and its durability are those of `write`.
    """

    __slots__ = ("_connection", "_factory", "_guard", "_lookup", "_over", "_script_on", "_translate")

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
        self._factory: Any = None

    def execute(
        self, sql: str, params: Parameters = None, *extra: Never, timeout: Any = None, priority: Any = None
    ) -> ExecuteResult:
        """Run one statement, without its rows."""
        if extra or timeout is not None or priority is not None:
            _given(extra, None, "execute", timeout, priority)
        result: ExecuteResult = self._run(sql, params, RESULT)
        return result

    def execute_many(
        self,
        sql: str,
        rows: Iterable[Parameters],
        *extra: Never,
        atomic: bool = True,
        timeout: Any = None,
        priority: Any = None,
    ) -> ExecuteResult:
        """Run one statement once per row of parameters."""
        if extra or not atomic or timeout is not None or priority is not None:
            _given(extra, None, "execute_many", timeout, priority, atomic=atomic)
        if not isinstance(sql, str):
            raise not_text(sql)
        found = gathered(rows, sql)
        profile = self._profile(sql)
        try:
            return self._connection.whole(lambda: self._connection.many(profile, found))
        except ENGINE_ERRORS as exc:
            raise self._translate(exc, sql) from exc
        except errors.ParameterError as exc:
            self._translate(exc, sql)
            raise

    def execute_script(self, sql: str, *, timeout: Any = None, priority: Any = None) -> None:
        """Run several statements."""
        if timeout is not None or priority is not None:
            _given((), None, "execute_script", timeout, priority)
        self._check()
        if not isinstance(sql, str):
            raise not_text(sql)
        try:
            self._connection.whole(lambda: self._script_on(self._connection, sql, "execute_script"))
        except ENGINE_ERRORS as exc:
            raise self._translate(exc, sql) from exc

    @overload
    def fetch_all(self, sql: str, params: Parameters = ..., *, into: None = ...) -> list[Any]: ...
    @overload
    def fetch_all(self, sql: str, params: Parameters = ..., *, into: type[T]) -> list[T]: ...
    def fetch_all(
        self,
        sql: str,
        params: Parameters = None,
        *extra: Never,
        into: Any = None,
        timeout: Any = None,
        priority: Any = None,
    ) -> list[Any]:
        """All rows."""
        if extra or into is not None or timeout is not None or priority is not None:
            _given(extra, into, "fetch_all", timeout, priority)
        result: list[Any] = self._run(sql, params, ALL)
        kind = into if into is not None else self._factory
        return result if kind is None else made(result, kind)

    @overload
    def fetch_one(self, sql: str, params: Parameters = ..., *, into: None = ...) -> Any: ...
    @overload
    def fetch_one(self, sql: str, params: Parameters = ..., *, into: type[T]) -> T | None: ...
    def fetch_one(
        self,
        sql: str,
        params: Parameters = None,
        *extra: Never,
        into: Any = None,
        timeout: Any = None,
        priority: Any = None,
    ) -> Any:
        """The first row, or None."""
        if extra or into is not None or timeout is not None or priority is not None:
            _given(extra, into, "fetch_one", timeout, priority)
        result = self._run(sql, params, ONE)
        kind = into if into is not None else self._factory
        return result if kind is None or result is None else made([result], kind)[0]

    def fetch_value(
        self, sql: str, params: Parameters = None, *extra: Never, timeout: Any = None, priority: Any = None
    ) -> Any:
        """The first column of the first row, or None."""
        if extra or timeout is not None or priority is not None:
            _given(extra, None, "fetch_value", timeout, priority)
        return self._run(sql, params, VALUE)

    fetch_val = fetch_value

    @overload
    def iterate(self, sql: str, params: Parameters = ..., *, into: None = ...) -> Iterator[Any]: ...
    @overload
    def iterate(self, sql: str, params: Parameters = ..., *, into: type[T]) -> Iterator[T]: ...
    def iterate(
        self,
        sql: str,
        params: Parameters = None,
        *extra: Never,
        into: Any = None,
        timeout: Any = None,
        priority: Any = None,
    ) -> Iterator[Any]:
        """Rows one after another, as they are now: they are fetched first, so the loop may change the table."""
        if extra or timeout is not None or priority is not None:
            _given(extra, into, "iterate", timeout, priority)
        found: list[Any] = self.fetch_all(sql, params, into=into)
        return iter(found)

    def savepoint(self) -> Savepoint:
        """`with tx.savepoint():` — an exception in the block undoes the block alone."""
        self._check()
        return Savepoint(self, self._connection)

    def end(self) -> None:
        self._over = True

    def _run(self, sql: str, params: Parameters, shape: Shape) -> Any:
        if params.__class__ not in PLAIN:
            check(params, sql)
        try:
            return self._connection.query(self._profile(sql), params, shape)
        except ENGINE_ERRORS as exc:
            if not isinstance(sql, str):
                raise not_text(sql) from None
            raise self._translate(exc, sql) from exc
        except errors.ParameterError as exc:
            self._translate(exc, sql)
            raise

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
        if not self._connection.db.in_transaction:
            raise messages.transaction_lost()


class Savepoint:
    """A part of a function's transaction that can be undone by itself."""

    __slots__ = ("_connection", "_tx")

    def __init__(self, tx: Transaction, connection: Connection) -> None:
        self._tx = tx
        self._connection = connection

    def __enter__(self) -> Transaction:
        self._tx._check()
        self._connection.run("SAVEPOINT part")  # SQLite means the innermost of a name
        return self._tx

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        connection = self._connection
        if not connection.db.in_transaction:
            return  # a statement ended all of it
        if error is not None:
            connection.run("ROLLBACK TO part")
        connection.run("RELEASE part")


def _given(
    extra: tuple[Any, ...], into: Any, method: str, timeout: object, priority: object, *, atomic: bool = True
) -> None:
    """Refuse what was wrongly given to a method of a function's transaction."""
    if extra:
        raise several_parameters(method, 1 + len(extra))
    if not atomic:
        raise in_slices_inside()
    if timeout is not None or priority is not None:
        name = "timeout" if timeout is not None else "priority"
        raise errors.ProgrammingError(
            messages.line(f"{method} inside a function takes no {name}=: a write has one, for all its statements"),
            hint=f"Give it to db.write(fn, {name}=...).",
            applied="no",
        )
    check_kind(into, "into")
