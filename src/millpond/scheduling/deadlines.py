"""Which call's time is up next?"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from typing import Protocol

__all__ = ["Deadlines", "Timed", "Watched"]


class Timed(Protocol):
    """A call with a deadline (seconds on the caller's clock)."""

    deadline: float | None

    @property
    def settled(self) -> bool: ...


Watched = list[Timed | None]
"""The place of one call among the deadlines. Its owner empties it when it is answered, so that neither the call
nor its result is kept until its deadline."""

SWEEP_AT = 1024


class Deadlines:
    """Deadlines of open calls. Most calls have the same timeout, so theirs stand in a plain queue.

    Settled calls are dropped when they come to the head, and swept out when they are many; so are empty places.
    """

    __slots__ = ("_heap", "_queue", "_seq", "_sweep_at", "_usual_s")

    def __init__(self, usual_s: float) -> None:
        self._usual_s = usual_s
        self._queue: deque[Watched] = deque()
        self._heap: list[tuple[float, int, Watched]] = []
        self._seq = 0
        self._sweep_at = SWEEP_AT

    def __len__(self) -> int:
        return len(self._queue) + len(self._heap)

    def add(self, call: Timed, timeout_s: float) -> Watched:
        """Watch over a call, its deadline being `timeout_s` from now."""
        queue = self._queue
        place: Watched = [call]
        if timeout_s == self._usual_s:
            queue.append(place)
        else:
            self._seq += 1
            assert call.deadline is not None
            heappush(self._heap, (call.deadline, self._seq, place))
        if len(queue) + len(self._heap) > self._sweep_at:
            self._sweep()
        return place

    def due(self, now: float) -> list[Timed]:
        """Open calls whose deadline has passed; they are no longer watched."""
        calls: list[Timed] = []
        while (head := self._head()) is not None and head.deadline is not None and head.deadline <= now:
            self._drop(head)
            calls.append(head)
        return calls

    def next(self) -> float | None:
        """The earliest deadline of an open call."""
        head = self._head()
        return head.deadline if head is not None else None

    def _head(self) -> Timed | None:
        queue, heap = self._queue, self._heap
        while queue and not _is_open(queue[0]):
            queue.popleft()
        while heap and not _is_open(heap[0][2]):
            heappop(heap)
        usual = queue[0][0] if queue else None
        other = heap[0][2][0] if heap else None
        if usual is None or other is None:
            return usual or other
        assert usual.deadline is not None
        assert other.deadline is not None
        return usual if usual.deadline <= other.deadline else other

    def _sweep(self) -> None:
        self._queue = deque(place for place in self._queue if _is_open(place))
        self._heap = [entry for entry in self._heap if _is_open(entry[2])]
        heapify(self._heap)
        self._sweep_at = max(SWEEP_AT, 2 * len(self))

    def _drop(self, call: Timed) -> None:
        if self._queue and self._queue[0][0] is call:
            self._queue.popleft()
        else:
            heappop(self._heap)


def _is_open(place: Watched) -> bool:
    call = place[0]
    return call is not None and not call.settled
