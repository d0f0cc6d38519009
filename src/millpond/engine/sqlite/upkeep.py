"""The hands of upkeep: a thread that sleeps until a quiet time, and has the writer do what is due."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

import apsw

from millpond import errors, events
from millpond.engine.sqlite.bell import Bell
from millpond.engine.sqlite.checkpointer import FRAME_HEAD, Checkpointer
from millpond.engine.sqlite.connection import Connection, Setup
from millpond.engine.sqlite.inline import InlineReader
from millpond.engine.sqlite.pins import Pins
from millpond.engine.sqlite.upkeep_jobs import Answer, UpkeepJob, analyze, look, shrink, vacuum
from millpond.engine.sqlite.wal_index import HEAD, WalIndex
from millpond.engine.sqlite.writer import Writer
from millpond.engine.sqlite.writer_host import Phase
from millpond.scheduling.upkeep_plan import Outcome, Task, UpkeepPlan
from millpond.settings import Settings

__all__ = ["Upkeep", "UpkeepHost"]

log = logging.getLogger("millpond.upkeep")

BEGINS_S = 0.5
"""A job that has not begun by then is taken back: somebody has the write lock."""
ENDS_S = 10.0


class UpkeepHost(Protocol):
    """What upkeep needs of the engine around it."""

    settings: Settings
    setup: Setup
    page_size: int
    writer: Writer
    checkpointer: Checkpointer
    pins: Pins
    index: WalIndex | None
    inline: InlineReader | None
    inline_lock: threading.Lock

    def open_checkpointer(self) -> Connection: ...
    def verify_files(self) -> errors.Error | None: ...
    def emit(self, make: Callable[[], events.Event]) -> None: ...


class Upkeep:
    """Asks the plan what is due, does it, tells the plan how it went, and sleeps as long as the plan says.

    asleep: for long, as long as nobody writes; who commits then calls `wake`.
    jobs: those of ours that the writer has counted as writes. done, stopped, seconds: of all jobs.
    """

    def __init__(self, host: UpkeepHost) -> None:
        settings = host.settings
        self._host = host
        self._log = host.setup.path + "-wal"
        self._plan = UpkeepPlan(
            quiet_s=settings.quiet_s,
            usual_log=0,
            empty_log=settings.empty_log,
            analyze=settings.analyze,
            vacuum=settings.incremental_vacuum,
            shrink_s=settings.idle_close_s if settings.shrink_memory else None,
        )
        self._bell = Bell()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._counted = 0
        self._head = b""
        self._quiet_since = 0.0
        self._statistics: object = None
        self._passed_over: set[str] = set()
        self._last_s = 0.0
        self._said = ""
        self.asleep = False
        self.jobs = self.done = self.stopped = self.emptied = 0
        self.seconds = 0.0

    def start(self) -> None:
        """After everything else. Without another thread there is no upkeep, and all else goes on."""
        settings, now = self._host.settings, monotonic()
        self._plan.usual_log = settings.checkpoint_pages * (self._host.page_size + FRAME_HEAD)
        self._quiet_since = now
        self._observe(now)
        self._plan.opened(now)
        thread = threading.Thread(target=self._main, name="millpond-upkeep", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            log.warning("no upkeep at quiet times: %s", exc)
            return
        self._thread = thread

    def wake(self) -> None:
        """In the writer's thread: somebody has committed while it was asleep."""
        self.asleep = False
        self._bell.ring()

    def close(self, grace_s: float) -> None:
        """What is under way gives way."""
        self._closing = True
        self._bell.ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(grace_s)

    def counts(self) -> dict[str, Any]:
        """For stats, by their names."""
        return {
            "log_emptied": self.emptied,
            "upkeep_done": self.done,
            "upkeep_stopped": self.stopped,
            "upkeep_s": self.seconds,
        }

    def _main(self) -> None:
        while not self._closing:
            try:
                wait_s = self._turn()
            except Exception as exc:  # it harms nobody, and is tried again after the next commit
                log.error("upkeep failed", exc_info=exc)
                wait_s = None
            quiet_s = self._host.settings.quiet_s
            if wait_s is not None and wait_s <= quiet_s:
                self.asleep = False
            elif monotonic() - self._quiet_since < quiet_s:
                self.asleep, wait_s = False, quiet_s  # who writes all the time must not wake us all the time
            elif not self.asleep:
                self.asleep = True  # who commits from now on wakes us; who did just before is seen by another turn
                continue
            self._bell.wait(wait_s)

    def _turn(self) -> float | None:
        """Do one thing that is due, if the time is quiet. How long to sleep; None: until somebody commits."""
        now = monotonic()
        self._observe(now)
        following = self._plan.next(now, self._quiet_since, _size(self._log))
        match following:
            case Task.LOG:
                self._empty_log()
            case Task.LOOK:
                self._look()
            case Task.ANALYZE:
                self._analyze()
            case Task.VACUUM:
                self._vacuum()
            case Task.SHRINK:
                self._shrink()
            case _:
                return following
        return 0.0

    def _observe(self, now: float) -> None:
        """Has anybody written? We by the writer's counts, other processes by the head of the WAL index."""
        writer, index = self._host.writer, self._host.index
        counted = writer.writes + writer.leases + writer.reruns - self.jobs
        head = index.page[HEAD] if index is not None else b""
        if len(writer) > 0 or writer.phase is not Phase.IDLE:
            self._quiet_since = now
        elif counted != self._counted:
            self._quiet_since = min(now, writer.since)
        elif head != self._head:
            self._quiet_since = now
        if counted != self._counted or head != self._head:
            self._plan.wrote(now)
            self._counted, self._head = counted, head

    def _seen(self) -> None:
        """What was just written was ours."""
        if self._host.index is not None:
            self._head = self._host.index.page[HEAD]

    def _wanted(self) -> bool:
        """Does anybody want to write, or to close?"""
        return self._closing or len(self._host.writer) > 0

    def _empty_log(self) -> None:
        """Of the main file, and of those that are attached."""
        outcome = Outcome.DONE
        try:
            if self._host.verify_files() is not None:
                outcome = Outcome.IN_VAIN
            else:
                connection = self._host.open_checkpointer()
                try:
                    for name in connection.db.db_names():
                        file = connection.db.db_filename(name)
                        wal_bytes = _size(file + "-wal") if file else 0
                        if wal_bytes and not self._emptied(connection, name, wal_bytes):
                            outcome = Outcome.IN_VAIN
                finally:
                    connection.close()
        except (apsw.BusyError, apsw.LockedError):
            outcome = Outcome.IN_VAIN
        except apsw.Error as exc:
            outcome = Outcome.IN_VAIN
            self._failed("empty the log", exc)
        self._seen()
        self._plan.did(Task.LOG, monotonic(), Outcome.STOPPED if self._wanted() else outcome)

    def _emptied(self, connection: Connection, name: str, wal_bytes: int) -> bool:
        """False: a reader is in the way, or somebody who writes or checkpoints."""
        if self._wanted():
            return False
        done = self._host.checkpointer.checkpoint(connection, name, "PASSIVE")
        if done.whole and not self._wanted():
            # All of it is in the database, so this takes the write lock for an instant only, and waits for nobody.
            done = self._host.checkpointer.checkpoint(connection, name, "TRUNCATE")
            if done.whole:
                self.emptied += 1
                self._host.emit(lambda: events.LogEmptied(monotonic(), name, wal_bytes, done.seconds))
        if name == "main" and done.whole:
            self._host.pins.unpinned()
        elif name == "main":
            self._host.pins.pinned(wal_bytes)
        return done.whole

    def _look(self) -> None:
        found, outcome = self._submit("look", look, reads=True)
        if outcome is not Outcome.DONE:
            self._plan.did(Task.LOOK, monotonic(), outcome)
            return
        sight, statistics = found
        self._learn(statistics)
        self._plan.saw(monotonic(), sight)

    def _analyze(self) -> None:
        host = self._host

        def work(connection: Connection) -> tuple[str | None, bool, object]:
            return analyze(connection, self._passed_over, self._wanted, host.writer.schema_touched)

        found, outcome = self._submit("analyze", work)
        if outcome is Outcome.DONE:
            table, more, statistics = found
            if table is not None:
                self._learn(statistics)
                self._tell("analyze", table)
            else:
                self._passed_over.clear()
            outcome = Outcome.MORE if more else Outcome.DONE
        self._plan.did(Task.ANALYZE, monotonic(), outcome, self._last_s)

    def _learn(self, statistics: object) -> None:
        """Whoever has renewed them, here or in another process: our readers plan by them from now on."""
        if statistics != self._statistics:
            self._statistics = statistics
            self._host.setup.analyzed()

    def _vacuum(self) -> None:
        pages = self._plan.vacuum_pages
        found, outcome = self._submit("vacuum", lambda connection: vacuum(connection, pages))
        if outcome is Outcome.DONE:
            freed, left = found
            self._tell("vacuum", f"{freed} pages")
            outcome = Outcome.MORE if left and freed else Outcome.DONE
        self._plan.did(Task.VACUUM, monotonic(), outcome, self._last_s)

    def _shrink(self) -> None:
        _, outcome = self._submit("shrink", shrink, reads=True, after=self._shrink_inline)
        self._plan.did(Task.SHRINK, monotonic(), outcome)

    def _shrink_inline(self) -> None:
        """Where the callers are: their own connection."""
        inline = self._host.inline
        if inline is not None and self._host.inline_lock.acquire(blocking=False):
            try:
                if not self._closing:  # closed only after that is set, and under the lock
                    inline.shrink()
            finally:
                self._host.inline_lock.release()

    def _submit(
        self,
        name: str,
        work: Callable[[Connection], Any],
        *,
        reads: bool = False,
        after: Callable[[], None] | None = None,
    ) -> tuple[Any, Outcome]:
        """Have the writer do it, if nobody else wants it. Its result, and how it went: DONE, STOPPED or IN_VAIN."""
        writer = self._host.writer
        job = UpkeepJob(name, work, self._wanted, Answer(after), reads=reads)
        try:
            if self._wanted() or writer.submit(job, kick=False) is not None:
                return None, Outcome.STOPPED
        except errors.DatabaseClosed:
            return None, Outcome.STOPPED
        writer.ring()
        if not job.answer.wait(BEGINS_S) and writer.cancel(job):
            return None, Outcome.IN_VAIN
        if not job.answer.wait(ENDS_S):
            return None, Outcome.IN_VAIN  # its loop is closed, or hangs: nobody says how it ended
        self._last_s = job.ran_s
        self.seconds += job.ran_s
        self.jobs += not reads and job.answer.error is None
        self._seen()
        if job.ran and job.answer.error is None:
            self.done += 1
            return job.answer.result, Outcome.DONE
        self.stopped += 1
        if job.answer.error is None or isinstance(job.answer.error.__cause__, apsw.InterruptError):
            return None, Outcome.STOPPED
        self._failed(name, job.answer.error)
        return None, Outcome.IN_VAIN

    def _failed(self, what: str, error: BaseException) -> None:
        """Said once, not at each attempt."""
        text = f"{what}: {error}"
        if text != self._said:
            self._said = text
            log.warning("upkeep failed, and is tried again later: %s", text)

    def _tell(self, what: str, detail: str) -> None:
        seconds = self._last_s
        self._host.emit(lambda: events.UpkeepDone(monotonic(), what, detail, seconds))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
