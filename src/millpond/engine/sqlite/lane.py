"""A reader with a thread: what the quick lane and the heavy ones have in common."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import apsw

from millpond import errors, events
from millpond.engine.sqlite.calls import ReadCall
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.sessions import End, Step
from millpond.ports import Port
from millpond.settings import Settings
from millpond.statements.cost import MOST_ROWS

__all__ = ["Lane", "LaneOwner", "LanesHost", "judge"]

_UNWANTED = errors.OperationalError("nobody waits for this any more")


class LanesHost(Protocol):
    """What lanes need of the engine around them."""

    settings: Settings
    port: Port

    def open_reader(self) -> Connection: ...
    def verify_files(self) -> errors.Error | None: ...
    def translate(self, exc: BaseException, sql: str | None, *, applied: Any = None) -> BaseException: ...
    def emit(self, make: Callable[[], events.Event]) -> None: ...


class LaneOwner(Protocol):
    """What each lane needs of all of them."""

    replaced: int

    def faulty(self, lane: Lane, exc: BaseException) -> None: ...


class Lane:
    """A thread with a connection of its own for life."""

    def __init__(self, lanes: LaneOwner, host: LanesHost, name: str) -> None:
        self._owner = lanes
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
            self._owner.replaced += 1
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


def judge(call: ReadCall, many_steps: bool) -> None:
    """Where its statement may run next time. many_steps: more than a run on the loop may have, as far as is known."""
    if many_steps or call.rows > MOST_ROWS:
        call.profile.cost.ran_large(call.ran_s)
    else:
        call.profile.cost.ran(call.ran_s)
