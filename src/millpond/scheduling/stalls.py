"""Does the disk stall the loop? Then reads on it are given up for a while."""

from __future__ import annotations

import enum

__all__ = ["STALL_S", "Mode", "Stalls"]

STALL_S = 0.005
"""A read that is held up for so long is felt by all who share the loop."""
AGAIN_S = 1.0
"""A second slow read within this time is no accident."""
WATCH_S = 1.0
"""Measuring costs each read a few microseconds, so it does not go on for longer without a reason."""
FIRST_OFF_S = 1.0
MOST_OFF_S = 60.0
FORGOTTEN_AFTER_S = 60.0


class Mode(enum.Enum):
    """What is done with reads on the loop."""

    TRUST = "they run"
    WATCH = "they run, and are measured"
    OFF = "they go to a lane"


class Stalls:
    """Tell a disk that stalls from a busy machine, and keep reads off the loop as long as it does.

        TRUST --two slow reads within AGAIN_S--> WATCH --one that waited for the disk--> OFF
          ^------------WATCH_S without one--------'  ^------------its time is over--------'

    Most slow reads are slow because others had the core or the interpreter: a lane would not help them. So being
    slow only raises suspicion; what is believed is a measured read. Off lasts FIRST_OFF_S, each time twice as long
    as the last, up to MOST_OFF_S; FORGOTTEN_AFTER_S without another make it short again.

    Times are seconds on the shell's clock.
    """

    __slots__ = ("_off_s", "_slow_at", "_stalled_at", "mode", "until")

    def __init__(self) -> None:
        self.mode = Mode.TRUST
        self.until = 0.0
        self._off_s = FIRST_OFF_S
        self._slow_at = float("-inf")
        self._stalled_at = float("-inf")

    def slow(self, now: float, took_s: float) -> Mode:
        """In TRUST a read was slow, for whatever reason."""
        if took_s >= STALL_S:
            if now - self._slow_at <= AGAIN_S:
                self._watch(now)
            self._slow_at = now
        return self.mode

    def measured(self, now: float, waited_s: float) -> Mode:
        """In WATCH a read has ended. waited_s: for the disk, as far as can be told."""
        if waited_s >= STALL_S:
            if now - self._stalled_at > FORGOTTEN_AFTER_S + self._off_s:
                self._off_s = FIRST_OFF_S
            self._stalled_at = now
            self.mode = Mode.OFF
            self.until = now + self._off_s
            self._off_s = min(MOST_OFF_S, self._off_s * 2)
        elif now >= self.until:
            self.mode = Mode.TRUST
            self._slow_at = float("-inf")
        return self.mode

    def took(self, now: float, took_s: float) -> Mode:
        """Something has run on the loop whose time is measured anyway, and is the disk's as far as is known."""
        return self.slow(now, took_s) if self.mode is Mode.TRUST else self.measured(now, took_s)

    def keep_off(self, now: float) -> bool:
        """Is the disk stalling the loop?"""
        return self.mode is Mode.OFF and self.asked(now) is Mode.OFF

    def asked(self, now: float) -> Mode:
        """In OFF a read would like to run."""
        if now >= self.until:
            self._watch(now)
        return self.mode

    def broken(self, now: float) -> Mode:
        """Its connection is lost: nothing can run before there is a new one."""
        self.mode = Mode.OFF
        self.until = now + FIRST_OFF_S
        return self.mode

    def _watch(self, now: float) -> None:
        self.mode = Mode.WATCH
        self.until = now + WATCH_S
