"""When is the log moved into the database, and by whom?"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

__all__ = ["CheckpointPlan", "Next"]


class Next(enum.Enum):
    """What is to be done about the log now."""

    NOTHING = "nothing"
    COPY = "copy beside the writer"
    FINISH = "finish between two batches"


@dataclass(slots=True)
class CheckpointPlan:
    """A log is begun anew only by a write that finds all of it copied. Beside a busy writer a copy never is whole.

        NOTHING --log >= `pages`--> COPY --little is left, or no less than last time--> FINISH --> NOTHING
                                     `--much is left--> COPY

    So most of it is copied beside the writer, and the writer itself copies the little rest between two of its
    batches, when nothing can come after it (a batch that was begun before the copy was whole goes on where the
    log ends, even if there is no rest). What a reader pins is tried again each time the log has grown by half
    of `pages`.

    Promises: one step at a time, and none while the log is shorter than `pages`; a copy that gains nothing on
    the writer is not made again; after each end the log grows by half of `pages` before the next step.
    Source: sqlite.org/wal.html, "Avoiding Excessively Large WAL Files".
    """

    pages: int
    now: Next = Next.NOTHING
    _from: int = field(init=False)
    _left: int | None = None
    _log: int = 0

    def __post_init__(self) -> None:
        self._from = self.pages

    def grew(self, log: int) -> bool:
        """A commit left so many pages in the log. True: a copy is to begin."""
        self._log = log
        if log < self.pages:
            self._from = self.pages
        elif self.now is Next.NOTHING and log >= self._from:
            self.now = Next.COPY
            self._left = None
            return True
        return False

    def copied(self, log: int, moved: int) -> Next:
        """A copy has ended: of the `log` pages that there were when it began `moved` are in the database."""
        left = max(log, self._log) - moved
        near = left <= self.pages or (self._left is not None and left >= self._left)
        self._left = left
        self.now = Next.FINISH if near else Next.COPY
        return self.now

    def again(self) -> bool:
        """Who was in the way has gone. True: a copy is to begin at once."""
        if self.now is not Next.NOTHING or self._log < self.pages:
            return False
        self.now = Next.COPY
        self._left = None
        return True

    def ended(self) -> None:
        """The writer has copied what it could; or a step failed: another process does it, or the disk is at fault."""
        self._from = max(self.pages, self._log + self.pages // 2)
        self.now = Next.NOTHING
