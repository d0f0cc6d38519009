"""Results that come anew whenever their tables change: `async for rows in db.watch(sql):`."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar, overload

from millpond import errors, messages
from millpond.engine.sqlite.connection import ALL
from millpond.engine.sqlite.grant import LeaseState
from millpond.engine.sqlite.inline import MISS
from millpond.front import holding
from millpond.rows import Row
from millpond.scheduling.fair_queue import Priority
from millpond.statements.profile import ANYTHING, Profile
from millpond.statements.watching import check_watchable

if TYPE_CHECKING:
    from millpond.database import Database
    from millpond.engine.sqlite.engine import Engine
    from millpond.scheduling.watch_plan import Watcher

__all__ = ["Feed", "ResultFeed", "Watching", "is_same"]

R = TypeVar("R")
T = TypeVar("T")

_UNKNOWN = frozenset((ANYTHING,))


class Feed(Generic[R]):
    """What the feeds of both facades share: who watches, and what it has seen.

    Its watcher stays with the engine until the feed is closed or collected; nothing else of it is kept anywhere.
    """

    _watcher: Watcher | None = None

    def __init__(
        self, db: Any, sql: str, params: Any, into: Any, timeout: float | None, priority: Priority, changes_only: bool
    ) -> None:
        self._db = db
        self._sql = sql
        self._params = params.copy() if params.__class__ in (list, dict) else params
        self._into = into
        self._timeout = timeout
        self._priority = priority
        self._changes_only = changes_only
        self._engine: Engine | None = None
        self._last: list[Any] | None = None
        self._busy = False
        self._ended = False

    def __del__(self) -> None:
        self._leave()

    def _enter(self) -> None:
        """One caller at a time: two would share the results at random."""
        if self._busy:
            raise errors.ProgrammingError(
                "this feed is being read by another caller", hint="Give each its own: db.watch(...)."
            )
        self._busy = True

    def _waiter(self) -> Any:
        """Where to wait for the next change. None: look at once.

        Raises: DatabaseClosed; WouldWaitForItself; what is wrong with the file.
        """
        engine: Engine = self._db._check_open()
        watcher = self._watcher
        if watcher is None or self._engine is not engine:
            return None
        waiter = engine.watchers.wait(watcher)
        if waiter is not None:
            self._not_inside(engine)
        return waiter

    def _not_inside(self, engine: Engine) -> None:
        """While this caller's own transaction is open nobody can commit. Raises: WouldWaitForItself."""
        for lease in holding.get():
            mine = lease.standing is LeaseState.ACTIVE and lease.grant is engine.writer.grant
            if mine and lease.caller == self._db._port.caller():
                raise messages.would_watch_for_itself(lease.place)

    def _begin(self, engine: Engine, profile: Profile) -> int:
        """Before a reading. Returns what `_took` is to be given. Raises: what cannot be watched."""
        check_watchable(profile)
        watcher = self._watcher
        if watcher is None or self._engine is not engine:
            watcher = engine.watchers.join()
            self._engine, self._watcher = engine, watcher
        return engine.watchers.begin(watcher, _tables(profile))

    def _took(self, engine: Engine, moment: int, found: list[Any]) -> list[R] | None:
        """After it: what to give out; None where there is nothing new in it."""
        watcher = self._watcher
        if watcher is None:
            return None  # closed meanwhile
        news = not (self._changes_only and self._last is not None and is_same(found, self._last))
        # The reading may have found out that the schema is another one by now.
        engine.watchers.read(watcher, moment, _tables(engine.profiles.get(self._sql)), news=news)
        if not news:
            return None
        if self._changes_only:
            self._last = found.copy()
        rows: list[R] = self._db._shaped(found, self._into, self._sql)
        return rows

    def _leave(self) -> None:
        """Watch no more. Twice is once; also from a finalizer."""
        self._ended = True
        watcher, self._watcher = self._watcher, None
        if watcher is not None and self._engine is not None:
            self._engine.watchers.leave(watcher)


class ResultFeed(Feed[R]):
    """Results, each a list of rows, the newest whenever it is asked for: `async for rows in db.watch(sql):`.

    While the loop is busy with one result nothing is read and nothing piles up: many changes give one next result.
    It ends when the loop is left, at `aclose()`, and when it is collected; closing the database ends it with
    DatabaseClosed. A wait that is cancelled, or a query that fails, loses nothing: the next step goes on from there.
    """

    _db: Database

    def __aiter__(self) -> ResultFeed[R]:
        return self

    async def __anext__(self) -> list[R]:
        self._enter()
        try:
            while not self._ended:
                waiter = self._waiter()
                if waiter is not None:
                    await waiter
                elif (rows := await self._look()) is not None:
                    return rows
        finally:
            self._busy = False
        self._leave()  # it may have been closed just as it came
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Watch no more. A loop that waits for the next result ends."""
        self._leave()

    async def _look(self) -> list[R] | None:
        db, sql, params = self._db, self._sql, self._params
        engine = db._check_open()
        moment = self._begin(engine, await db._profile(sql))
        found = db._try_inline(sql, params, ALL, True)
        if found is MISS:
            found = await db._queue(sql, params, ALL, self._timeout, self._priority, cache=True)
        elif db._spent:
            await db._next_turn()
        return self._took(engine, moment, found)


class Watching:
    """`watch`, for tasks."""

    @overload
    def watch(
        self,
        sql: str,
        params: Any = ...,
        *,
        into: None = ...,
        timeout: float | None = ...,
        priority: Priority = ...,
        changes_only: bool = ...,
    ) -> ResultFeed[Row]: ...
    @overload
    def watch(
        self,
        sql: str,
        params: Any = ...,
        *,
        into: type[T],
        timeout: float | None = ...,
        priority: Priority = ...,
        changes_only: bool = ...,
    ) -> ResultFeed[T]: ...
    def watch(
        self,
        sql: str,
        params: Any = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: Priority = Priority.NORMAL,
        changes_only: bool = True,
    ) -> ResultFeed[Any]:
        """`async for rows in db.watch(sql):` — the result now, and again each time that its tables have changed.

        Told by commits of this process at once; those of others are seen within `watch_interval_s`, without a query.
        A commit of another process may have changed any table, so then the statement is run again.
        changes_only: a result that is equal to the last one is passed over; False gives one for each change.
        timeout: seconds for each query; the wait for a change has no limit (asyncio.timeout sets one).
        Raises, in the loop: errors.Error; NotSupportedError for pragmas, temporary and attached tables.
        """
        db: Any = self
        if extra or into is not None or timeout is not None:
            db._given(sql, into, timeout, extra, "watch")
        db._check_open()
        db._check_params(sql, params)
        return ResultFeed(db, sql, params, into, timeout, priority, changes_only)


def _tables(profile: Profile | None) -> frozenset[str]:
    """On which a result depends, as far as that is known."""
    return _UNKNOWN if profile is None or profile.stale else profile.depends_on


def is_same(rows: list[Any], others: list[Any]) -> bool:
    """Are two results the same, to whoever was given one of them? Columns and values, and the values' types.

    What a converter has made may have been changed since; only what can be hashed is trusted not to have been.
    """
    if rows != others:
        return False
    try:
        hash(tuple(rows))
    except TypeError:
        return False
    kinds = zip(map(type, chain(rows, *rows)), map(type, chain(others, *others)), strict=True)
    return all(one is other for one, other in kinds)
