"""Who else has the write lock, and since when it is known to be so."""

from __future__ import annotations

import threading
from time import monotonic, time

from millpond.engine.sqlite import platform
from millpond.errors import Holder

__all__ = ["LockWatch"]

UNWATCHED_S = 1.0
"""After so long without a look a process that has the lock again may have let it go in between."""


class LockWatch:
    """Remembers a holder from one look to the next, as long as nobody else has had the lock since.

    The kernel tells who has a lock, not since when. Any thread may look.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._pid: int | None = None
        self._first = self._last = self._since = 0.0
        self.known = False

    def look(self, waiting_since: float) -> Holder:
        """The holder now. waiting_since: since when a writer has been waiting for it, without a break."""
        found = platform.write_lock_holder(self._path)
        pid = found.pid if found is not None else None
        with self._lock:
            now = monotonic()
            if not self.known or self._last < waiting_since - UNWATCHED_S:
                self._begin(pid, min(now, waiting_since), now)
            elif pid != self._pid:
                self._begin(pid, now, now)
            self._last = now
            since, held_s = self._since, now - self._first
        if found is None:
            return Holder(since=since, held_s=held_s)
        return Holder(pid, found.program, since, held_s, None, found.ours)

    def forget(self) -> None:
        """The lock was free."""
        self.known = False

    def _begin(self, pid: int | None, first: float, now: float) -> None:
        self._pid = pid
        self._first = first
        self._since = time() - (now - first)
        self.known = True
