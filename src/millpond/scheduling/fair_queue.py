"""Order what waits: by priority with ageing, fair between callers."""

from __future__ import annotations

import enum
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, Protocol, TypeVar

__all__ = ["FairQueue", "Priority", "Waiting"]


class Priority(enum.IntEnum):
    """How urgent a call is. Lower ones age: none waits for ever."""

    HIGH = 0
    NORMAL = 1
    LOW = 2
    BATCH = 3


HEAD_START_S = (0.0, 0.5, 2.0, 10.0)
"""A call of a class is passed by later calls of a higher class that come within this difference."""


class Waiting(Protocol):
    """What the queue needs to know of its members. `queued` belongs to the queue."""

    caller: Hashable
    priority: int
    submitted: float
    queued: bool


T = TypeVar("T", bound=Waiting)


class FairQueue(Generic[T]):
    """Members by class, then in rounds, then in order of arrival.

    A round is what waits when the one before it begins: a member comes into the next one, or later, if it is
    to let some rounds pass. A caller has one member per round, so one that has many waiting is passed by each
    other caller, and none waits for ever, however many new callers come: self-clocked fair queueing (Golestani
    1994), the round that is served being the clock. Between classes the one whose head has waited longest
    counts first, after its head start. Removing is lazy, and the dead are swept out before they outnumber the
    living.
    """

    __slots__ = ("_dead", "_found", "_heaps", "_last", "_round", "_seq", "size")

    def __init__(self) -> None:
        self._heaps: tuple[list[tuple[int, int, T]], ...] = ([], [], [], [])
        self._round = [0, 0, 0, 0]
        self._last: dict[tuple[int, Hashable], int] = {}
        self._seq = 0
        self.size = 0
        self._dead = 0
        self._found: list[tuple[int, int, T]] | None = None

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[T]:
        for heap in self._heaps:
            for _, _, member in heap:
                if member.queued:
                    yield member

    def push(self, member: T, later: int = 0) -> None:
        """Take a member in. later: so many rounds of the others' members go first, whenever those come."""
        cls = member.priority
        key = (cls, member.caller)
        number = max(self._round[cls], self._last.get(key, 0)) + 1 + later
        self._last[key] = number
        self._seq += 1
        member.queued = True
        heappush(self._heaps[cls], (number, self._seq, member))
        self._found = None
        self.size += 1
        if len(self._last) > 1024 + 4 * self.size:
            self._forget_idle_callers()

    def peek(self) -> T | None:
        """The next one, left where it is."""
        heap = self._found = self._next_heap()
        return heap[0][2] if heap else None

    @property
    def rank(self) -> float:
        """Where the next one stands among the heads of several queues: the lowest first."""
        head = self.peek()
        return float("inf") if head is None else head.submitted + HEAD_START_S[head.priority]

    def pop(self) -> T | None:
        """Take the next one out."""
        heap = self._found or self._next_heap()
        self._found = None
        if not heap:
            return None
        number, _, member = heappop(heap)
        self._round[member.priority] = number
        member.queued = False
        self.size -= 1
        return member

    def remove(self, member: T) -> bool:
        """Take a member out wherever it stands; False if it is not in."""
        if not member.queued:
            return False
        member.queued = False
        self.size -= 1
        self._found = None
        self._dead += 1
        if self._dead > 64 + self.size:
            self._sweep()
        return True

    def _next_heap(self) -> list[tuple[int, int, T]] | None:
        best: list[tuple[int, int, T]] | None = None
        best_key = 0.0
        for cls, heap in enumerate(self._heaps):
            while heap and not heap[0][2].queued:
                heappop(heap)
                self._dead -= 1
            if heap:
                key = heap[0][2].submitted + HEAD_START_S[cls]
                if best is None or key < best_key:
                    best, best_key = heap, key
        return best

    def _sweep(self) -> None:
        for heap in self._heaps:
            heap[:] = [entry for entry in heap if entry[2].queued]
            heapify(heap)
        self._dead = 0

    def _forget_idle_callers(self) -> None:
        self._last = {key: number for key, number in self._last.items() if number > self._round[key[0]]}
