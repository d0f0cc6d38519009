"""How one thread wakes another."""

from __future__ import annotations

import threading

__all__ = ["Bell"]


class Bell:
    """Rung by anyone, any number of times; heard once by the one thread that waits.

    A lock used as a binary semaphore: it may be rung from a finalizer, which a Condition may not.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:
            return  # it rings already

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it rings. False when the time is up."""
        return self._lock.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s))
