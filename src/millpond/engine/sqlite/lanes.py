"""Reads off the caller's thread: a quick lane that drains cheap ones, heavy lanes that run one each."""

from __future__ import annotations

import logging
import os
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
from millpond.engine.sqlite.platform import thread_cpu_s
from millpond.ports import Port, Reply
from millpond.scheduling.fair_queue import FairQueue
from millpond.scheduling.lane_plan import LanePlan, LaneView, Move
from millpond.settings import Settings

__all__ = ["Lanes", "LanesHost", "Session"]

log = logging.getLogger("millpond.pool")

QUICK_STEPS = 100_000
"""VM steps after which the quick lane gives a read to a heavy one: some milliseconds."""
DRAIN_S = 0.001
"""The quick lane answers at least this often."""


class LanesHost(Protocol):
    """What lanes need of the engine around them."""

    settings: Settings
    port: Port

    def open_reader(self) -> Connection: ...
    def verify_files(self) -> errors.Error | None: ...
    def translate(self, exc: BaseException, sql: str | None, *, applied: Any = None) -> BaseException: ...
    def emit(self, make: Callable[[], events.Event]) -> None: ...


class Session:
    """A lane kept by one caller: a snapshot or an iterator. Its steps run in the lane's thread.

    what, place: for people. ended: called in the lane's thread when it is given back.
    """

    __slots__ = (
        "_lane", "caller", "deadline", "given_back", "given_up", "last", "place", "priority", "queued", "submitted",
        "timeout_s", "waiter", "what",
    )  # fmt: skip

    def __init__(
        self, waiter: Any, what: str, place: str, *, deadline: float, priority: int, caller: Any, submitted: float
    ) -> None:
        self.waiter = waiter
        self.what = what
        self.place = place
        self.deadline: float | None = deadline
        self.priority = priority
        self.caller = caller
        self.submitted = self.last = submitted
        self.queued = False
        self.given_back = False
        self.given_up = False
        self.timeout_s = 0.0
        self._lane: HeavyLane | None = None

    @property
    def settled(self) -> bool:
        return bool(self.waiter.done())

    @property
    def sql(self) -> str:
        return self.what

    def step(self, waiter: Any, sql: str, run: Callable[[Connection], Any], timeout_s: float) -> Step:
        """Have the lane run something on its connection."""
        assert self._lane is not None
        step = Step(self, waiter, sql, run, timeout_s)
        self._lane.inbox.put(step)
        return step

    def give_back(self, last: Callable[[Connection], None]) -> None:
        """End it, with a last step that leaves the connection clean. Safe from finalizers and twice."""
        if not self.given_back and self._lane is not None:
            self.given_back = True
            self._lane.inbox.put(_End(self, last))

    def give_up(self) -> None:
        """Its caller was cancelled while it waited for the lane, or just as it came."""
        self.given_up = True
        if self._lane is not None:
            self.give_back(_nothing)

    def stop(self, step: Step) -> None:
        """Interrupt a step that nobody waits for any more."""
        if self._lane is not None:
            self._lane.interrupt(step)

    def taken_by(self, lane: HeavyLane) -> None:
        self._lane = lane
        if self.given_up:
            self.give_back(_nothing)


class Step:
    """One step of a session, answered on its waiter."""

    __slots__ = ("deadline", "run", "session", "sql", "started", "submitted", "timeout_s", "waiter")

    def __init__(
        self, session: Session, waiter: Any, sql: str, run: Callable[[Connection], Any], timeout_s: float
    ) -> None:
        self.session = session
        self.waiter = waiter
        self.sql = sql
        self.run = run
        self.timeout_s = timeout_s
        self.submitted = monotonic()
        self.started: float | None = None
        self.deadline: float | None = self.submitted + timeout_s

    @property
    def settled(self) -> bool:
        return bool(self.waiter.done())


class _End:
    __slots__ = ("last", "session")

    def __init__(self, session: Session | None, last: Callable[[Connection], None]) -> None:
        self.session = session
        self.last = last


def _nothing(_connection: Connection) -> None:
    """A session that never ran a step leaves nothing behind."""


