"""Heavy lanes: a thread each, for one read at a time or for one session."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Protocol

from millpond.engine.sqlite.calls import ReadCall
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.holdback import Holdback, Reader
from millpond.engine.sqlite.lane import Lane, LaneOwner, LanesHost, judge
from millpond.engine.sqlite.sessions import End, Session, Step, closed, nothing
from millpond.engine.sqlite.thread_meter import Reading, ThreadMeter
from millpond.statements.demand import TOLD_APART_S, UNKNOWN, Demand, Use, used

__all__ = ["LOOK_AFTER_S", "HeavyLane"]

log = logging.getLogger("millpond.pool")

WANTED_STEPS = 5_000_000
"""A heavy lane asks this often whether its read is still wanted: an interrupt that comes just before the first
step of a statement is lost."""
LOOK_AFTER_S = 0.01
"""What a read uses is measured when it has run for so long, and again and again after it."""
UNKNOWN_FOR_S = 0.03
"""One that runs for the first time is given longer: without the interpreter it looks as if it waited for storage."""


class HeavyLaneOwner(LaneOwner, Protocol):
    """What they need of the lanes around them."""

    heavy_reads: int
    holdback: Holdback

    def idle(self, lane: HeavyLane) -> None: ...
    def may_close(self, lane: HeavyLane) -> bool: ...
    def crashed(self, lane: HeavyLane, exc: BaseException) -> BaseException: ...


class HeavyLane(Lane):
    """Runs one read at a time, or belongs to one session."""

    def __init__(self, lanes: HeavyLaneOwner, host: LanesHost) -> None:
        super().__init__(lanes, host, "millpond-lane")
        self._lanes = lanes
        self.inbox: SimpleQueue[ReadCall | Session | Step | End | None] = SimpleQueue()
        self.is_idle = True
        self.started = 0.0
        self.sql: str | None = None
        self.session: Session | None = None
        self._begun = False
        self._meter: ThreadMeter | None = None
        self._reading: Reading | None = None
        self._uses = UNKNOWN
        self._least_gil = 0.0
        self._look_at = 0.0
        self._in_hand: ReadCall | Session | Step | End | None = None
        self._ended_by: BaseException | None = None

    def put(self, item: Step | End | None) -> None:
        """From whoever has the session, and from who closes."""
        self.inbox.put(item)
        if self._ended_by is not None:
            self._refuse(self._ended_by)

    def assign(self, call: ReadCall | Session, now: float) -> None:
        """Under the lanes' lock: this lane is idle, and has the call from now on."""
        self.is_idle = False
        self.started = now
        self.sql = call.sql if isinstance(call, ReadCall) else None
        uses = self._uses = call.wants
        self._least_gil = 0.0 if uses is UNKNOWN else uses.gil
        self._look_at = now + (UNKNOWN_FOR_S if uses is UNKNOWN else LOOK_AFTER_S)
        self._reading = None
        self.inbox.put(call)

    def uses(self, now: float) -> Use:
        """What it uses: as expected at first, as measured when it has run for a while."""
        if now >= self._look_at:
            self._look_at = now + LOOK_AFTER_S
            reading, current, meter = self._reading, self.current, self._meter
            later = meter.look() if meter is not None else None
            if reading is not None and later is not None:
                use = used(reading.until(later, current.rows if isinstance(current, ReadCall) else 0))
                self._uses = Use(use.cpu, max(use.gil, self._least_gil))
        return self._uses

    def is_long_in_a_step(self, now: float) -> bool:
        """Does a step of a session run here, and for a while?"""
        return self.session is not None and self.sql is not None and now - self.started >= LOOK_AFTER_S

    @property
    def reader(self) -> Reader | None:
        """Who reads here, as seen from any thread."""
        now: ReadCall | Session | Step | End | None = self.session or self.current
        if not isinstance(now, (ReadCall, Session)):
            return None
        lasts_s = self._lanes.holdback.lasts_s(now)
        if isinstance(now, Session):
            return Reader(now.began, now.what, now.caller, now.place, lasts_s=lasts_s)
        return Reader(self.started, "read", now.caller, sql=now.sql, lasts_s=lasts_s)

    def _main(self) -> None:
        error: BaseException
        try:
            self._meter = ThreadMeter()
            self._serve()
            error = closed()
        except BaseException as exc:
            error = self._lanes.crashed(self, exc)
        self._ended_by = error
        if self._in_hand is not None and not isinstance(self._in_hand, End):
            self._port.settle([(self._in_hand, None, error)])
        self._in_hand = None
        self._refuse(error)
        self._disconnect()
        if self._meter is not None:
            self._meter.close()

    def _refuse(self, error: BaseException) -> None:
        """The thread takes nothing more. By whoever comes last: a caller may just have passed the gate."""
        while True:
            try:
                item = self.inbox.get_nowait()
            except Empty:
                return
            if item is not None and not isinstance(item, End):
                self._port.settle([(item, None, copy.copy(error))])

    def _serve(self) -> None:
        """Run what comes until there is no need for this lane."""
        idle_s = self._host.settings.idle_close_s
        while True:
            try:
                item = self._in_hand = self.inbox.get(timeout=idle_s)
            except Empty:
                if self.session is None and self._lanes.may_close(self):
                    break
                self._give_memory_back()
                continue
            match item:
                case ReadCall():
                    self._read(item)
                case Session():
                    self._begin(item)
                case Step():
                    self._step(item)
                case End():
                    self._finish(item)
                case None:
                    if self.session is None:
                        break
                    self._finish(End(self.session, nothing))
                    break
            item = self._in_hand = None  # while the lane waits it keeps nothing of its callers alive

    def _read(self, call: ReadCall) -> None:
        call.heavy = True
        call.started = monotonic()
        result: Any = None
        error: BaseException | None = None
        if not call.settled:
            result, error = self._perform(call, call.sql, self._measured(call.run))
            call.ran_s = monotonic() - call.started
            self._learn(call)
            if error is None:
                judge(call, False)
            self._lanes.heavy_reads += 1
        self._rest()
        self._port.settle([(call, result, error)])

    def _measured(self, work: Callable[[Connection], Any]) -> Callable[[Connection], Any]:
        """What it uses is measured from its beginning, when there is a connection."""

        def measured(connection: Connection) -> Any:
            if self._meter is not None:
                self._reading = self._meter.read()
            return work(connection)

        return measured

    def _learn(self, call: ReadCall) -> None:
        """What a read has used that took long enough to tell, also one that was stopped."""
        if call.ran_s < TOLD_APART_S or self._meter is None or self._reading is None:
            return
        cost, spent = call.profile.cost, self._reading.until(self._meter.read(), call.rows)
        if cost.demand is None:
            cost.demand = Demand(spent)
        else:
            cost.demand.ran(spent)

    def _begin(self, session: Session) -> None:
        if session.settled:
            self._rest()
            return
        session.began = monotonic()
        self.session = session
        self._begun = False
        self.sql = None
        session.taken_by(self)
        self._port.settle([(session, session, None)])

    def _step(self, step: Step) -> None:
        if step.settled:
            return
        self._uses = UNKNOWN
        self._reading = None
        self._least_gil = 0.0
        self.started = step.started = monotonic()
        self._look_at = self.started + LOOK_AFTER_S
        self.sql = step.sql
        session, connection = step.session, self.connection
        result: Any = None
        error: BaseException | None
        if session.broken is not None:
            error = session.over()
        else:
            result, error = self._perform(step, step.sql, self._measured(step.run))
            if connection is not None and self.connection is not connection:
                session.broken = error
            self._begun = True
        step.run = nothing  # what it refers to may be waiting to be collected
        self.sql = None
        if self.session is not None:
            self.session.last = monotonic()
        self._port.settle([(step, result, error)])

    def _finish(self, end: End) -> None:
        if end.session is not self.session:
            return  # given back twice
        if self.connection is not None:
            _, error = self._perform(end, "end", end.last)
            if error is not None:
                log.warning("a reader was not left clean, and is replaced: %s", error)
                self._disconnect()
        if self.session is not None:
            self.session.given_back = True
            self._lanes.holdback.ended(self.session)
        self.session = None
        self._rest()

    def _connected(self) -> Connection:
        fresh = self.connection is None
        connection = super()._connected()
        if fresh:
            connection.db.set_progress_handler(self._is_unwanted, WANTED_STEPS)
        return connection

    def _reads_on(self) -> bool:
        """A snapshot or a stream keeps the databases that were attached when it began: what it reads stays locked."""
        return self.session is not None and self._begun

    def _is_unwanted(self) -> bool:
        call = self.current
        return call is not None and call.settled

    def _rest(self) -> None:
        self.sql = None
        self.is_idle = True
        self._lanes.idle(self)
