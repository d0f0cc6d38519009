"""Threads that read one after another: each goes on for a spell, so that they do not hand the GIL around."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from time import perf_counter

__all__ = ["Spells"]

SPELL_S = 0.000_5
"""So long a thread goes on while others wait: changing threads costs some 50 microseconds."""

SOON_S = 30e-6
"""Who comes back sooner than that does nothing else between its calls, and will be back again."""

REMEMBERED = 1_024
"""Threads whose last call is remembered."""


class Spells:
    """Whose turn it is to read, among threads that would read at once.

    A thread that calls in a close loop keeps its turn between its calls, for a spell; the others sleep, each on
    a lock of its own, and want no GIL meanwhile. Where threads do other things between their calls, the turn
    goes to the next at once. Advice only, kept without a lock: what must not be done at once is guarded by a
    lock besides, and nobody sleeps for longer than the spells of those before it.
    """

    __slots__ = ("_ended", "_inside", "_last", "_owner", "_since", "_soon", "_waiting")

    def __init__(self) -> None:
        self._owner = 0
        self._inside = False
        self._soon = False
        self._since = self._ended = 0.0
        self._last: dict[int, float] = {}
        self._waiting: deque[threading.Lock] = deque()

    def enter(self, me: int, now: float) -> float:
        """Wait for this thread's turn. me: `get_ident()`; now: `perf_counter()`. Returns it anew."""
        if self._owner == me:
            self._soon = now - self._ended < SOON_S
        else:
            soon = now - self._last.get(me, 0.0) < SOON_S
            if self._inside or (self._soon and now - self._ended < SOON_S):
                self._sleep()
                now = perf_counter()
            self._owner, self._since, self._soon = me, now, soon
        self._inside = True
        return now

    def leave(self, me: int, now: float) -> None:
        """A call is over; the turn may be kept."""
        if len(self._last) >= REMEMBERED:
            self._last.clear()
        self._last[me] = self._ended = now
        if self._waiting and not (self._soon and now - self._since < SPELL_S):
            self._pass_on()
        else:
            self._inside = False

    def _sleep(self) -> None:
        turn = threading.Lock()
        turn.acquire()
        self._waiting.append(turn)
        try:
            turn.acquire(timeout=(len(self._waiting) + 1) * SPELL_S)
        finally:
            with suppress(ValueError):  # its turn has come
                self._waiting.remove(turn)

    def _pass_on(self) -> None:
        try:
            turn = self._waiting.popleft()
        except IndexError:
            self._inside = False
        else:
            self._owner = 0
            self._inside = True  # whoever comes before the next one is awake sleeps
            turn.release()
