"""Which watchers of results must look again, after which commits, and how soon."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

__all__ = ["Moved", "Position", "WatchPlan", "Watcher", "moved"]


class Position(NamedTuple):
    """Where a log stands. commits: a 32-bit counter of all processes' commits; frames: pages in the log."""

    commits: int
    frames: int


class Moved(enum.Enum):
    """Whose doing is it that a log stands elsewhere than before?"""

    NOBODY = "nothing was committed"
    OURS = "one commit, our own"
    OTHERS = "somebody else has committed, maybe beside us"


def moved(before: Position | None, after: Position, *, wrote: bool) -> Moved:
    """What lies between two looks at a log. before: None where that is not known. wrote: we committed in between."""
    if before is None:
        return Moved.OTHERS
    commits = (after.commits - before.commits) & 0xFFFFFFFF
    if wrote and commits == 1:
        return Moved.OURS
    if not wrote and not commits and not after.frames:
        return Moved.NOBODY  # all of it is in the file, and it begins anew
    return Moved.OTHERS  # also where the counter says nothing: a log that was recovered counts from 0


class Watcher:
    """One who watches a result.

    tables: those that its result depends on, None where any may matter. changed: the moment of the last commit
    that it must know of; seen: that at which the reading of its last result began. not_before: it is told of
    nothing sooner. waits: it is to be told. waiter: where that is done, the shell's own.
    """

    __slots__ = ("changed", "not_before", "seen", "tables", "waiter", "waits")

    def __init__(self) -> None:
        self.tables: frozenset[str] | None = None
        self.changed = 0
        self.seen = -1
        self.not_before = 0.0
        self.waits = False
        self.waiter: Any = None

    @property
    def is_due(self) -> bool:
        """Is there a commit to its tables that its last result may not have?"""
        return self.changed > self.seen


class WatchPlan:
    """The watchers by table, and a clock that counts commits: a moment is the number of those so far.

        enter --> due --begin, read--> up to date --commit to one of its tables--> due
                        `-- a commit meanwhile, a reading that failed --> due still

    Nothing is queued: however many commits there were, a watcher is due once. And nothing is lost: what counts
    is the moment at which its reading *began*, whether it waits already or not.

    Promises: after a commit to one of its tables a watcher is due, and told (once) if it waits; none is told before
    its time, and each then; none is due for a commit to other tables.
    Times are seconds on the shell's monotonic clock. Not safe for several threads: the owner has a lock.
    """

    def __init__(self) -> None:
        self.moment = 0
        self._all: set[Watcher] = set()
        self._readers: dict[str | None, set[Watcher]] = {}
        self._early: set[Watcher] = set()

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, one: Watcher) -> None:
        """It is due until it has read."""
        self._all.add(one)
        self._enrol(one)

    def leave(self, one: Watcher) -> None:
        """Twice is once. What it does afterwards is of no consequence, and it need not wait for anything."""
        if one in self._all:
            self._all.remove(one)
            self._strike(one)
            self._early.discard(one)

    def begin(self, one: Watcher, tables: frozenset[str] | None) -> int:
        """It is about to read what depends on these tables. Returns the moment, to be given to `read`."""
        one.waits = False
        self._early.discard(one)
        self._depends(one, tables)
        return self.moment

    def read(self, one: Watcher, moment: int, tables: frozenset[str] | None, not_before: float = 0.0) -> None:
        """It has read. tables: what the result does depend on. not_before: it is told of nothing until then."""
        if tables != one.tables:
            self._depends(one, tables)
            one.changed = self.moment  # there may have been commits to these, of which it was not told
        one.seen = moment
        one.not_before = not_before

    def wait(self, one: Watcher, now: float) -> bool:
        """May it wait? False: it is to look at once."""
        if one not in self._all:
            return False
        if one.is_due:
            if one.not_before <= now:
                return False
            self._early.add(one)
        one.waits = True
        return True

    def committed(self, tables: Collection[str] | None, now: float) -> list[Watcher]:
        """A commit to these tables, None where not all are known. Returns those to be told now."""
        self.moment += 1
        found: Iterable[Watcher]
        if tables is None:
            found = self._all
        elif not tables:
            return []
        else:
            found = set().union(*[self._readers.get(table, ()) for table in (*tables, None)])
        for one in found:
            one.changed = self.moment
        waiting = [one for one in found if one.waits]
        self._early.update(one for one in waiting if one.not_before > now)
        return self._told(one for one in waiting if one.not_before <= now)

    @property
    def next_at(self) -> float | None:
        """When one is to be told of what has happened already."""
        return min((one.not_before for one in self._early), default=None)

    def in_time(self, now: float) -> list[Watcher]:
        """Those whose time has come."""
        return self._told(one for one in self._early if one.not_before <= now)

    def everyone(self) -> list[Watcher]:
        """All that wait: there is something else to be told."""
        return self._told(one for one in self._all if one.waits)

    def _told(self, ones: Iterable[Watcher]) -> list[Watcher]:
        told = list(ones)
        for one in told:
            one.waits = False
            self._early.discard(one)
        return told

    def _depends(self, one: Watcher, tables: frozenset[str] | None) -> None:
        if tables != one.tables and one in self._all:
            self._strike(one)
            one.tables = tables
            self._enrol(one)

    def _enrol(self, one: Watcher) -> None:
        for table in (None,) if one.tables is None else one.tables:
            self._readers.setdefault(table, set()).add(one)

    def _strike(self, one: Watcher) -> None:
        for table in (None,) if one.tables is None else one.tables:
            readers = self._readers[table]
            readers.remove(one)
            if not readers:
                del self._readers[table]
