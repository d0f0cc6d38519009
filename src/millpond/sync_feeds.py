"""Results that come anew whenever their tables change, for threads: `for rows in db.watch(sql):`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Never, TypeVar, overload

from millpond import messages
from millpond.callers.threads import ThreadWaiter
from millpond.engine.sqlite.connection import ALL
from millpond.feeds import Feed
from millpond.rows import Row
from millpond.scheduling.fair_queue import Priority

if TYPE_CHECKING:
    from millpond.engine.sqlite.engine import Engine
    from millpond.sync import Database

__all__ = ["ResultFeed", "Watching"]

R = TypeVar("R")
T = TypeVar("T")

AWAKE_S = 1.0
"""A signal that comes just before a thread falls asleep does not wake it: Ctrl-C is heard when it wakes by itself."""


class ResultFeed(Feed[R]):
    """Results, each a list of rows, the newest whenever it is asked for: `for rows in db.watch(sql):`.

    As its twin for tasks. `close()`, from any thread, ends a loop that waits for the next result.
    """

    _db: Database

    def __iter__(self) -> ResultFeed[R]:
        return self

    def __next__(self) -> list[R]:
        self._enter()
        try:
            while not self._ended:
                waiter: ThreadWaiter | None = self._waiter()
                if waiter is not None:
                    while not waiter.wait(AWAKE_S):
                        pass
                    waiter.result()
                elif (rows := self._look()) is not None:
                    return rows
        finally:
            self._busy = False
        self._leave()  # it may have been closed just as it came
        raise StopIteration

    def close(self) -> None:
        """Watch no more."""
        self._leave()

    def _look(self) -> list[R] | None:
        db = self._db
        engine = db._check_open()
        moment = self._begin(engine, db._profile(self._sql))
        found = db._fetch(self._sql, self._params, ALL, self._timeout, self._priority, True)
        return self._took(engine, moment, found)

    def _not_inside(self, engine: Engine) -> None:
        if threading.get_ident() == engine.writer.thread_id:
            raise messages.would_watch_for_itself(None)
        super()._not_inside(engine)


class Watching:
    """`watch`, for threads."""

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
        """`for rows in db.watch(sql):` — the result now, and again each time that its tables have changed.

        As `millpond.Database.watch`. The thread sleeps between the results.
        """
        db: Any = self
        if extra or into is not None or timeout is not None:
            db._given(sql, into, timeout, extra, "watch")
        db._check_open()
        db._check_params(sql, params)
        return ResultFeed(db, sql, params, into, timeout, priority, changes_only)
