"""How long a read on the caller's thread waited for the disk, rather than for a core or the interpreter."""

from __future__ import annotations

import threading
from time import monotonic, perf_counter

import apsw

from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.thread_meter import Reading, ThreadMeter

__all__ = ["DiskWaits"]

_MISSES = apsw.SQLITE_DBSTATUS_CACHE_MISS
PROBES = 50
PROBED_S = 0.002
"""So many statements that need no page take less than a tenth of this, unless the interpreter is wanted by others."""


class DiskWaits:
    """Measures one read after another, each between `begin` and `waited_s`. Costs some three microseconds."""

    def __init__(self) -> None:
        self._meter: ThreadMeter | None = None
        self._thread = 0
        self._began: Reading | None = None
        self._misses = 0

    def begin(self, connection: Connection) -> None:
        self._misses = connection.db.status(_MISSES)[0]
        self._began = self._of_this_thread().read()

    def waited_s(self, connection: Connection, least_s: float) -> float:
        """Since `begin`, for pages of the file; 0.0 where it was less than `least_s`, or for something else."""
        began = self._began
        if began is None or monotonic() - began.at < least_s:
            return 0.0
        spent = began.until(self._of_this_thread().read(), 0)
        waited_s = spent.wall_s - spent.cpu_s - (spent.queued_s or 0.0)
        if waited_s < least_s or connection.db.status(_MISSES)[0] == self._misses or _is_wanted(connection):
            return 0.0
        return waited_s

    def close(self) -> None:
        if self._meter is not None:
            self._meter.close()
            self._meter = None

    def _of_this_thread(self) -> ThreadMeter:
        """Of a database for threads the caller is now this one, now that."""
        if self._meter is None or self._thread != threading.get_ident():
            self.close()
            self._meter = ThreadMeter()
            self._thread = threading.get_ident()
        return self._meter


def _is_wanted(connection: Connection) -> bool:
    """Do others want the interpreter? Each statement lets go of it for a moment, and gets it back at once if not."""
    until = perf_counter() + PROBED_S
    for _ in range(PROBES):
        connection.run("SELECT 1")
        if perf_counter() >= until:
            return True
    return False
