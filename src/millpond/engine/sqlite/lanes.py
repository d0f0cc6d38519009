"""Reads off the caller's thread: a quick lane that drains cheap ones, heavy lanes that run one each."""

from __future__ import annotations

import logging
import threading
from time import monotonic

from millpond import errors, events
from millpond.engine.sqlite.calls import ReadCall
from millpond.engine.sqlite.heavy_lane import LOOK_AFTER_S, HeavyLane
from millpond.engine.sqlite.holdback import Holdback
from millpond.engine.sqlite.lane import Lane, LanesHost
from millpond.engine.sqlite.platform import cores
from millpond.engine.sqlite.quick_lane import QuickLane
from millpond.engine.sqlite.sessions import Session, Step, closed, closing, fault, no_thread
from millpond.scheduling.tokens import TokenQueue

__all__ = ["Lanes", "LanesHost", "Session", "Step"]

log = logging.getLogger("millpond.pool")


class Lanes:
    """The readers that have threads. Callers submit; a lock guards queue and lanes."""

    def __init__(self, host: LanesHost) -> None:
        settings = host.settings
        self._host = host
        self._port = host.port
        self._lock = threading.Lock()
        self._queue: TokenQueue[ReadCall | Session] = TokenQueue(cores())
        has_quick = settings.max_connections >= 3
        self._limit = settings.max_connections - 1 - has_quick
        self._least = max(0, settings.min_connections - 1 - has_quick)
        self._lanes: list[HeavyLane] = []
        self._closing = False
        self._next_look: float | None = None
        self.holdback = Holdback(self._lock, self._queue, self._lanes, self._assign)
        self.quick: QuickLane | None = QuickLane(self, host) if has_quick else None
        self.quick_reads = self.heavy_reads = self.replaced = 0

    def __len__(self) -> int:
        return len(self._lanes) + (self.quick is not None)

    def __repr__(self) -> str:
        held = f", {len(self.holdback)} of them for older ones to end: the log is long" if self.holdback else ""
        return f"<Lanes: {self.busy} of {len(self)} busy, {self.waiting} reads wait{held}>"

    @property
    def busy(self) -> int:
        quick = self.quick is not None and self.quick.current is not None
        return sum(not lane.is_idle for lane in list(self._lanes)) + quick

    @property
    def waiting(self) -> int:
        return len(self._queue) + len(self.holdback) + (len(self.quick.inbox) if self.quick is not None else 0)

    @property
    def longest(self) -> tuple[str, float] | None:
        """The running statement that has run longest, and how long."""
        now = monotonic()
        running = [(now - lane.started, lane.sql) for lane in list(self._lanes) if lane.sql is not None]
        if not running:
            return None
        seconds, sql = max(running)
        return sql, seconds

    def held(self, now: float) -> tuple[str, str, float] | None:
        """The snapshot or stream that has been unused for longest: what, the line that opened it, seconds."""
        sessions = [s for lane in list(self._lanes) if (s := lane.session) is not None and lane.sql is None]
        if not sessions:
            return None
        oldest = min(sessions, key=lambda session: session.last)
        return oldest.what, oldest.place, now - oldest.last

    def start(self) -> None:
        """Open the least number of lanes. Raises: what opening raises."""
        if self.quick is not None:
            self.quick.start()
        with self._lock:
            for _ in range(self._least):
                self._open()

    def submit_quick(self, call: ReadCall) -> None:
        """For a read that is probably cheap."""
        if self.quick is None:
            self.submit(call)
            return
        self._admit()
        self.quick.submit(call)

    def submit(self, call: ReadCall | Session) -> None:
        """For a read that may be long, or a session."""
        self._admit()
        if not self._take(call):
            raise closing()

    def cancel(self, call: ReadCall | Session) -> None:
        """Nobody waits for it any more: it is taken out, or stopped where it runs."""
        with self._lock:
            if self._queue.remove(call) or self.holdback.drop(call):
                return
            lanes = list(self._lanes)
        if isinstance(call, ReadCall):
            call.cancelled = True
            for lane in (*lanes, *((self.quick,) if self.quick is not None else ())):
                lane.interrupt(call)

    def to_heavy(self, call: ReadCall) -> None:
        """From the quick lane: this one was not cheap."""
        if not self._take(call):
            self._port.settle([(call, None, closed())])

    def idle(self, lane: HeavyLane) -> None:
        """From a lane: it has nothing to do."""
        with self._lock:
            self._assign()
            self.holdback.look()

    def look(self) -> float | None:
        """From the quick lane: if it is time, see what runs and whether more may. Seconds until the next look."""
        at = self._next_look
        if at is not None and at <= monotonic():
            with self._lock:
                self._next_look = None
                self._assign()
                at = self._next_look
        return None if at is None else max(0.0, at - monotonic())

    def may_close(self, lane: HeavyLane) -> bool:
        """From a lane that was idle for long: is it one too many?"""
        with self._lock:
            if not lane.is_idle or not lane.inbox.empty() or (len(self._lanes) <= self._least and not self._closing):
                return False
            self._lanes.remove(lane)
            left = len(self)
        self._host.emit(lambda: events.LaneClosed(monotonic(), left))
        return True

    def crashed(self, lane: HeavyLane, exc: BaseException) -> BaseException:
        """From a lane that ends by a fault: it is taken out, and replaced where one is needed. Its callers' error."""
        self.faulty(lane, exc)
        with self._lock:
            if lane in self._lanes:
                self._lanes.remove(lane)
            self._assign()
            self.holdback.look()
        return fault(exc)

    def faulty(self, lane: Lane, exc: BaseException) -> None:
        """Count a fault of Millpond's own in a lane, and say it."""
        log.error("a reader failed", exc_info=exc)
        self.replaced += 1
        name = type(exc).__name__
        self._host.emit(lambda: events.LaneReplaced(monotonic(), name))

    def close(self) -> None:
        """Stop all lanes after what they are at; what waits is failed."""
        with self._lock:
            self._closing = True
            waiting = list(self._queue)
            for call in waiting:
                self._queue.remove(call)
            waiting += self.holdback.end()
            lanes = list(self._lanes)
        self._port.settle([(call, None, closed()) for call in waiting])
        if self.quick is not None:
            self.quick.stop()
        for lane in lanes:
            lane.put(None)

    def interrupt_all(self) -> None:
        """Stop what still runs: the grace time is over."""
        for lane in (*list(self._lanes), *((self.quick,) if self.quick is not None else ())):
            lane.interrupt(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads' end. False when the time is up."""
        until = monotonic() + timeout_s
        threads = [self.quick.thread] if self.quick is not None else []
        threads += [lane.thread for lane in list(self._lanes)]
        for thread in threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until - monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _admit(self) -> None:
        if self._closing:
            raise closing()
        limit = self._host.settings.max_read_queue
        if self.waiting >= limit:
            raise errors.Overloaded(
                f"read refused: {self.waiting:,} reads wait already (max_read_queue)",
                hint="Slow the callers, or shed Priority.LOW first.",
                retry_after=1.0,
            )

    def _take(self, call: ReadCall | Session) -> bool:
        """Queue it for the heavy lanes. False: they have been told to end."""
        with self._lock:
            if self._closing:
                return False
            if not self.holdback.takes(call):
                self._queue.push(call)
                self._assign()
            return True

    def _assign(self) -> None:
        """Give the lanes what may run now; open some for what finds none free."""
        while self._queue:
            lane = next((lane for lane in self._lanes if lane.is_idle), None)
            if lane is None and len(self._lanes) >= self._limit:
                return
            now = monotonic()
            asked = [lane.uses(now) for lane in self._lanes if lane.session is None and not lane.is_idle]
            steps = [lane.uses(now) for lane in self._lanes if lane.is_long_in_a_step(now)]
            call = self._queue.next(now, asked, steps)
            if call is None:
                self._look_again(now)
                return
            if lane is None and not call.settled:
                try:
                    lane = self._open()
                except RuntimeError as exc:  # no more threads
                    if self._lanes:
                        return  # the next lane that is idle takes it
                    self._port.settle([(call, None, no_thread(exc))])
            self._queue.take(call)
            if lane is not None and not call.settled:
                lane.assign(call, now)

    def _look_again(self, now: float) -> None:
        """Reads are held: the lanes may turn out to use less than was expected of them."""
        if self._next_look is None and self.quick is not None:
            self._next_look = now + LOOK_AFTER_S
            self.quick.look_again()

    def _open(self) -> HeavyLane:
        lane = HeavyLane(self, self._host)
        lane.thread.start()
        self._lanes.append(lane)
        count = len(self)
        self._host.emit(lambda: events.LaneOpened(monotonic(), count))
        return lane
