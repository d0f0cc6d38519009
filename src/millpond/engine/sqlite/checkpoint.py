"""One checkpoint, measured."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import Any, Literal, NamedTuple

import apsw

__all__ = ["Checkpoint", "Mode", "Tally"]

Mode = Literal["PASSIVE", "RESTART", "TRUNCATE"]


class Checkpoint(NamedTuple):
    """What one came to. pages: that the log holds; copied: in the database by now; moved: by this one.

    whole: nothing is left. After RESTART and TRUNCATE: nor does anyone read from the log any more.
    """

    pages: int
    copied: int
    moved: int
    seconds: float
    whole: bool

    @staticmethod
    def make(db: apsw.Connection, name: str, mode: Mode) -> Checkpoint:
        """Raises: apsw.BusyError while another connection checkpoints; apsw.Error."""
        total, before = db.wal_checkpoint(name, mode=apsw.SQLITE_CHECKPOINT_NOOP)
        began = monotonic()
        quoted = name.replace('"', '""')
        # The function says "busy" without the figures.
        row: Any = db.execute(f'PRAGMA "{quoted}".wal_checkpoint({mode})').fetchone()
        busy, pages, copied = row
        seconds = monotonic() - began
        if pages < 0:
            if busy:
                raise apsw.BusyError("another connection checkpoints")
            return Checkpoint(0, 0, 0, seconds, True)  # it has no log
        whole = not busy and copied >= pages
        if mode == "TRUNCATE" and whole:
            return Checkpoint(total, total, total - before, seconds, True)
        return Checkpoint(pages, copied, max(0, copied - before), seconds, whole)


@dataclass(slots=True)
class Tally:
    """What checkpoints came to, all together. By several threads: a lost count does no harm."""

    pages: int = 0
    seconds: float = 0.0
    longest_s: float = 0.0

    def add(self, done: Checkpoint) -> None:
        self.pages += done.moved
        self.seconds += done.seconds
        self.longest_s = max(self.longest_s, done.seconds)
