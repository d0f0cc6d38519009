"""Move the log into the database beside the writer, not inside somebody's COMMIT."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, Protocol

import apsw

from millpond import errors, events
from millpond.engine.sqlite.bell import Bell
from millpond.engine.sqlite.checkpoint import Checkpoint, Mode, Tally
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.drain import Drain, DrainHost
from millpond.engine.sqlite.gate import LONG_WAIT_S, Gate
from millpond.engine.sqlite.pins import Pins
from millpond.scheduling.checkpoint_plan import CheckpointPlan, Next

__all__ = ["FRAME_HEAD", "Checkpointer", "CheckpointerHost"]

log = logging.getLogger("millpond.checkpoint")

FRAME_HEAD: Final = 24
"""Bytes of the log beside each page. Source: sqlite.org/fileformat.html, 4.1."""
RETRY_S = 0.02
"""While long reads are held back, what else is in the way is looked after this often, though nobody writes."""


class CheckpointerHost(DrainHost, Protocol):
    """What the checkpointer needs of the engine around it."""

    page_size: int
    pins: Pins

    def open_checkpointer(self) -> Connection: ...
    def verify_files(self) -> errors.Error | None: ...


class Checkpointer:
    """A thread with a connection of its own that checkpoints (PASSIVE: it waits for nobody) when the log is long.

    Each database has a log of its own, so a plan of its own: the main one, and those attached. For the main one
    `drain` sees that there are moments without readers.

    is_due: something is the writer's to do, by `finish`, between two of its batches. call_writer: has it look.
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
        self._log_pages = 0
        self.drain = Drain(host, self._drained)
        self.tally = Tally()
        self.is_due = False
        self.checkpoints = self.finishes = 0

    def grew(self, pages: int, name: str) -> None:
        """In the writer's thread, at each commit. The thread is started when there is first something to do."""
        with self._lock:
            plan = self._plans.get(name)
            if plan is None:
                plan = self._plans[name] = CheckpointPlan(self._pages)
            begin = plan.grew(pages)
        if name == "main":
            self._log_pages = pages
        if begin:
            self._begin()

    def finish(self, connection: Connection, gate: Gate) -> None:
        """In the writer's thread, outside any transaction: copy what is left, so that the log can begin anew.

        For that it takes the write lock (RESTART): what another process appends meanwhile would be left over.
        """
        self.is_due = False
        try:
            due = self._at(Next.FINISH, connection)
            if due:
                until = monotonic() + LONG_WAIT_S
                if gate.take_turn(lambda: monotonic() < until and not self._closing):
                    try:
                        for name, _ in due:
                            self._restart(connection, name)
                    finally:
                        gate.leave()
                with self._lock:
                    for _, plan in due:
                        plan.ended()
            if self.drain.is_on:
                self.drain.pace(self._log_bytes)
        except apsw.Error as exc:
            self._failed(exc)
        finally:
            gate.prepare(connection)
            self.is_due = self.is_due or self.drain.is_on

    def checkpoint(self, connection: Connection, name: str, mode: Mode, *, by_writer: bool = False) -> Checkpoint:
        """Make one, count it, and tell it. Raises: apsw.Error; apsw.BusyError while another one is made."""
        done = Checkpoint.make(connection.db, name, mode)
        self.tally.add(done)
        self._host.emit(
            lambda: events.Checkpointed(
                monotonic(), name, done.moved, done.pages - done.copied, done.seconds, done.whole, by_writer
            )
        )
        return done

    def counts(self) -> dict[str, Any]:
        """For stats, by their names."""
        return {
            "checkpoints": self.checkpoints,
            "checkpoint_finishes": self.finishes,
            "checkpoint_pages": self.tally.pages,
            "checkpoint_s": self.tally.seconds,
            "checkpoint_longest_s": self.tally.longest_s,
            "log_holds": self.drain.holds,
            "log_held_s": self.drain.held_s,
            "log_paced_s": self.drain.paced_s,
        }

    def close(self, grace_s: float) -> None:
        self._closing = True
        self._bell.ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(grace_s)

    @property
    def _log_bytes(self) -> int:
        return self._log_pages * (self._host.page_size + FRAME_HEAD)

    def _restart(self, connection: Connection, name: str) -> None:
        drain = self.drain
        if drain.reads_on():
            connection.db.set_busy_timeout(0)  # reads that last are not waited for; others need a moment
        done = self.checkpoint(connection, name, "RESTART", by_writer=True)
        if name == "main" and done.whole:
            drain.begun_anew()
            self._host.pins.unpinned()
        elif name == "main":
            self._host.pins.pinned(self._log_bytes)
            drain.pinned(self._log_bytes, self._host.pins.last)
        self.finishes += 1

    def _drained(self) -> None:
        """In any thread: the long reads have ended, so copy now; or their time is up, which the writer looks after."""
        self._begin()
        self.drain.ring()
        self._call_writer()

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
            self._bell.wait(RETRY_S if self.drain.is_drained else None)
            if self._closing:
                break
            if self.drain.is_drained:
                with self._lock:
                    self._plans["main"].again()
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
                done = self.checkpoint(connection, name, "PASSIVE")
                self.checkpoints += 1
                with self._lock:
                    following = plan.copied(done.pages, done.copied)
                if following is Next.FINISH:
                    self.is_due = True
                    self.drain.ring()
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
