"""Cheap reads where the caller is: on the event loop itself, without a thread."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

import apsw

from millpond.engine.sqlite.connection import Connection, Parameters, Setup, Shape
from millpond.engine.sqlite.wal_index import HEAD, WalIndex
from millpond.statements.profile import Profile

__all__ = ["MISS", "InlineReader"]

PLAIN_READS = 2
"""So many reads of a turn do without a kept transaction: its BEGIN and COMMIT cost about what they save one read."""

QUIET: Final = -(10**12)
"""Ticks count from here while statements of our own run: what interrupts a read must not strike them."""

MISS: Final = object()
"""The read must take the other way: it was not cheap, or there is a lock."""


class InlineReader:
    """A read-only connection of the caller's own thread, guarded so that it cannot stall it.

    kept: called when a transaction is kept from then on; where callers have no turns, somebody must end it.

    VM steps beyond the budget interrupt a read; a lock is not waited for; a slow run demotes the
    statement. In each case the caller is told MISS, and takes a lane.

    Most of a point read's time are the locks of its read transaction. So from its third read on a turn of
    the loop keeps one transaction, which is as fresh as a new one while the WAL index stays as it is:

        plain --third read, index known and unchanged by it--> held --index changed, `let_go`--> plain
    """

    def __init__(self, setup: Setup, open_connection: Callable[[], Connection], index: WalIndex | None = None) -> None:
        self._open = open_connection
        self._setup = setup
        self._page: Any = index.page if index is not None else None
        self._steps = max(1, setup.settings.step_budget // 2)
        self._ticks = QUIET
        self.connection = self._connect()
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
        profile.cost.ran_again(ended - started)
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

    def _connect(self) -> Connection:
        connection = self._open()
        connection.db.set_busy_timeout(0)
        # Steps carry over between the runs of a cached statement, so the first tick says nothing, the second does.
        connection.db.set_progress_handler(self._tick, self._steps)
        return connection

    def _tick(self) -> bool:
        self._ticks += 1
        return self._ticks >= 2

    def _replace(self) -> None:
        broken = self.connection
        broken.pinned = False
        self._head = None
        self.connection = self._connect()
        broken.close()
