"""The quick lane: one thread that answers many cheap reads per wake of their callers."""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic, thread_time
from typing import Protocol

from millpond import errors
from millpond.engine.sqlite.bell import Bell
from millpond.engine.sqlite.calls import ReadCall
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.lane import Lane, LaneOwner, LanesHost, judge
from millpond.engine.sqlite.sessions import closed, fault
from millpond.ports import Reply
from millpond.statements.cost import Lane as Place
from millpond.statements.demand import TOLD_APART_S, Demand, Spent

__all__ = ["QuickLane"]

QUICK_STEPS = 100_000
"""VM steps after which the quick lane gives a read to a heavy one: some milliseconds."""
LEAST_STEPS = 1_000
"""The interpreter is asked for between so many steps, not more often."""
DRAIN_S = 0.001
"""The quick lane answers at least this often."""

_HEAVY = Place.HEAVY


class QuickLaneOwner(LaneOwner, Protocol):
    """What it needs of the lanes around it."""

    quick_reads: int

    def look(self) -> float | None: ...
    def to_heavy(self, call: ReadCall) -> None: ...


class QuickLane(Lane):
    """Drains many cheap reads per turn, and wakes their callers once per batch."""

    def __init__(self, lanes: QuickLaneOwner, host: LanesHost) -> None:
        super().__init__(lanes, host, "millpond-quick")
        self._lanes = lanes
        self._bell = Bell()
        self._kicked = False
        # Often enough to tell whether a run would have been within the budget of the loop.
        self._tick_steps = max(LEAST_STEPS, min(host.settings.step_budget, QUICK_STEPS) // 2)
        self._most_ticks = QUICK_STEPS // self._tick_steps
        self._ticks = 0
        self._closing = False
        self._over = False
        self._in_hand: ReadCall | None = None
        self._replies: list[Reply] = []
        self.inbox: deque[ReadCall] = deque()

    def start(self) -> None:
        self.thread.start()

    def submit(self, call: ReadCall) -> None:
        self.inbox.append(call)
        if self._over:
            self._refuse()
        elif not self._kicked:
            self._kicked = True
            self._port.soon(self._kick)

    def stop(self) -> None:
        self._closing = True
        self._bell.ring()

    def look_again(self) -> None:
        """There is a new time for a look at the heavy lanes."""
        if threading.current_thread() is not self.thread:
            self._bell.ring()

    def _kick(self) -> None:
        self._kicked = False
        self._bell.ring()

    def _tick(self) -> bool:
        """Steps carry over between the runs of a cached statement: the first tick says nothing."""
        self._ticks += 1
        return self._ticks > self._most_ticks

    def _main(self) -> None:
        while not self._closing or self.inbox:
            try:
                wait_s = self._lanes.look()
                if self.inbox:
                    self._drain()
                elif wait_s is not None:
                    self._bell.wait(wait_s)
                elif not self._bell.wait(self._host.settings.idle_close_s):
                    self._give_memory_back()
                    self._bell.wait()
            except BaseException as exc:
                self._crashed(exc)
        self._over = True
        self._refuse()
        self._disconnect()

    def _refuse(self) -> None:
        """The thread takes nothing more. By whoever comes last: a caller may just have passed the gate."""
        while True:
            try:
                call = self.inbox.popleft()
            except IndexError:
                return
            self._port.settle([(call, None, closed())])

    def _crashed(self, exc: BaseException) -> None:
        """A fault of Millpond's own: who waits is told, and the next read gets a new connection."""
        self._lanes.faulty(self, exc)
        call, self._in_hand = self._in_hand, None
        replies, self._replies = self._replies, []
        if call is not None:
            replies.append((call, None, fault(exc)))
        self._port.settle(replies)
        self._disconnect()

    def _drain(self) -> None:
        """Answer what there is, for a while: all by one wake of the loop."""
        replies = self._replies
        until = monotonic() + DRAIN_S
        cpu_s = thread_time()
        while self.inbox:
            call = self._in_hand = self.inbox.popleft()
            if call.settled:
                continue
            if call.profile.cost.lane is _HEAVY:  # so it has turned out while this one waited
                self._lanes.to_heavy(call)
                continue
            self._ticks = 0
            is_fresh = self.connection is None
            started = call.started = monotonic()
            result, error = self._perform(call, call.sql, call.run)
            now = monotonic()
            call.ran_s = now - started
            is_over = self._ticks > self._most_ticks and isinstance(
                error, errors.DeadlineExceeded | errors.OperationalError
            )
            if not is_fresh and (is_over or call.ran_s >= TOLD_APART_S):
                _guess(call, thread_time() - cpu_s)
            if is_over:
                call.profile.cost.over_budget()
                if not call.cancelled:
                    self._lanes.to_heavy(call)
                    continue
            if error is None:
                judge(call, self._ticks > 2)
            self._lanes.quick_reads += 1
            replies.append((call, result, error))
            if now >= until:
                break
        self._in_hand = None
        self._replies = []
        if replies:
            self._port.settle(replies)

    def _connected(self) -> Connection:
        fresh = self.connection is None
        connection = super()._connected()
        if fresh:
            connection.db.set_progress_handler(self._tick, self._tick_steps)
        return connection


def _guess(call: ReadCall, cpu_s: float) -> None:
    """What a statement uses that was long in the quick lane, until a heavy one knows better.

    cpu_s: with what was answered before it in the same turn, which is short.
    """
    cost = call.profile.cost
    if cost.demand is None:
        cost.demand = Demand(Spent(call.ran_s, cpu_s, None, call.rows))
