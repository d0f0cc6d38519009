"""Move the log into the database beside the writer, not inside somebody's COMMIT."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

import apsw

from millpond import errors
from millpond.engine.sqlite.bell import Bell
from millpond.engine.sqlite.connection import Connection
from millpond.scheduling.checkpoint_plan import CheckpointPlan, Next
from millpond.settings import Settings

__all__ = ["Checkpointer", "CheckpointerHost"]

log = logging.getLogger("millpond.checkpoint")


class CheckpointerHost(Protocol):
    """What the checkpointer needs of the engine around it."""

    settings: Settings

    def open_checkpointer(self) -> Connection: ...
    def verify_files(self) -> errors.Error | None: ...


class Checkpointer:
    """A thread with a connection of its own that checkpoints (PASSIVE: it waits for nobody) when the log is long.

    is_due: the rest is the writer's, by `finish`, between two of its batches. call_writer: has it look.
    """

    def __init__(self, host: CheckpointerHost, call_writer: Callable[[], None]) -> None:
        self._host = host
        self._call_writer = call_writer
        self._plan = CheckpointPlan(host.settings.checkpoint_pages)
        self._lock = threading.Lock()
        self._bell = Bell()
        self._closing = False
        self._thread = threading.Thread(target=self._main, name="millpond-checkpoint", daemon=True)
        self._started = False
        self.is_due = False
        self.checkpoints = self.finishes = 0

    def grew(self, pages: int) -> None:
        """In the writer's thread, at each commit. The thread is started when there is first something to do."""
        with self._lock:
            begin = self._plan.grew(pages)
        if begin:
            if not self._started:
                self._started = True
                self._thread.start()
            self._bell.ring()

    def finish(self, connection: Connection) -> None:
        """In the writer's thread, outside any transaction: copy what is left, so that the log can begin anew."""
        self.is_due = False
        try:
            connection.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        except apsw.Error as exc:
            self._failed(exc)
            return
        self.finishes += 1
        with self._lock:
            self._plan.ended()

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
                self._copy(connection)
            except apsw.Error as exc:
                self._failed(exc)
                if connection is not None and not isinstance(exc, apsw.BusyError):
                    connection.close()
                    connection = None
        if connection is not None:
            connection.close()

    def _copy(self, connection: Connection) -> None:
        following = Next.COPY
        while following is Next.COPY and not self._closing:
            pages, moved = connection.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self.checkpoints += 1
            with self._lock:
                following = self._plan.copied(pages, moved)
        if following is Next.FINISH:
            self.is_due = True
            self._call_writer()

    def _failed(self, exc: apsw.Error) -> None:
        with self._lock:
            self._plan.ended()
        if not isinstance(exc, apsw.BusyError):  # busy: another process checkpoints; that serves as well
            log.warning("checkpoint failed, the log stays as it is: %s", exc)
