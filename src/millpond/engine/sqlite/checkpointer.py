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

    Each database has a log of its own, so a plan of its own: the main one, and those attached.

    is_due: the rest is the writer's, by `finish`, between two of its batches. call_writer: has it look.
    """

    def __init__(self, host: CheckpointerHost, call_writer: Callable[[], None]) -> None:
        self._host = host
        self._call_writer = call_writer
        self._pages = host.settings.checkpoint_pages
        self._plans = {"main": CheckpointPlan(self._pages)}
        self._lock = threading.Lock()
        self._bell = Bell()
        self._closing = False
        self._thread: threading.Thread | None = None
        self.is_due = False
        self.checkpoints = self.finishes = 0

    def grew(self, pages: int, name: str) -> None:
        """In the writer's thread, at each commit. The thread is started when there is first something to do."""
        with self._lock:
            plan = self._plans.get(name)
            if plan is None:
                plan = self._plans[name] = CheckpointPlan(self._pages)
            begin = plan.grew(pages)
        if begin:
            self._begin()

    def finish(self, connection: Connection) -> None:
        """In the writer's thread, outside any transaction: copy what is left, so that the log can begin anew."""
        self.is_due = False
        try:
            for name, plan in self._at(Next.FINISH, connection):
                connection.db.wal_checkpoint(name, mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                self.finishes += 1
                with self._lock:
                    plan.ended()
        except apsw.Error as exc:
            self._failed(exc)

    def close(self, grace_s: float) -> None:
        self._closing = True
        self._bell.ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(grace_s)

    def _begin(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._main, name="millpond-checkpoint", daemon=True)
            try:
                thread.start()
            except RuntimeError as exc:  # no more threads: in the middle of a COMMIT, which must not fail by it
                self._failed(exc)
                return
            self._thread = thread
        self._bell.ring()

    def _at(self, step: Next, connection: Connection) -> list[tuple[str, CheckpointPlan]]:
        """The databases whose plans are at this step; what was detached is forgotten."""
        attached = connection.db.db_names()
        with self._lock:
            self._plans = {name: plan for name, plan in self._plans.items() if name in attached}
            return [(name, plan) for name, plan in self._plans.items() if plan.now is step]

    def _main(self) -> None:
        connection: Connection | None = None
        while True:
            self._bell.wait()
            if self._closing:
                break
            try:
                if self._host.verify_files() is not None:
                    self._put_off()
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
        connection.catch_up()
        while not self._closing and (due := self._at(Next.COPY, connection)):
            for name, plan in due:
                pages, moved = connection.db.wal_checkpoint(name, mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                self.checkpoints += 1
                with self._lock:
                    following = plan.copied(pages, moved)
                if following is Next.FINISH:
                    self.is_due = True
                    self._call_writer()

    def _put_off(self) -> None:
        """It cannot be done now: again when the logs have grown."""
        with self._lock:
            for plan in self._plans.values():
                plan.ended()

    def _failed(self, exc: Exception) -> None:
        self._put_off()
        if not isinstance(exc, apsw.BusyError):  # busy: another process checkpoints; that serves as well
            log.warning("checkpoint failed, the log stays as it is: %s", exc)
