"""Reads off the caller's thread: a quick lane that drains cheap ones, heavy lanes that run one each."""

from __future__ import annotations

import copy
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Protocol

import apsw

from millpond import errors, events
from millpond.engine.sqlite.bell import Bell
from millpond.engine.sqlite.calls import ReadCall
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.holdback import Holdback, Reader
from millpond.engine.sqlite.platform import cores
from millpond.engine.sqlite.sessions import End, Session, Step, closed, closing, fault, no_thread, nothing
from millpond.engine.sqlite.thread_meter import Reading, ThreadMeter
from millpond.ports import Port, Reply
from millpond.scheduling.tokens import TokenQueue
from millpond.settings import Settings
from millpond.statements.cost import Lane as Place
from millpond.statements.demand import TOLD_APART_S, UNKNOWN, Demand, Use, used

__all__ = ["Lanes", "LanesHost", "Session", "Step"]

log = logging.getLogger("millpond.pool")

QUICK_STEPS = 100_000
"""VM steps after which the quick lane gives a read to a heavy one: some milliseconds."""
LEAST_STEPS = 1_000
"""The interpreter is asked for between so many steps, not more often."""
DRAIN_S = 0.001
"""The quick lane answers at least this often."""
WANTED_STEPS = 5_000_000
"""A heavy lane asks this often whether its read is still wanted: an interrupt that comes just before the first
step of a statement is lost."""
LOOK_AFTER_S = 0.01
"""What a read uses is measured when it has run for so long, and again and again after it."""
UNKNOWN_FOR_S = 0.03
"""One that runs for the first time is given longer: without the interpreter it looks as if it waited for storage."""

_HEAVY = Place.HEAVY
_UNWANTED = errors.OperationalError("nobody waits for this any more")


class LanesHost(Protocol):
    """What lanes need of the engine around them."""

    settings: Settings
    port: Port

    def open_reader(self) -> Connection: ...
    def verify_files(self) -> errors.Error | None: ...
    def translate(self, exc: BaseException, sql: str | None, *, applied: Any = None) -> BaseException: ...
    def emit(self, make: Callable[[], events.Event]) -> None: ...


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

    def faulty(self, lane: _Lane, exc: BaseException) -> None:
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


class _Lane:
    """A thread with a connection of its own for life."""

    def __init__(self, lanes: Lanes, host: LanesHost, name: str) -> None:
        self._lanes = lanes
        self._host = host
        self._port = host.port
        self._stopping = threading.Lock()
        self.current: ReadCall | Step | End | None = None
        self.connection: Connection | None = None
        self.thread = threading.Thread(target=self._main, name=name, daemon=True)

    def interrupt(self, call: object | None) -> None:
        """Stop `call` if it is what runs here now (None: whatever runs)."""
        with self._stopping:
            connection = self.connection
            if connection is not None and self.current is not None and (call is None or self.current is call):
                connection.db.interrupt()

    def _main(self) -> None:
        raise AssertionError("each kind of lane has its own")

    def _connected(self) -> Connection:
        if self.connection is None:
            problem = self._host.verify_files()
            if problem is not None:
                raise problem
            self.connection = self._host.open_reader()
        if not self._reads_on():
            self.connection.catch_up()
        return self.connection

    def _reads_on(self) -> bool:
        """Is the connection in the middle of something that must go on as it began?"""
        return False

    def _perform(
        self, call: ReadCall | Step | End, sql: str, work: Callable[[Connection], Any]
    ) -> tuple[Any, BaseException | None]:
        """Run something on the connection; an error of the storage costs the lane its connection."""
        try:
            connection = self._connected()
            self.current = call
            try:
                if call.settled:
                    return None, _UNWANTED  # given up while the connection was opened, when nothing could be stopped
                return work(connection), None
            finally:
                with self._stopping:
                    self.current = None
        except (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError, apsw.NoMemError) as exc:
            self._disconnect()
            self._lanes.replaced += 1
            name = type(exc).__name__
            self._host.emit(lambda: events.LaneReplaced(monotonic(), name))
            return None, self._host.translate(exc, sql)
        except errors.Error as exc:
            return None, exc
        except BaseException as exc:
            return None, self._host.translate(exc, sql)

    def _give_memory_back(self) -> None:
        if self.connection is not None and self._host.settings.shrink_memory:
            self.connection.db.release_memory()

    def _disconnect(self) -> None:
        with self._stopping:
            connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()


class QuickLane(_Lane):
    """Drains many cheap reads per turn, and wakes their callers once per batch."""

    def __init__(self, lanes: Lanes, host: LanesHost) -> None:
        super().__init__(lanes, host, "millpond-quick")
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
        while self.inbox:
            call = self._in_hand = self.inbox.popleft()
            if call.settled:
                continue
            if call.profile.cost.lane is _HEAVY:  # so it has turned out while this one waited
                self._lanes.to_heavy(call)
                continue
            self._ticks = 0
            started = call.started = monotonic()
            result, error = self._perform(call, call.sql, call.run)
            now = monotonic()
            call.ran_s = now - started
            if isinstance(error, errors.DeadlineExceeded | errors.OperationalError) and self._ticks > self._most_ticks:
                call.profile.cost.over_budget()
                if not call.cancelled:
                    self._lanes.to_heavy(call)
                    continue
            if error is None:
                call.judge(many_steps=self._ticks > 2)
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


class HeavyLane(_Lane):
    """Runs one read at a time, or belongs to one session."""

    def __init__(self, lanes: Lanes, host: LanesHost) -> None:
        super().__init__(lanes, host, "millpond-lane")
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
            self._measure()
            result, error = self._perform(call, call.sql, call.run)
            call.ran_s = monotonic() - call.started
            self._learn(call)
            if error is None:
                call.judge()
            self._lanes.heavy_reads += 1
        self._rest()
        self._port.settle([(call, result, error)])

    def _measure(self) -> None:
        """From here on."""
        if self._meter is not None:
            self._reading = self._meter.read()

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
        self._measure()
        self._uses = UNKNOWN
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
            result, error = self._perform(step, step.sql, step.run)
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
