"""Hand events to observers, so that none of them can slow or break the work."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from millpond.engine.sqlite.bell import Bell
from millpond.events import Event, Observer

__all__ = ["Observers"]

log = logging.getLogger("millpond.observers")

KEPT = 10_000
"""Events that wait for an observer; beyond it the oldest are dropped and counted."""
TOLD_ERRORS = 5


class Observers:
    """One thread and one bounded queue for all observers of a database; none at all without observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)
        self._queue: deque[Event] = deque(maxlen=KEPT)
        self._bell = Bell()
        self._closing = False
        self._thread: threading.Thread | None = None
        self.wanted = bool(observers)
        self.errors = 0
        self.dropped = 0

    def start(self) -> None:
        if self.wanted:
            self._thread = threading.Thread(target=self._main, name="millpond-observers", daemon=True)
            self._thread.start()

    def emit(self, make: Callable[[], Event]) -> None:
        """Queue an event; it is made only if somebody wants it."""
        if self.wanted:
            if len(self._queue) == KEPT:
                self.dropped += 1
            self._queue.append(make())
            self._bell.ring()

    def close(self, grace_s: float) -> None:
        """Deliver what is queued, as far as the time allows."""
        self._closing = True
        self._bell.ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(grace_s)
        left = len(self._queue)
        if left:
            self.dropped += left
            log.warning("%d events were not delivered: observers were too slow until the database was closed", left)

    def _main(self) -> None:
        while True:
            while self._queue:
                event = self._queue.popleft()
                for observer in self._observers:
                    self._tell(observer, event)
            if self._closing:
                return
            self._bell.wait()

    def _tell(self, observer: Observer, event: Event) -> None:
        try:
            observer(event)
        except BaseException:  # not even SystemExit may end the thread that serves the others
            self.errors += 1
            if self.errors <= TOLD_ERRORS:
                log.exception("an observer failed on %s; the work goes on", type(event).__name__)
