"""`execute_many(..., atomic=False)`: many rows in slices, each a write of its own, between which others get through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from millpond import errors, messages, partly
from millpond.callers.tasks import let_others_run
from millpond.engine.sqlite.calls import ManyWrite
from millpond.engine.sqlite.connection import ExecuteResult
from millpond.front import LATE_GRACE_S, Front
from millpond.parameters import PLAIN, check, rows_of
from millpond.scheduling.fair_queue import Priority
from millpond.scheduling.slices import SlicePlan

if TYPE_CHECKING:
    from millpond.database import Database
    from millpond.statements.profile import Profile
    from millpond.sync import Database as SyncDatabase

__all__ = ["Slices", "SlicesOfThread", "gathered_in_turns"]

CHUNK = 64
"""Rows that are taken from their source between two looks at the clock."""
SLOW_S = 0.05
"""A source that takes longer for a slice is slow: with its next row, what it has given by then is written."""
UNTIL_YIELD_S = 0.001
"""A source that does not await anything keeps the loop for so long at most, as inline reads do."""


async def gathered_in_turns(rows: Iterable[Any] | AsyncIterable[Any], sql: str) -> list[Any]:
    """Rows of parameters as a list, each looked at; others get turns of the loop meanwhile. Raises: ParameterError."""
    if isinstance(rows, AsyncIterable):
        rows = [row async for row in rows]
    elif isinstance(rows, list):
        rows = rows.copy()  # its caller may change it before it is all looked at
    source = iter(rows_of(rows, sql))
    found: list[Any] = []
    last = monotonic()
    while chunk := _chunk(source, CHUNK, sql):
        found += chunk
        if monotonic() - last > UNTIL_YIELD_S:
            await let_others_run()
            last = monotonic()
    return found


class _Bulk:
    """What both kinds of callers share: one slice is written while the next is gathered.

        source --gather--> hand --launch--> in flight (queued, running, committing) --land--> in the file

    So two slices are in memory at most, and one in the queue. The deadline is that of the whole call.
    """

    _db: Front

    def __init__(self, db: Front, sql: str, timeout: float | None, priority: Priority, durability: str | None) -> None:
        self._db = db
        self._engine = db._check_open()
        db._check_params(sql, None)
        _, self._caller, _, self._deadline, self._timeout_s, self._full = db._terms(timeout, priority, durability, sql)
        self._sql = sql
        self._priority = priority
        self._hand: list[Any] = []
        self._rows_in = self._unsure = 0
        self._changed = 0
        self._counts = True
        self._queue_s = self._running_s = 0.0
        self._plan: SlicePlan
        self._source: Iterator[Any]

    def _plan_for(self, profile: Profile) -> None:
        """What the statement is, is known: may it be run so, and in what slices? Raises: ProgrammingError."""
        self._db._profile_for_many(self._engine, profile)
        self._plan = SlicePlan(self._engine.settings.bulk_slice_ms / 1000, profile.cost.row_s)

    def _wants_more(self) -> bool:
        return len(self._hand) < self._plan.rows

    def _take_chunk(self) -> bool:
        """Some rows from the source into the hand. False: it has no more."""
        wanted = min(CHUNK, self._plan.rows - len(self._hand))
        chunk = _chunk(self._source, wanted, self._sql)
        self._hand += chunk
        return len(chunk) == wanted

    def _send(self, profile: Profile) -> ManyWrite:
        """Queue a slice of what is in the hand. Raises: DeadlineExceeded; what queueing raises."""
        left_s = self._deadline - monotonic()
        if left_s <= 0:
            raise self._too_late()
        number = self._plan.rows
        rows, self._hand = self._hand[:number], self._hand[number:]
        terms = (self._db._port.waiter(), self._caller, self._priority, self._deadline, left_s, self._full)
        call = ManyWrite(profile, rows, terms)
        self._db._guard(self._engine, profile, "db")
        self._db._submit(self._engine, call, "execute_many")
        return call

    def _landed(self, call: ManyWrite, result: ExecuteResult) -> None:
        """A slice is in the file."""
        self._spent(call)
        self._rows_in += len(call.rows)
        self._counts = result.rowcount >= 0
        self._changed += result.rowcount
        self._plan.ran(len(call.rows), call.ran_s, len(self._engine.writer))

    def _lost(self, call: ManyWrite, exc: BaseException) -> None:
        """A slice failed: its rows are not in the file, or nobody knows."""
        self._spent(call)
        if call.started is not None and getattr(exc, "applied", "unknown") == "unknown":
            self._unsure = len(call.rows)

    def _spent(self, call: ManyWrite) -> None:
        now = monotonic()
        started = call.started or now
        self._queue_s += max(0.0, started - call.submitted)
        self._running_s += now - started

    def _too_late(self) -> errors.DeadlineExceeded:
        self._engine.deadlines_missed += 1
        return self._deadline_error("", "no")

    def _deadline_error(self, detail: str, applied: errors.Applied | None) -> errors.DeadlineExceeded:
        """In the times of the whole call, not of its last slice."""
        return messages.deadline_exceeded(
            sql=self._sql, timeout_s=self._timeout_s, queue_s=self._queue_s, lock_s=0.0, running_s=self._running_s,
            detail=detail, applied=applied,
        )  # fmt: skip

    def _told(self, exc: BaseException) -> BaseException:
        """What is to be raised for it, telling how far the call came."""
        if isinstance(exc, errors.DeadlineExceeded) and exc.sql == self._sql:
            exc = self._deadline_error((exc.detail or "").partition("Not applied")[0], exc.applied)
        return partly.told(exc, self._rows_in, self._unsure)

    def _result(self) -> ExecuteResult:
        return ExecuteResult(self._changed if self._counts else -1, None)


class Slices(_Bulk):
    """For tasks. A cancel takes back what has not begun, and waits a moment for the outcome of what has."""

    _db: Database
    _flight: tuple[ManyWrite, asyncio.Task[ExecuteResult]] | None = None

    async def run(self, rows: Iterable[Any] | AsyncIterable[Any]) -> ExecuteResult:
        later: AsyncIterator[Any] | None = None
        more = True
        try:
            if isinstance(rows, AsyncIterable):
                later = aiter(rows)
            else:
                self._source = iter(rows_of(rows, self._sql))
            self._plan_for(await self._db._profile(self._sql))
            while True:
                if more and self._wants_more():
                    try:
                        more = await (self._gather() if later is None else self._gather_from(later))
                    except Exception:
                        await self._land()  # what was given before is written; if it fails, that came first
                        raise
                await self._land()
                if not self._hand:
                    return self._result()
                await self._launch()
        except GeneratorExit:
            raise  # collected: nothing may be waited for
        except BaseException as exc:
            if self._flight is not None:
                await self._withdraw(*self._flight)
            told = self._told(exc)
            if told is exc:
                raise
            raise told from exc.__cause__

    async def _gather(self) -> bool:
        """Rows for the next slice. False: there are no more."""
        began = last = monotonic()
        while self._wants_more():
            if not self._take_chunk():
                return False
            now = monotonic()
            if now - began > SLOW_S and self._is_idle:
                break
            if now - last > UNTIL_YIELD_S:
                await let_others_run()
                last = monotonic()
        return True

    async def _gather_from(self, source: AsyncIterator[Any]) -> bool:
        """The same from a source that is awaited."""
        began = last = monotonic()
        limit = asyncio.timeout_at(self._deadline)
        try:
            async with limit:
                async for row in source:
                    if row.__class__ not in PLAIN:
                        check(row, self._sql)
                    self._hand.append(row)
                    now = monotonic()
                    if not self._wants_more() or (now - began > SLOW_S and self._is_idle):
                        return True
                    if now - last > UNTIL_YIELD_S:
                        await let_others_run()  # it may never have waited for anything
                        last = monotonic()
        except TimeoutError:
            if not limit.expired():
                raise  # the source's own
            raise self._too_late() from None
        return False

    @property
    def _is_idle(self) -> bool:
        """Is nothing being written?"""
        return self._flight is None or self._flight[1].done()

    async def _launch(self) -> None:
        db = self._db
        profile = db._profile_of(self._sql)
        if profile is None or profile.stale:
            profile = await db._profile(self._sql)
        call = self._send(profile)
        self._flight = (call, asyncio.create_task(db._answer(self._engine, call)))

    async def _land(self) -> None:
        """Wait until what is in flight is in the file. Raises: why it is not."""
        if self._flight is None:
            return
        call, answer = self._flight
        await asyncio.wait((answer,))
        self._flight = None
        try:
            result = answer.result()
        except BaseException as exc:
            self._lost(call, exc)
            raise
        self._landed(call, result)

    async def _withdraw(self, call: ManyWrite, answer: asyncio.Task[ExecuteResult]) -> None:
        """Nobody waits for the call any more: what becomes of its slice?"""
        self._flight = None
        if self._engine.writer.cancel(call):
            answer.cancel()
            return
        try:
            await asyncio.wait((answer,), timeout=LATE_GRACE_S)
        finally:
            if not answer.done():
                answer.cancel()
                self._unsure = len(call.rows)
            elif answer.cancelled():
                self._unsure = len(call.rows)
            elif (error := answer.exception()) is not None:
                self._lost(call, error)
            else:
                self._landed(call, answer.result())


class SlicesOfThread(_Bulk):
    """For threads."""

    _db: SyncDatabase
    _flight: ManyWrite | None = None

    def run(self, rows: Iterable[Any]) -> ExecuteResult:
        more = True
        try:
            self._source = iter(rows_of(rows, self._sql))
            self._plan_for(self._db._profile(self._sql))
            while True:
                if more and self._wants_more():
                    try:
                        more = self._gather()
                    except Exception:
                        self._land()  # what was given before is written; if it fails, that came first
                        raise
                self._land()
                if not self._hand:
                    return self._result()
                self._flight = self._send(self._db._profile(self._sql))
        except BaseException as exc:
            if self._flight is not None:
                self._withdraw(self._flight)
            told = self._told(exc)
            if told is exc:
                raise
            raise told from exc.__cause__

    def _gather(self) -> bool:
        """Rows for the next slice. False: there are no more."""
        began = monotonic()
        while self._wants_more():
            if not self._take_chunk():
                return False
            if monotonic() - began > SLOW_S and (self._flight is None or self._flight.settled):
                break
        return True

    def _land(self) -> None:
        """Wait until what is in flight is in the file. Raises: why it is not."""
        if self._flight is None:
            return
        call, self._flight = self._flight, None
        try:
            result = self._db._answer(self._engine, call)
        except BaseException as exc:
            self._lost(call, exc)
            raise
        self._landed(call, result)

    def _withdraw(self, call: ManyWrite) -> None:
        """Ctrl-C while rows were gathered: what becomes of the slice that is in flight?"""
        self._flight = None
        if self._engine.writer.cancel(call):
            return
        if not call.waiter.wait(LATE_GRACE_S):
            self._unsure = len(call.rows)
            return
        try:
            self._landed(call, call.waiter.result())
        except errors.Error as exc:
            self._lost(call, exc)


def _chunk(source: Iterator[Any], most: int, sql: str) -> list[Any]:
    """The next rows of a source, each looked at."""
    chunk = list(islice(source, most))
    for row in chunk:
        if row.__class__ not in PLAIN:
            check(row, sql)
    return chunk
