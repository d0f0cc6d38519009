"""Move the log into the database beside the writer, not inside somebody's COMMIT."""

from __future__ import annotations

import logging
import threading
from typing import Protocol

import apsw

from millpond import errors
from millpond.engine.sqlite.bell import Bell
from millpond.engine.sqlite.connection import Connection

__all__ = ["Checkpointer", "CheckpointerHost"]

log = logging.getLogger("millpond.checkpoint")


class CheckpointerHost(Protocol):
    """What the checkpointer needs of the engine around it."""

    def open_checkpointer(self) -> Connection: ...
    def verify_files(self) -> errors.Error | None: ...


class Checkpointer:
    """A thread with a connection of its own that checkpoints (PASSIVE: it waits for nobody) when rung."""

    def __init__(self, host: CheckpointerHost) -> None:
        self._host = host
        self._bell = Bell()
        self._closing = False
        self._thread = threading.Thread(target=self._main, name="millpond-checkpoint", daemon=True)
        self._started = False
        self.checkpoints = 0
        self.moved_pages = 0

    def ring(self) -> None:
        """The log has grown. The thread is started when there is first something to do."""
        if not self._started:
            self._started = True
            self._thread.start()
        self._bell.ring()

    def close(self, grace_s: float) -> None:
        self._closing = True
        self._bell.ring()
        if self._started and self._thread is not threading.current_thread():
            self._thread.join(grace_s)

    def _main(self) -> None:
        connection: Connection | None = None
        while True:
            self._bell.wait()
            if self._closing:
                break
            try:
                if self._host.verify_files() is not None:
                    continue
                if connection is None:
                    connection = self._host.open_checkpointer()
                _, moved = connection.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                self.checkpoints += 1
                self.moved_pages = moved
            except apsw.BusyError:
                continue  # another process checkpoints; that serves as well
            except apsw.Error as exc:
                log.warning("checkpoint failed, the log stays as it is: %s", exc)
                if connection is not None:
                    connection.close()
                    connection = None
        if connection is not None:
            connection.close()
