"""Where the workers of one process take their events from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random

from millpond.demo.chat import Event
from millpond.demo.generated import generate
from millpond.demo.replayed import replay

__all__ = ["PAUSE_AFTER_FAILURE_S", "Feed", "events_of"]

PAUSE_AFTER_FAILURE_S = 0.010
"""A worker whose event failed drops it and waits so long before the next.

Without it, failing at once and trying at once, 25 threads get thirty times as many errors out of sqlite3 and less
work done; with it they do best (tried from 0 to 200 ms).
"""


def events_of(seed: int, data: Path | None, share: int, shares: int) -> Iterator[Event]:
    """Every `shares`-th event of the one stream, from the `share`-th on: processes part it between them."""
    stream = generate(Random(seed)) if data is None else replay(data)
    return islice(stream, share, None, shares)


class Feed:
    """Hands out events to threads or tasks until the time is over or somebody stops it. `events` never ends."""

    def __init__(self, events: Iterator[Event], clock: Callable[[], float]) -> None:
        self._events = events
        self._clock = clock
        self._lock = threading.Lock()
        self._until = float("inf")
        self._stopped_at: float | None = None
        self.ended = threading.Event()

    @property
    def ended_at(self) -> float:
        """When the last event was handed out, or should have been: the deadline, or the moment of the stop."""
        return self._until if self._stopped_at is None else min(self._until, self._stopped_at)

    def open_until(self, deadline: float) -> None:
        self._until = deadline

    def stop(self) -> None:
        """End it early."""
        if not self.ended.is_set():
            self._stopped_at = self._clock()
            self.ended.set()

    def end_if_late(self) -> float:
        """End it when its time is over, even if nobody comes to take an event. Returns the seconds left."""
        left = self._until - self._clock()
        if left <= 0:
            self.ended.set()
        return max(left, 0.0)

    def take(self) -> Event | None:
        """The next event; None when it is time to go home."""
        if self.ended.is_set() or not self.end_if_late():
            return None
        with self._lock:
            return next(self._events)
