"""What a thread has used of the cores, asked by itself or by others."""

from __future__ import annotations

import os
import threading
import time
from time import monotonic
from typing import NamedTuple

from millpond.engine.sqlite import platform
from millpond.statements.demand import Spent

__all__ = ["Reading", "ThreadMeter"]


class Reading(NamedTuple):
    """at: `monotonic()`. cpu_s: time on a core; queued_s: ready and without one, None where the system does not say."""

    at: float
    cpu_s: float
    queued_s: float | None

    def until(self, later: Reading, rows: int) -> Spent:
        """What was spent between two readings. rows: taken out of the statement meanwhile."""
        queued_s = None if later.queued_s is None or self.queued_s is None else later.queued_s - self.queued_s
        return Spent(later.at - self.at, later.cpu_s - self.cpu_s, queued_s, rows)


class ThreadMeter:
    """Made in the thread that it measures. A reading costs about two microseconds.

    The time on a core is the thread's clock; the time in the run queue, without which a thread among many looks as
    if it waited for storage, is the second number of its `schedstat`, kept open. Source: proc(5).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clock: int | None = None
        self._schedstat: int | None = None
        self._stat: int | None = None
        if platform.linux_facts:
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
            try:
                self._schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
                self._stat = os.open("/proc/thread-self/stat", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                return  # hidden, or too many files are open: the thread's clock must do

    def read(self) -> Reading:
        """By the thread itself."""
        return Reading(monotonic(), time.thread_time(), self._queued_s())

    def look(self) -> Reading | None:
        """By another thread; None while it cannot be known.

        What a thread waits in the run queue is counted when it has got its core. So only one that waits for
        something else just now can be asked from outside.
        """
        with self._lock:
            if self._clock is None or self._stat is None:
                return None
            try:
                state = os.pread(self._stat, 400, 0).rpartition(b")")[2].split()[0]
                cpu_s = time.clock_gettime(self._clock)
            except (OSError, IndexError):
                return None
        return None if state == b"R" else Reading(monotonic(), cpu_s, self._queued_s())

    def close(self) -> None:
        with self._lock:
            opened = [file for file in (self._schedstat, self._stat) if file is not None]
            self._schedstat = self._stat = None
        for file in opened:
            os.close(file)

    def _queued_s(self) -> float | None:
        with self._lock:
            if self._schedstat is None:
                return None
            try:
                return int(os.pread(self._schedstat, 80, 0).split()[1]) / 1e9
            except (OSError, ValueError, IndexError):
                return None
