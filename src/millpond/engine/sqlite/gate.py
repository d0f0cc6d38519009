"""The way to a file's write lock, which other processes hold at times."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import apsw

from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.lock_watch import LockWatch
from millpond.engine.sqlite.turnstile import Turnstile
from millpond.errors import Holder

__all__ = ["LONG_WAIT_S", "Gate"]

LONG_WAIT_S = 0.05
"""After this long for a foreign lock, ask less often."""


class Gate:
    """BEGIN IMMEDIATE, in waits so short that whoever gives up is heard between them.

    SQLite cannot be stopped inside one wait. slice_ms: its length. held_by: who kept the last long wait waiting.
    turnstile: turns with other processes of Millpond's, where there are any.
    """

    def __init__(self, slice_ms: int, watch: LockWatch) -> None:
        self._slice_ms = slice_ms
        self._watch = watch
        self.turnstile: Turnstile | None = None
        self.held_by: Holder | None = None

    def prepare(self, connection: Connection) -> None:
        """For a connection that is new."""
        connection.db.set_busy_timeout(self._slice_ms)

    def enter(self, connection: Connection, is_wanted: Callable[[], bool]) -> bool:
        """Wait for our turn and for the lock as long as `is_wanted()`. True: the transaction is begun.

        Raises: apsw.Error for whatever is not a lock.
        """
        started = monotonic()
        self.held_by = None
        slow = False

        def still_wanted() -> bool:
            nonlocal slow
            if not slow and monotonic() - started > LONG_WAIT_S:
                slow = True
                self.held_by = self._watch.look(started)
                connection.db.set_busy_timeout(self._slice_ms * 3)
            return is_wanted()

        begun = False
        try:
            if self.turnstile is not None and not self.turnstile.wait(still_wanted):
                return False
            while not begun:
                try:
                    connection.run("BEGIN IMMEDIATE")
                    begun = True
                except (apsw.BusyError, apsw.LockedError):
                    if not still_wanted():
                        return False
            if self._watch.known:
                self._watch.forget()
            return True
        finally:
            if not begun:
                self.leave()
            if slow:
                self.prepare(connection)

    def slip_in(self, connection: Connection) -> bool:
        """Enter if the way is free; wait for nobody. Raises: as `enter`."""
        if self.turnstile is not None and not self.turnstile.slip_in():
            return False
        begun = False
        connection.db.set_busy_timeout(0)
        try:
            connection.run("BEGIN IMMEDIATE")
            begun = True
        except (apsw.BusyError, apsw.LockedError):
            return False
        finally:
            self.prepare(connection)
            if not begun:
                self.leave()
        if self._watch.known:
            self._watch.forget()
        return True

    def take_turn(self, is_wanted: Callable[[], bool]) -> bool:
        """Our turn among the processes of Millpond's, without a transaction, until `leave`. False: given up."""
        return self.turnstile is None or self.turnstile.wait(is_wanted)

    def leave(self) -> None:
        """The others may go: it is over, or it takes long. Twice is once."""
        if self.turnstile is not None:
            self.turnstile.leave()

    def close(self) -> None:
        if self.turnstile is not None:
            self.turnstile.close()
