"""Hold long reads back and pace writes, until the log can be begun anew."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Protocol

from millpond import events
from millpond.engine.sqlite.bell import Bell
from millpond.engine.sqlite.holdback import Reader
from millpond.engine.sqlite.lanes import Lanes
from millpond.engine.sqlite.turnstile import Turnstile
from millpond.scheduling.drain_plan import DrainPlan, Flow
from millpond.settings import Settings
from millpond.stats import LogPin

__all__ = ["Drain", "DrainHost"]


class DrainHost(Protocol):
    """What it needs of the engine."""

    settings: Settings
    turnstile: Turnstile | None
    lanes: Lanes | None

    def readers(self) -> Sequence[Reader]: ...
    def emit(self, make: Callable[[], events.Event]) -> None: ...


class Drain:
    """The plan's hands. In the writer's thread; only `ring` may come from others.

    drained: called, in any thread, when the reads that were under way have ended, or their time is up. is_drained:
    it was, and what is still in the way are short reads, or other processes.
    """

    def __init__(self, host: DrainHost, drained: Callable[[], None]) -> None:
        settings = host.settings
        self._host = host
        self._plan = DrainPlan(settings.wal_limit_bytes, settings.log_hold_s)
        self._drained = drained
        self._bell = Bell()
        self._began = 0.0
        self.is_drained = False
        self.holds = 0
        self.held_s = self.paced_s = 0.0

    @property
    def is_on(self) -> bool:
        return self._plan.flow is Flow.DRAINING

    def reads_on(self) -> bool:
        """Are long reads under way, so that waiting for them is in vain?"""
        return bool(self._host.readers())

    def begun_anew(self) -> None:
        """All of the log is in the database, and whoever reads from now on does not need it."""
        if self._plan.begun_anew():
            self._end(begun_anew=True)

    def pinned(self, log: int, pin: LogPin | None) -> None:
        """The log, of so many bytes, could not be begun anew. pin: because of this reader, as far as known."""
        lanes, turnstile = self._host.lanes, self._host.turnstile
        if lanes is None:
            return
        now = monotonic()
        left_s = max((reader.left_s(now) for reader in self._host.readers()), default=None)
        if left_s is None and pin is not None and not pin.ours and turnstile is not None and turnstile.is_shared:
            left_s = pin.held_s  # that of another process, which will hold new ones back if asked
        if self._plan.pinned(now, log, left_s):
            self.holds += 1
            self._began = now
            self.is_drained = False
            if turnstile is not None:
                turnstile.hold_reads(self._plan.hold_s)
            lanes.holdback.hold(self._plan.hold_s, self._ended)

    def pace(self, log: int) -> None:
        """Before a batch, while draining: leave the log some room."""
        now = monotonic()
        if self._plan.over(now):
            self._end(begun_anew=False)
            return
        wait_s = self._plan.pace_s(now, log)
        if wait_s:
            self._bell.wait(wait_s)
            self.paced_s += monotonic() - now

    def ring(self) -> None:
        """Whoever paces has something better to do."""
        self._bell.ring()

    def _ended(self) -> None:
        self.is_drained = True
        self._drained()

    def _end(self, *, begun_anew: bool) -> None:
        self.is_drained = False
        held_s = monotonic() - self._began
        self.held_s += held_s
        if begun_anew and self._host.turnstile is not None:
            self._host.turnstile.hold_reads(0.0)
        lanes = self._host.lanes
        reads = lanes.holdback.release() if lanes is not None else 0
        self._host.emit(lambda: events.ReadsHeld(monotonic(), held_s, reads, begun_anew))