class Lanes:
    """The readers that have threads. Callers submit; a lock guards queue and lanes."""

    def __init__(self, host: LanesHost) -> None:
        settings = host.settings
        self._host = host
        self._port = host.port
        self._lock = threading.Lock()
        self._queue: FairQueue[ReadCall | Session] = FairQueue()
        has_quick = settings.max_connections >= 3
        self._plan = LanePlan(cores=os.cpu_count() or 1, limit=settings.max_connections - 1 - has_quick)
        self._least = max(0, settings.min_connections - 1 - has_quick)
        self._lanes: list[HeavyLane] = []
        self._closing = False
        self._recheck: threading.Timer | None = None
        self.quick: QuickLane | None = QuickLane(self, host) if has_quick else None
        self.quick_reads = self.heavy_reads = self.replaced = 0

    def __len__(self) -> int:
        return len(self._lanes) + (self.quick is not None)

    def __repr__(self) -> str:
        return f"<Lanes: {self.busy} of {len(self)} busy, {self.waiting} reads wait>"

    @property
    def busy(self) -> int:
        quick = self.quick is not None and self.quick.current is not None
        return sum(not lane.is_idle for lane in list(self._lanes)) + quick

    @property
    def waiting(self) -> int:
        return len(self._queue) + (len(self.quick.inbox) if self.quick is not None else 0)

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
        with self._lock:
            self._queue.push(call)
            self._assign()

    def cancel(self, call: ReadCall | Session) -> None:
        """Nobody waits for it any more: it is taken out, or stopped where it runs."""
        with self._lock:
            if self._queue.remove(call):
                return
            lanes = list(self._lanes)
        if isinstance(call, ReadCall):
            call.cancelled = True
            for lane in (*lanes, *((self.quick,) if self.quick is not None else ())):
                lane.interrupt(call)

    def to_heavy(self, call: ReadCall) -> None:
        """From the quick lane: this one was not cheap."""
        with self._lock:
            self._queue.push(call)
            self._assign()

    def idle(self, lane: HeavyLane) -> None:
        """From a lane: it has nothing to do."""
        with self._lock:
            self._assign()

    def may_close(self, lane: HeavyLane) -> bool:
        """From a lane that was idle for long: is it one too many?"""
        with self._lock:
            if not lane.is_idle or not lane.inbox.empty() or (len(self._lanes) <= self._least and not self._closing):
                return False
            self._lanes.remove(lane)
            left = len(self)
        self._host.emit(lambda: events.LaneClosed(monotonic(), left))
        return True

    def close(self) -> None:
        """Stop all lanes after what they are at; what waits is failed."""
        with self._lock:
            self._closing = True
            waiting = list(self._queue)
            for call in waiting:
                self._queue.remove(call)
            lanes = list(self._lanes)
            if self._recheck is not None:
                self._recheck.cancel()
        error = errors.DatabaseClosed("the database was closed before this read ran")
        self._port.settle([(call, None, error) for call in waiting])
        for lane in lanes:
            lane.inbox.put(None)
        if self.quick is not None:
            self.quick.stop()

    def interrupt_all(self) -> None:
        """Stop what still runs: the grace time is over."""
        for lane in (*list(self._lanes), *((self.quick,) if self.quick is not None else ())):
            lane.interrupt(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads' end. False when the time is up."""
        until = monotonic() + timeout_s
        threads = [lane.thread for lane in list(self._lanes)]
        if self.quick is not None:
            threads.append(self.quick.thread)
        for thread in threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(max(0.0, until - monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _admit(self) -> None:
        if self._closing:
            raise errors.DatabaseClosed("the database is closing and takes no more reads")
        limit = self._host.settings.max_read_queue
        if self.waiting >= limit:
            raise errors.Overloaded(
                f"read refused: {self.waiting:,} reads wait already (max_read_queue)",
                hint="Slow the callers, or shed Priority.LOW first.",
                retry_after=1.0,
            )

    def _assign(self) -> None:
        while (call := self._queue.peek()) is not None:
            if call.settled:
                self._queue.pop()
                continue
            now = monotonic()
            match self._plan.next([lane.view(now) for lane in self._lanes]):
                case Move.HOLD:
                    self._look_again()
                    return
                case Move.OPEN:
                    lane = self._open()
                case _:
                    lane = next(lane for lane in self._lanes if lane.is_idle)
            self._queue.pop()
            lane.assign(call, now)

    def _look_again(self) -> None:
        """Held work is looked at again soon: the lanes may turn out to wait for storage."""
        if self._recheck is None and not self._closing and len(self._lanes) < self._plan.limit:
            self._recheck = threading.Timer(self._plan.look_after_s, self._rechecked)
            self._recheck.daemon = True
            self._recheck.start()

    def _rechecked(self) -> None:
        with self._lock:
            self._recheck = None
            self._assign()

    def _open(self) -> HeavyLane:
        lane = HeavyLane(self, self._host)
        self._lanes.append(lane)
        lane.thread.start()
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
        self.current: object | None = None
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
        self.connection.catch_up()
        return self.connection

    def _perform(self, call: object, sql: str, work: Callable[[Connection], Any]) -> tuple[Any, BaseException | None]:
        """Run something on the connection; an error of the storage costs the lane its connection."""
        try:
            connection = self._connected()
            self.current = call
            try:
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
        self._ticks = 0
        self._closing = False
        self.inbox: deque[ReadCall] = deque()

    def start(self) -> None:
        self.thread.start()

    def submit(self, call: ReadCall) -> None:
        self.inbox.append(call)
        if not self._kicked:
            self._kicked = True
            self._port.soon(self._kick)

    def stop(self) -> None:
        self._closing = True
        self._bell.ring()

    def _kick(self) -> None:
        self._kicked = False
        self._bell.ring()

    def _tick(self) -> bool:
        self._ticks += 1
        return self._ticks >= 2

    def _main(self) -> None:
        while not self._closing or self.inbox:
            if self.inbox:
                self._drain()
            else:
                self._bell.wait()
        self._disconnect()

    def _drain(self) -> None:
        replies: list[Reply] = []
        until = monotonic() + DRAIN_S
        while self.inbox:
            call = self.inbox.popleft()
            if call.settled:
                continue
            started = call.started = monotonic()
            result, error = self._perform(call, call.sql, lambda connection, call=call: self._guarded(connection, call))  # type: ignore[misc]  # bound now
            now = monotonic()
            call.ran_s = now - started
            if isinstance(error, errors.DeadlineExceeded | errors.OperationalError) and self._ticks >= 2:
                call.profile.cost.over_budget()
                if not call.cancelled:
                    self._lanes.to_heavy(call)
                    continue
            if error is None:
                call.profile.cost.ran(call.ran_s)
            self._lanes.quick_reads += 1
            replies.append((call, result, error))
            if now >= until:
                self._port.settle(replies)
                replies = []
                until = now + DRAIN_S
        if replies:
            self._port.settle(replies)

    def _guarded(self, connection: Connection, call: ReadCall) -> Any:
        self._ticks = 0
        return call.run(connection)

    def _connected(self) -> Connection:
        fresh = self.connection is None
        connection = super()._connected()
        if fresh:
            connection.db.set_progress_handler(self._tick, QUICK_STEPS // 2)
        return connection


class HeavyLane(_Lane):
    """Runs one read at a time, or belongs to one session."""

    def __init__(self, lanes: Lanes, host: LanesHost) -> None:
        super().__init__(lanes, host, "millpond-lane")
        self.inbox: SimpleQueue[ReadCall | Session | Step | _End | None] = SimpleQueue()
        self.is_idle = True
        self.started = 0.0
        self.sql: str | None = None
        self.session: Session | None = None
        self._cpu_then: float | None = None

    def assign(self, call: ReadCall | Session, now: float) -> None:
        """Under the lanes' lock: this lane is idle, and has the call from now on."""
        self.is_idle = False
        self.started = now
        self.sql = call.sql if isinstance(call, ReadCall) else None
        self._cpu_then = thread_cpu_s(self.thread.native_id)
        self.inbox.put(call)

    def view(self, now: float) -> LaneView:
        if self.is_idle:
            return LaneView()
        if self.session is not None:
            return LaneView(None if self.sql is None else now - self.started, None, held=True)
        busy = now - self.started
        cpu = thread_cpu_s(self.thread.native_id) if busy > 0.01 else None
        spent = cpu - self._cpu_then if cpu is not None and self._cpu_then is not None else None
        return LaneView(busy, spent)

    def _main(self) -> None:
        idle_s = self._host.settings.idle_close_s
        while True:
            try:
                item = self.inbox.get(timeout=idle_s)
            except Empty:
                if self.session is None and self._lanes.may_close(self):
                    break
                if self.connection is not None:
                    self.connection.db.release_memory()
                continue
            match item:
                case ReadCall():
                    self._read(item)
                case Session():
                    self._begin(item)
                case Step():
                    self._step(item)
                case _End():
                    self._finish(item)
                case None:
                    if self.session is None:
                        break
                    self._finish(_End(self.session, _nothing))
                    break
            del item  # while the lane waits it keeps nothing of its callers alive
        self._disconnect()

    def _read(self, call: ReadCall) -> None:
        call.heavy = True
        call.started = monotonic()
        result: Any = None
        error: BaseException | None = None
        if not call.settled:
            result, error = self._perform(call, call.sql, call.run)
            call.ran_s = monotonic() - call.started
            if error is None:
                call.profile.cost.ran(call.ran_s)
            self._lanes.heavy_reads += 1
        self._rest()
        self._port.settle([(call, result, error)])

    def _begin(self, session: Session) -> None:
        if session.settled:
            self._rest()
            return
        self.session = session
        self.sql = None
        session.taken_by(self)
        self._port.settle([(session, session, None)])

    def _step(self, step: Step) -> None:
        if step.settled:
            return
        self.sql = step.sql
        self.started = step.started = monotonic()
        result, error = self._perform(step, step.sql, step.run)
        step.run = _nothing  # what it refers to may be waiting to be collected
        self.sql = None
        if self.session is not None:
            self.session.last = monotonic()
        self._port.settle([(step, result, error)])

    def _finish(self, end: _End) -> None:
        if end.session is not self.session:
            return  # given back twice
        if self.connection is not None:
            _, error = self._perform(end, "end", end.last)
            if error is not None:
                log.warning("a reader was not left clean, and is replaced: %s", error)
                self._disconnect()
        if self.session is not None:
            self.session.given_back = True
        self.session = None
        self._rest()

    def _rest(self) -> None:
        self.sql = None
        self.is_idle = True
        self._lanes.idle(self)
