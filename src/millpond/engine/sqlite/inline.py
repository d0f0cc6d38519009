"""Cheap reads where the caller is: on the event loop itself, without a thread."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

import apsw

from millpond.engine.sqlite.connection import Connection, Parameters, Setup, Shape
from millpond.statements.profile import Profile

__all__ = ["MISS", "InlineReader"]

MISS: Final = object()
"""The read must take the other way: it was not cheap, or there is a lock."""


class InlineReader:
    """A read-only connection of the caller's own thread, guarded so that it cannot stall it.

    VM steps beyond the budget interrupt a read; a lock is not waited for; a slow run demotes the
    statement. In each case the caller is told MISS, and takes a lane.
    """

    def __init__(self, setup: Setup, open_connection: Callable[[], Connection]) -> None:
        self._open = open_connection
        self._steps = max(1, setup.settings.step_budget // 2)
        self.connection = self._connect()
        self.reads = 0
        self.ended = 0.0
        self._ticks = 0

    def run(self, profile: Profile, params: Parameters, shape: Shape, started: float) -> Any:
        """Run a read that is proven cheap. started: `perf_counter()` just now.

        Raises: apsw's errors for what is the statement's own fault.
        """
        connection = self.connection
        if not connection.is_current:
            connection.catch_up()
        self._ticks = 0
        try:
            result = connection.query(profile, params, shape)
        except apsw.InterruptError:
            profile.cost.over_budget()
            return MISS
        except (apsw.BusyError, apsw.LockedError, apsw.SchemaChangeError):
            return MISS
        except (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.CantOpenError, apsw.NoMemError):
            self._replace()
            return MISS
        self.ended = perf_counter()
        profile.cost.ran(self.ended - started)
        self.reads += 1
        return result

    def close(self) -> None:
        self.connection.close()

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
        self.connection = self._connect()
        broken.close()
