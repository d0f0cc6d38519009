"""What the tests of `watch` share: who tells of changes, and the next result in time."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from millpond import Database, Settings
from millpond.engine.sqlite.watchers import Watchers
from millpond.feeds import ResultFeed
from tests.waiting import IN_TIME_S

BY_OURS = Settings(durability="normal", watch_interval_s=3_600)
"""Nothing but a commit of our own tells of anything."""
BY_OTHERS = Settings(durability="normal", watch_interval_s=0.001)


async def following(feed: ResultFeed[Any]) -> list[Any]:
    """The next result."""
    async with asyncio.timeout(IN_TIME_S):
        return await anext(feed)


def watchers_of(db: Any) -> Watchers:
    assert db._engine is not None
    watchers: Watchers = db._engine.watchers
    return watchers


def queries(db: Database) -> int:
    return db.stats().watch_queries


class Looks:
    """Counts how often the thread has looked whether anything moved, and waits for more of that."""

    def __init__(self, watchers: Watchers) -> None:
        self._more = threading.Condition()
        self._number = 0
        is_quiet = watchers._is_quiet

        def counted() -> bool:
            found = is_quiet()
            with self._more:
                self._number += 1
                self._more.notify_all()
            return found

        watchers._is_quiet = counted  # type: ignore[method-assign]  # of this one alone

    def wait_for(self, number: int) -> None:
        """Until it has looked so many times more."""
        with self._more:
            until = self._number + number
            assert self._more.wait_for(lambda: self._number >= until, IN_TIME_S)
