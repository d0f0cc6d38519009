"""When do long reads and writes wait for the log, so that it can be begun anew though readers never end all at once?"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["DrainPlan", "Flow", "Lives"]

EARLIEST, LATEST, FULL = 1 / 8, 1 / 2, 7 / 8
"""Shares of the limit: reads are not held before the first and, where readers are in the way, from the second on;
paced writes stop short of the third."""
SPREAD = 3
"""A hold's room is spent by a third of what is left in a third of `hold_s`: little is left after it, and never none."""
PACE_MOST_S = 0.25
"""A batch waits no longer, whatever the log: timeouts of callers are seconds."""
FADE = 0.3
PAUSE_FACTOR, PAUSE_MOST_S = 4, 300.0
"""After a hold that brought nothing: so many times `hold_s` until the next, then twice that, at most five minutes."""


class Flow(enum.Enum):
    """How things stand with the log."""

    FREE = "free"
    DRAINING = "new long reads wait for older ones to end"
    RESIGNED = "a reader stays for long: the log grows"


@dataclass(slots=True)
class DrainPlan:
    """Readers that overlap keep the log from ever being begun anew, and it grows without bound.

        FREE --pinned by short readers, and the room lasts for one hold--> DRAINING --begun anew--> FREE
          ^                                                                   |
          |                                                        `hold_s` over, not begun anew
          `--begun anew-- RESIGNED (after a pause, as from FREE) <------------'

    While DRAINING new long reads wait, until those that are under way have ended and the log is begun anew; writes
    go on, in a pace that leaves it below the limit. A reader that will stay for longer than `hold_s` is not waited for.

    Promises: a hold lasts `hold_s` at most; before the next after one that brought nothing there is a pause of
    four times as much at least; no batch waits longer than PACE_MOST_S; a log that has some room below FULL when a
    hold begins stays below the limit, as long as no batch is larger than a hundredth of it.
    Times are seconds on the shell's clock, `limit` and `log` bytes.
    """

    limit: int
    hold_s: float
    flow: Flow = Flow.FREE
    until: float = 0.0
    _first: tuple[float, int] | None = None
    _failed: int = 0
    _not_before: float = 0.0
    _paced: bool = False
    _last: float = 0.0
    _log: int = 0

    def pinned(self, now: float, log: int, left_s: float | None) -> bool:
        """The log could not be begun anew. left_s: for how long our readers may still read; None: none of ours does.

        True: a hold begins now.
        """
        if self._first is None:
            self._first = now, log
        if self.flow is Flow.DRAINING or not self.hold_s or left_s is None or left_s > self.hold_s:
            return False
        if now < self._not_before or not self._is_time(now, log):
            return False
        self.flow = Flow.DRAINING
        self.until = now + self.hold_s
        self._paced = log < self.limit * FULL
        self._last, self._log = now, log
        return True

    def pace_s(self, now: float, log: int) -> float:
        """Before a batch: how long it is to wait, given what the last one added to the log."""
        if self.flow is not Flow.DRAINING or not self._paced:
            return 0.0
        grown, self._log = log - self._log, log
        room = self.limit * FULL - log
        if room <= 0:
            wait_s = PACE_MOST_S
        else:
            wait_s = min(PACE_MOST_S, max(0.0, self._last + grown / room * self.hold_s / SPREAD - now))
        self._last = now + wait_s
        return wait_s

    def begun_anew(self) -> bool:
        """All of the log is in the database, and the next write begins it anew. True: a hold ends with it."""
        held = self.flow is Flow.DRAINING
        self.flow = Flow.FREE
        self._first = None
        self._failed = 0
        self._not_before = 0.0
        return held

    def over(self, now: float) -> bool:
        """Has a hold lasted too long? Then it has ended by this."""
        if self.flow is not Flow.DRAINING or now < self.until:
            return False
        self.flow = Flow.RESIGNED
        self._not_before = now + min(PAUSE_MOST_S, self.hold_s * PAUSE_FACTOR * 2**self._failed)
        self._failed = min(self._failed + 1, 10)
        return True

    def _is_time(self, now: float, log: int) -> bool:
        """Not sooner than needed, for it costs the readers; not so late that the room does not last for the hold."""
        if log < self.limit * EARLIEST:
            return False
        if log >= self.limit * LATEST:
            return True
        assert self._first is not None
        then, before = self._first
        return now > then and log + (log - before) / (now - then) * self.hold_s >= self.limit * FULL


class Lives:
    """How long the snapshots and streams of a line last, as far as known: a fading mean; bounded, the oldest goes."""

    __slots__ = ("_limit", "_lives")

    def __init__(self, limit: int = 1_000) -> None:
        self._limit = limit
        self._lives: dict[str, float] = {}

    def ended(self, place: str, seconds: float) -> None:
        """One has ended."""
        known = self._lives.get(place)
        if known is None and len(self._lives) >= self._limit:
            self._lives.pop(next(iter(self._lives)))
        self._lives[place] = seconds if known is None else known + (seconds - known) * FADE

    def of(self, place: str) -> float | None:
        """How long the next one may last; None: nothing is known."""
        return self._lives.get(place)
