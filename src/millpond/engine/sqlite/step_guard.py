"""Stops a write on the event loop that is not as short as it has shown to be."""

from __future__ import annotations

from time import monotonic

from millpond import errors, messages
from millpond.engine.sqlite.calls import WriteCall
from millpond.engine.sqlite.connection import Connection

__all__ = ["StepGuard"]

STEPS = 10_000
"""VM steps between two looks at the clock: what is cheap never comes to one."""
STALL_S = 0.02
"""A job that runs for longer is stopped. Stopping a write undoes its transaction, so its neighbours of this turn run
again, each with a commit of its own: it must be worth that."""


class StepGuard:
    """SQLite asks it every so many steps, while the writer's connection is the loop's, whether to go on.

    So what runs without being asked about costs nothing. call: the job that may be stopped now, or None: what is
    interactive cannot run again, and neither can what is Millpond's own. struck: it stopped one.
    """

    __slots__ = ("_asked", "call", "struck")

    def __init__(self) -> None:
        self.call: WriteCall | None = None
        self.struck = False
        self._asked: WriteCall | None = None

    def begin(self, connection: Connection) -> None:
        """The loop has the connection from now on."""
        self.call = self._asked = None
        self.struck = False
        connection.db.set_progress_handler(self._ask, STEPS)

    def end(self, connection: Connection) -> None:
        """The writer's thread has it again, and may take its time."""
        connection.db.set_progress_handler(None)

    def stopped(self, call: WriteCall, connection: Connection) -> errors.Error:
        """A job was stopped: nothing is left of its transaction, and it runs where it may take its time.

        Returns why, for those who must run again.
        """
        if connection.db.in_transaction:
            connection.run("ROLLBACK")  # what was stopped was a read, or was caught by the caller's function
        if call.cost is not None:
            call.cost.over_budget()
        call.error = None
        return errors.OperationalError(
            messages.headed(call.sql, " took longer than it ever had; the writes of its turn run again in the writer"),
            sql=call.sql,
        )

    def _ask(self) -> bool:
        call = self.call
        if call is None:
            return False
        if call is not self._asked:  # steps carry over between the runs of a statement: the first says nothing
            self._asked = call
            return False
        assert call.started is not None
        self.struck = self.struck or monotonic() - call.started >= STALL_S
        return self.struck
