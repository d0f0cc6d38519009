"""Which of the reads that wait may run now: tokens for what each uses, not a number of lanes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from millpond.scheduling.fair_queue import FairQueue, Waiting

__all__ = ["PATIENCE_S", "TokenQueue", "Uses", "Wanting"]

PATIENCE_S = 0.01
"""Who has waited for so long is not overtaken any more for the tokens that it waits for."""
ROUNDING = 1e-9


class Uses(Protocol):
    """Shares, from 0 to 1."""

    @property
    def cpu(self) -> float: ...
    @property
    def gil(self) -> float: ...


class Wanting(Waiting, Protocol):
    """What the queue needs to know of its members. `line` belongs to the queue. wants: as far as is known now."""

    line: int

    @property
    def wants(self) -> Uses: ...


T = TypeVar("T", bound=Wanting)

_FREE, _CPU, _GIL = range(3)


class TokenQueue(Generic[T]):
    """Reads that wait for tokens: there are `cores` for the use of a core, one for the use of the interpreter.

    More threads than cores make everything slower, the event loop first; two that need the interpreter at the
    same time do less than one. What waits for storage costs neither. So there is a line for each kind of use,
    in each of which priority, fairness and order are those of a FairQueue:

        free -----------------------------------------------------> runs
        core -----------while the sum of shares is within `cores`--> runs
        interpreter ----the same, and the sum of those within 1----> runs

    Promises: what `next` lets run keeps both sums within their bounds, together with what runs already; what
    waits for storage never waits for tokens; who has waited for PATIENCE_S is not overtaken for the tokens that
    it lacks; sessions, which run unasked, always leave one core to those who ask.

    Times are seconds on the shell's clock.
    """

    __slots__ = ("_cores", "_lines")

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._lines: tuple[FairQueue[T], ...] = (FairQueue(), FairQueue(), FairQueue())

    def __len__(self) -> int:
        return sum(map(len, self._lines))

    def __iter__(self) -> Iterator[T]:
        for line in self._lines:
            yield from line

    def push(self, member: T) -> None:
        uses = member.wants
        member.line = _GIL if uses.gil else _CPU if uses.cpu else _FREE
        self._lines[member.line].push(member)

    def remove(self, member: T) -> bool:
        """Take a member out wherever it stands; False if it is not in."""
        return self._lines[member.line].remove(member)

    def take(self, member: T) -> None:
        """Take out what `next` has just said."""
        taken = self._lines[member.line].pop()
        assert taken is member

    def next(self, now: float, running: Iterable[Uses], unasked: Iterable[Uses] = ()) -> T | None:
        """The one that may run now, left where it is. unasked: steps of sessions that are running."""
        cpu, gil = float(self._cores), 1.0
        for use in running:
            cpu -= use.cpu
            gil -= use.gil
        cpu -= min(sum(use.cpu for use in unasked), self._cores - 1)
        heads = [(line.rank, line) for line in self._lines if line]
        heads.sort(key=_by_rank)
        for _, line in heads:
            head = line.peek()
            assert head is not None
            uses = head.wants
            lacks_cpu = uses.cpu > 0.0 and uses.cpu > cpu + ROUNDING
            lacks_gil = uses.gil > 0.0 and uses.gil > gil + ROUNDING
            if not lacks_cpu and not lacks_gil:
                return head
            if lacks_cpu and now - head.submitted >= PATIENCE_S:
                cpu = 0.0  # kept for it; who lacks only the interpreter lets the other lines have the cores meanwhile
        return None


def _by_rank(head: tuple[float, object]) -> float:
    return head[0]
