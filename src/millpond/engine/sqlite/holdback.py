"""Long reads that are held back until older ones have ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NamedTuple, Protocol

from millpond.engine.sqlite.calls import ReadCall
from millpond.engine.sqlite.sessions import Session
from millpond.scheduling.drain_plan import Lives
from millpond.scheduling.tokens import TokenQueue

__all__ = ["Holdback", "Reader"]


class Reader(NamedTuple):
    """Who keeps a commit from being forgotten. began: seconds on the monotonic clock; what: for people.

    lasts_s: how long its like lasted before; None if that is not known.
    """

    began: float
    what: str
    caller: Any
    place: str | None = None
    sql: str | None = None
    lasts_s: float | None = None

    def left_s(self, now: float) -> float:
        """For how long it may go on: as those before it; else for as long as until now, which is all that one knows."""
        age = now - self.began
        return self.lasts_s - age if self.lasts_s is not None and self.lasts_s > age else age

    def surely_left_s(self, now: float) -> float:
        return max(0.0, self.lasts_s - (now - self.began)) if self.lasts_s is not None else 0.0


class Lane(Protocol):
    """What it needs to know of a lane."""

    is_idle: bool

    @property
    def session(self) -> Session | None: ...
    @property
    def reader(self) -> Reader | None: ...


POLL_S = 0.02
"""Where another process has asked for it, so often is it looked whether that is over."""


def _nobody() -> float:
    return 0.0


def _for_others() -> None:
    """Another process looks itself whether its log is drained."""


class Holdback:
    """Keeps new reads out of the lanes' queue for a while, under the lanes' own lock.

        off --hold--> on: new reads wait here --the last read under way ends--> drained: told once
         ^------------'-------------------- release, or the time is up ---------'

    lanes, assign: of the lanes; assign gives what is in their queue to idle ones. asked_s: for how many seconds
    yet another process that drains the log asks for it too.
    """

    def __init__(
        self,
        lock: threading.Lock,
        queue: TokenQueue[ReadCall | Session],
        lanes: Sequence[Lane],
        assign: Callable[[], None],
    ) -> None:
        self._lock = lock
        self._queue = queue
        self._lanes = lanes
        self._assign = assign
        self._calls: dict[ReadCall | Session, None] = {}
        self._timer: threading.Timer | None = None
        self._drained: Callable[[], None] | None = None
        self._told = False
        self._taken = 0
        self.asked_s: Callable[[], float] = _nobody
        self.lives = Lives()

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def is_on(self) -> bool:
        return self._drained is not None

    def readers(self) -> list[Reader]:
        """What reads an old commit, or will when it goes on; the oldest first."""
        found = (lane.reader for lane in list(self._lanes))
        return sorted((reader for reader in found if reader is not None), key=lambda reader: reader.began)

    def hold(self, seconds: float, drained: Callable[[], None]) -> None:
        """New reads wait until `release`, at most for so long; but not those that will end before the others do, nor
        those of callers that have a reader already: they may need them to come to its end.

        drained: called when the last of the reads under way has ended, or the time is up.
        """
        with self._lock:
            if self.is_on and self._drained is not _for_others:
                return
            if not self._begin(seconds, drained):
                return
            self._taken = len(self._calls)
            for call in list(self._queue):
                if self.takes(call):
                    self._queue.remove(call)
            self.look()

    def release(self) -> int:
        """Let all in; how many were held in all. Twice is once."""
        with self._lock:
            self._let_in()
            taken, self._taken = self._taken, 0
            return taken

    def takes(self, call: ReadCall | Session) -> bool:
        """Under the lock: is a new read to wait here?"""
        if not self.is_on and not (self.asked_s() and self._begin(POLL_S, _for_others)):
            return False
        lasts_s = self.lasts_s(call)
        now = monotonic()
        if lasts_s is not None and any(reader.surely_left_s(now) > lasts_s for reader in self.readers()):
            return False
        kept = [session for lane in self._lanes if (session := lane.session) is not None and not session.given_back]
        if any(session.caller == call.caller for session in kept):
            return False
        self._calls[call] = None
        self._taken += 1
        return True

    def lasts_s(self, call: ReadCall | Session) -> float | None:
        """How long its like lasted before."""
        return self.lives.of(call.place) if isinstance(call, Session) else call.profile.cost.mean_s or None

    def ended(self, session: Session) -> None:
        """A reader that was kept is given back."""
        self.lives.ended(session.place, monotonic() - session.began)

    def drop(self, call: ReadCall | Session) -> bool:
        """Under the lock: nobody waits for this one any more. False: it is not here."""
        if call not in self._calls:
            return False
        del self._calls[call]
        return True

    def look(self) -> None:
        """Under the lock: a lane has become idle."""
        if self._drained is not None and not self._told and all(lane.is_idle for lane in self._lanes):
            self._told = True
            self._drained()

    def _begin(self, seconds: float, drained: Callable[[], None]) -> bool:
        """False: no thread can be started, so nobody would end it."""
        timer = threading.Timer(seconds, self._over, (drained,))
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            return False
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._drained, self._told = timer, drained, False
        return True

    def end(self) -> list[ReadCall | Session]:
        """Under the lock: hold nobody any more. Who was held."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._drained = None
        calls, self._calls = self._calls, {}
        return list(calls)

    def _let_in(self) -> None:
        calls = self.end()
        for call in calls:
            self._queue.push(call)
        if calls:
            self._assign()

    def _over(self, drained: Callable[[], None]) -> None:
        with self._lock:
            if threading.current_thread() is self._timer:
                if drained is _for_others and self.asked_s() and self._begin(POLL_S, drained):
                    return
                self._let_in()
        drained()
