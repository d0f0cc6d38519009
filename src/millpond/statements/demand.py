"""What a long statement uses while it runs, learnt from its runs: a share of a core, a share of the interpreter."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["NOTHING", "TOLD_APART_S", "UNKNOWN", "Demand", "Spent", "Use", "used"]

TOLD_APART_S = 0.001
"""What ends earlier is not measured: it is cheap, or its next run will tell."""
ROW_S = 0.3e-6
"""The interpreter is needed for so long to take one row from SQLite."""
LEAST_GIL = 0.3
"""A smaller share of the interpreter's time leaves room for everyone."""
LITTLE_CPU = 0.1
"""What uses less of a core waits for storage, as far as others are concerned."""
MOVES = 0.3
FADES = 0.98
FADES_SLOWLY = 0.999
"""As many rows may come from more and more work."""
AS_MANY = 0.5


class Use(NamedTuple):
    """Shares from 0 to 1: of one core, and of the time that the interpreter has."""

    cpu: float
    gil: float


UNKNOWN = Use(1.0, 1.0)
"""Before its first run a statement may be anything."""


NOTHING = Use(0.0, 0.0)


class Spent(NamedTuple):
    """What one run has taken so far.

    queued_s: of the time, ready to run and without a core; None where the system does not say. rows: taken out.
    """

    wall_s: float
    cpu_s: float
    queued_s: float | None
    rows: int


def used(spent: Spent) -> Use:
    """The shares that a run had. One that waited for a core all the time may be anything."""
    had_s = spent.wall_s - (spent.queued_s or 0.0)
    if had_s <= 0.0:
        return UNKNOWN
    gil = spent.rows * ROW_S / spent.cpu_s if spent.cpu_s > 0.0 else 0.0
    return _rounded(min(1.0, spent.cpu_s / had_s), min(1.0, gil))


class Demand:
    """What the next run of a statement will probably use, by those that have ended.

    How much of a core is the mean of its last runs, the time it waited for one left out. Where that time is not
    known, others make any share look small: then the greatest counts, and fades. So it does for the interpreter:
    the same rows take more time beside others, never less. So a run with as many rows that took longer says nothing,
    but that it may have had company: if that made the share fade, two would soon run at once, and each make the
    other look as if it needed less.
    """

    __slots__ = ("_rows", "use")

    def __init__(self, spent: Spent) -> None:
        """By its first run that took long enough to tell, TOLD_APART_S or more.

        Where nobody looked at the run queue, one that used a core at all may have wanted the whole of it.
        """
        use = used(spent)
        self._rows = spent.rows
        self.use = Use(1.0, use.gil) if use.cpu and spent.queued_s is None else use

    def ran(self, spent: Spent) -> None:
        """Take in another one."""
        then, now = self.use, used(spent)
        if spent.queued_s is None:
            cpu = max(now.cpu, then.cpu * FADES)
        else:
            cpu = then.cpu + (now.cpu - then.cpu) * MOVES
        if now.gil >= then.gil:
            gil, self._rows = now.gil, spent.rows
        else:
            gil = max(now.gil, then.gil * (FADES if spent.rows < self._rows * AS_MANY else FADES_SLOWLY))
        self.use = _rounded(cpu, gil)


def _rounded(cpu: float, gil: float) -> Use:
    """A little is nothing."""
    return Use(cpu if cpu > LITTLE_CPU else 0.0, gil if gil > LEAST_GIL else 0.0)
