"""Cheap reads where the caller is: on the event loop itself, without a thread."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter, thread_time
from typing import Any, Final

import apsw

from millpond.engine.sqlite.connection import FIRST_STATEMENT_TIMEOUT_MS, Connection, Parameters, Setup, Shape
from millpond.engine.sqlite.disk_waits import DiskWaits
from millpond.engine.sqlite.wal_index import HEAD, WalIndex
from millpond.scheduling.stalls import STALL_S, Mode, Stalls
from millpond.statements.profile import Profile

__all__ = ["MISS", "InlineReader"]

log = logging.getLogger("millpond.pool")

PLAIN_READS = 2
"""So many reads of a turn do without a kept transaction: its BEGIN and COMMIT cost about what they save one read."""

TICKS = 16
LEAST_STEPS = 100
"""The budget of steps is looked at so often at most, and not more often than every so many steps."""

QUIET: Final = -(10**12)
"""Ticks count from here while statements of our own run: what interrupts a read must not strike them."""

MISS: Final = object()
"""The read must take the other way: it was not cheap, or there is a lock."""


class InlineReader:
    """A read-only connection of the caller's own thread, guarded so that it cannot stall it.

    kept: called when a transaction is kept from then on; where callers have no turns, somebody must end it.

    VM steps beyond the budget, or as much of the core's time as a turn may take, interrupt a read and demote
    its statement; a lock is not waited for; while the disk stalls nothing is tried. In each case the caller is
    told MISS, and takes a lane. A run that was slow all the same demotes its statement.

    Most of a point read's time are the locks of its read transaction. So from its third read on a turn of
    the loop keeps one transaction, which is as fresh as a new one while the WAL index stays as it is:

        plain --third read, index known and unchanged by it--> held --index changed, `let_go`--> plain
    """

    def __init__(
        self, setup: Setup, open_connection: Callable[[int], Connection], index: WalIndex | None = None
    ) -> None:
        """open_connection: given how long (ms) it may wait for locks; here, and not on the loop, for a while."""
        settings = setup.settings
        self._open = open_connection
        self._setup = setup
        self._page: Any = index.page if index is not None else None
        self._tick_steps = max(LEAST_STEPS, settings.step_budget // TICKS)
        self._most_ticks = max(1, settings.step_budget // self._tick_steps)
        self._most_cpu_s = settings.turn_budget_ms / 1000
        self._ticks = QUIET
        self._cpu_s = 0.0
        self._stalls = Stalls()
        self._waits = DiskWaits()
        self._is_broken = False
        self.connection = self._connect(FIRST_STATEMENT_TIMEOUT_MS)
        self.kept: Callable[[], None] | None = None
        self.reads = 0
        self.ended = 0.0
        self._plain = 0
        self._head: bytes | None = None

    def run(self, profile: Profile, params: Parameters, shape: Shape, started: float) -> Any:
        """Run a read that is proven cheap. started: `perf_counter()` just now.

        Raises: apsw's errors for what is the statement's own fault.
        """
        connection = self.connection
        head = self._head
        if head is not None and (self._page[HEAD] != head or not connection.is_current):
            self.let_go()
            head = None
        try:
            if head is None:
                self._prepare(connection)
            self._ticks = 0
            result = connection.query(profile, params, shape)
            self._ticks = QUIET
            if head is None and self._head is not None:
                self._look_again(connection)
        except apsw.InterruptError:
            self._ticks = QUIET
            self.let_go()
            profile.cost.over_budget()
            return MISS
        except (apsw.BusyError, apsw.LockedError, apsw.SchemaChangeError):
            self._ticks = QUIET
            self.let_go()
            return MISS
        except (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError, apsw.NoMemError):
            self._ticks = QUIET
            self._replace()
            return MISS
        except BaseException:
            self._ticks = QUIET
            if not connection.pinned:
                self.let_go()
            raise
        self.ended = ended = perf_counter()
        self.reads += 1
        if profile.cost.ran_again(ended - started):
            self._was_slow(ended, ended - started)
        return result

    def let_go(self) -> None:
        """The turn of the loop is over, or someone else needs the connection: end the transaction that is kept."""
        self._plain = 0
        if self._head is not None:
            self._head = None
            self.connection.pinned = False
            if self.connection.db.in_transaction:
                self.connection.run("COMMIT")

    def shrink(self) -> None:
        """Give back the memory of pages that may not be wanted again. In the callers' own thread."""
        if self._head is None:
            self.connection.db.release_memory()

    def close(self) -> None:
        self._head = None
        self.connection.close()
        self._waits.close()

    def _prepare(self, connection: Connection) -> None:
        """Before a read that is in no kept transaction: begin one, if it is worth it."""
        if not connection.is_current:
            connection.catch_up()
        self._plain += 1
        if self._plain <= PLAIN_READS or self._page is None or self._setup.everywhere:
            return
        self._head = self._page[HEAD]  # known before BEGIN, so that whatever happens there is ended by `let_go`
        connection.run("BEGIN")

    def _look_again(self, connection: Connection) -> None:
        """After the first read of a transaction: may it be kept? Only if nobody committed since before it began."""
        head = self._head
        if head is not None and self._page[HEAD] == head and WalIndex.whole(head):
            connection.pinned = True
            if self.kept is not None:
                self.kept()
        else:
            self.let_go()

    def _connect(self, wait_ms: int) -> Connection:
        connection = self._open(wait_ms)
        connection.db.set_busy_timeout(0)
        connection.db.set_progress_handler(self._tick, self._tick_steps)
        return connection

    def _tick(self) -> bool:
        """Is it too much? Steps carry over between the runs of a cached statement: the first tick says nothing."""
        ticks = self._ticks = self._ticks + 1
        if ticks <= 1:
            if ticks == 1:
                self._cpu_s = thread_time()
            return False
        return ticks > self._most_ticks or thread_time() - self._cpu_s >= self._most_cpu_s

    def _was_slow(self, now: float, took_s: float) -> None:
        if self._stalls.mode is Mode.TRUST:
            self._enter(self._stalls.slow(now, took_s))

    def _enter(self, mode: Mode) -> None:
        """`run` is replaced where more than it is to be done, so that it costs nothing elsewhere."""
        match mode:
            case Mode.TRUST:
                vars(self).pop("run", None)
            case Mode.WATCH:
                self.run = self._run_watched  # type: ignore[method-assign]  # see above
            case Mode.OFF:
                self.run = self._run_nothing  # type: ignore[method-assign]  # see above

    def _run_watched(self, profile: Profile, params: Parameters, shape: Shape, started: float) -> Any:
        """As `run`, while the disk is suspected of stalling."""
        connection = self.connection
        self._waits.begin(connection)
        try:
            return InlineReader.run(self, profile, params, shape, started)
        finally:
            if self._stalls.mode is Mode.WATCH and self.connection is connection:
                waited_s = self._waits.waited_s(connection, STALL_S)
                mode = self._stalls.measured(perf_counter(), waited_s)
                self._enter(mode)
                if mode is Mode.OFF:
                    log.warning("a read waited %.0f ms for the disk; reads leave the loop for a while", waited_s * 1000)

    def _run_nothing(self, profile: Profile, params: Parameters, shape: Shape, started: float) -> Any:
        """In place of `run`, while the disk stalls or there is no connection."""
        self.ended = started
        if self._stalls.asked(started) is Mode.OFF:
            return MISS
        if self._is_broken:
            self._replace()
            return MISS
        self._enter(Mode.WATCH)
        return self.run(profile, params, shape, started)

    def _replace(self) -> None:
        """Its connection is broken. A new one that cannot be had without waiting is tried again later.

        Raises: errors.Error if other files stand in the place of ours.
        """
        broken = self.connection
        broken.pinned = False
        self._head = None
        try:
            self.connection = self._connect(0)
        except (apsw.BusyError, apsw.LockedError):
            self._is_broken = True
            self._enter(self._stalls.broken(perf_counter()))
            return
        if self._is_broken:
            self._is_broken = False
            self._enter(Mode.WATCH)
        broken.close()
