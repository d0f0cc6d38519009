"""One open SQLite database: writer, readers, checkpointer and guards, and what they share."""

from __future__ import annotations

import enum
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from time import monotonic, time
from types import FrameType
from typing import Any

import apsw

from millpond import errors, events, messages
from millpond.engine.sqlite import finished, guards, translate
from millpond.engine.sqlite.calls import ReadCall, Transaction, WriteCall
from millpond.engine.sqlite.checkpointer import Checkpointer
from millpond.engine.sqlite.connection import Connection, Setup
from millpond.engine.sqlite.descriptors import other_library_has_open
from millpond.engine.sqlite.files import FileFacts, gather
from millpond.engine.sqlite.gate import Gate
from millpond.engine.sqlite.grant import Lease, Operation
from millpond.engine.sqlite.holdback import Reader
from millpond.engine.sqlite.idle_reads import IdleReads
from millpond.engine.sqlite.inline import InlineReader
from millpond.engine.sqlite.lanes import Lanes
from millpond.engine.sqlite.lock_watch import LockWatch
from millpond.engine.sqlite.observers import Observers
from millpond.engine.sqlite.opening import when_free
from millpond.engine.sqlite.pins import Pins, log_check
from millpond.engine.sqlite.result_cache import ResultCache
from millpond.engine.sqlite.schema_reader import SchemaReader
from millpond.engine.sqlite.turnstile import Turnstile
from millpond.engine.sqlite.upkeep import Upkeep
from millpond.engine.sqlite.wal_index import WalIndex
from millpond.engine.sqlite.watchers import Watchers
from millpond.engine.sqlite.writer import Writer
from millpond.engine.sqlite.writer_host import Phase
from millpond.locations import Location
from millpond.parameters import Adapters, Converters
from millpond.places import outside, warn_at
from millpond.ports import Port
from millpond.scheduling.places import Places
from millpond.settings import Settings
from millpond.statements.cache import ProfileCache
from millpond.statements.cost import Costs
from millpond.statements.pragmas import setting_of
from millpond.statements.profile import Kind, Profile
from millpond.stats import Check, Health, Stats

__all__ = ["Engine", "Standing"]

log = logging.getLogger("millpond.pool")


CLOSING_S = 5.0
"""Beyond the grace, closing takes no longer: all its waits are bounded."""


class Standing(enum.Enum):
    """Where a database is in its life."""

    NEW = "not open"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"
    FORKED = "forked"


class Engine:
    """Owns the connections of one database file and the threads that use them.

    Knows its callers only through the port. Opening and closing block: call them in a thread where that
    matters. All else is called by facades from their own threads.
    """

    def __init__(
        self, location: Location, settings: Settings, port: Port, observers: Sequence[events.Observer]
    ) -> None:
        self.location = location
        self.settings = settings
        self.port = port
        self._stand(Standing.NEW)
        self.profiles = ProfileCache(settings.profiles, self._forget_results)
        self.places = Places()
        self.functions = Costs()
        self.setup = Setup(
            path=location.path,
            settings=settings,
            adapters=Adapters(settings.adapters, strict_datetimes=settings.strict_datetimes, warn=self._warn),
            converters=Converters(settings.converters),
        )
        self.observers = Observers(observers)
        self.observed = self.observers.wanted
        self.lock_watch = LockWatch(location.path)
        self.writer = Writer(self)
        self.lanes: Lanes | None = None
        self.index: WalIndex | None = None
        self.cache: ResultCache | None = None
        self.inline: InlineReader | None = None
        self.checkpointer = Checkpointer(self, self.writer.ring)
        self.pins = Pins(self)
        self.upkeep = Upkeep(self)
        self.watchers = Watchers(self)
        self.changes: Watchers | None = None
        self.turnstile: Turnstile | None = None
        self.has_temporaries = False
        self.opened = 0.0
        self.pid = os.getpid()
        self.errors = self.refused = self.cancelled = self.deadlines_missed = self.leaks = 0
        self._identity = guards.FileIdentity(location.path)
        self._schema = SchemaReader(
            location.path, lambda: not self.memory and self.standing is Standing.OPEN, self._version
        )
        self._forget: Callable[[], None] = lambda: None
        self.inline_lock = threading.Lock()  # for callers that are threads: the inline reader is one's at a time
        self._idle_reads: IdleReads | None = None
        self._given_up = threading.Event()
        self._conflict_seen: str | None = None
        self._corruption: str | None = None
        self._closing = threading.Lock()
        self._ended = threading.Event()
        self.page_size = 4096

    @property
    def name(self) -> str:
        """The file's name, for people."""
        return self.location.name

    @property
    def memory(self) -> bool:
        """One connection only: reads and writes share it."""
        return self.location.memory

    def open(self) -> None:
        """Open the writer first (it creates the file and keeps the log alive), then the readers.

        Raises: errors.Error with what is wrong with the file or the folder.
        """
        guards.oldest_good_version()
        conflict = not self.memory and other_library_has_open(self.location.path)
        if conflict:
            guards.warn_of_earlier(self.name)
        try:
            self.writer.start()
        except BaseException:
            self._given_up.set()
            self.writer.close(0.0)
            raise
        try:
            self.observers.start()
            if not self.memory:
                self.index = WalIndex.open(self.location.path)
                self.writer.commits.log_opened(self.index)
                if self.index is not None and self.settings.cache_bytes and not self.settings.converters:
                    self.cache = ResultCache(self.index, self.settings.cache_bytes)
                    self.cache.observed = self.finished_inline if self.observed else None
                self.inline = InlineReader(self.setup, self.open_known_reader, self.index)
                if not self.port.has_turns:
                    self._idle_reads = IdleReads(self.inline, self.inline_lock)
                    self.inline.kept = self._idle_reads.kept
                self.lanes = Lanes(self)
                if self.turnstile is not None and self.settings.log_hold_s:
                    self.lanes.holdback.asked_s = self.turnstile.reads_held_s
                self.lanes.start()
                if self.settings.visible == "committed":
                    self.writer.sync_behind()
        except BaseException as exc:
            self._take_down(0.0)
            raise self.translate(exc, None) from exc
        self.opened = monotonic()
        self._stand(Standing.OPEN)
        guards.call_after_fork(self)
        if not self.memory:
            self._forget = guards.watch_other_engines(self.location.path, self._conflict)
        if conflict:
            self._conflict("before it was opened here")
        if not self.memory:
            self.upkeep.start()
        self.emit(lambda: events.Opened(monotonic(), self.location.path, apsw.sqlite_lib_version()))

    def give_up(self) -> None:
        """From any thread: nobody waits any more for this database to open."""
        self._given_up.set()

    def close(self, grace_s: float) -> None:
        """Finish what is queued within the grace, fail the rest, close everything. Twice is once.

        Whoever comes while another closes waits for the same end.
        """
        with self._closing:
            first = self.standing is Standing.OPEN
            if first:
                self._stand(Standing.CLOSING)
        if not first:
            if self.standing is Standing.CLOSING:
                self._ended.wait(grace_s + CLOSING_S)
            return
        try:
            self._take_down(grace_s)
        finally:
            self._stand(Standing.CLOSED)
            self._ended.set()

    def _stand(self, standing: Standing) -> None:
        self.standing = standing
        self.is_open = standing is Standing.OPEN  # asked for at each call

    def _take_down(self, grace_s: float) -> None:
        self._given_up.set()
        self._forget()
        self.upkeep.close(1.0)
        self.watchers.close(1.0)
        left = len(self.writer) + (self.lanes.waiting if self.lanes is not None else 0)
        until = monotonic() + grace_s
        if self.lanes is not None:
            self.lanes.close()
        if self.lanes is not None and not self.lanes.join(max(0.05, grace_s)):
            self.lanes.interrupt_all()
            self.lanes.join(0.5)
        self.checkpointer.close(1.0)
        if self.inline is not None:
            with self.inline_lock:
                self.inline.close()
                if self._idle_reads is not None:
                    self._idle_reads.close()
        self.writer.close(max(0.0, until - monotonic()))
        if not self.writer.join(max(0.0, until - monotonic()) + 0.5):
            connection = self.writer.connection
            if connection is not None:
                connection.db.interrupt()
            if not self.writer.join(1.0):
                log.error("the writer of %s did not end; its thread is left behind", self.name)
        if self.index is not None and not self.writer.is_alive:
            if self.cache is not None:
                self.cache.detach()
            self.index.close()
        self.emit(lambda: events.Closed(monotonic(), self.location.path, left))
        self.observers.close(min(1.0, grace_s + 0.1))

    def forked(self) -> object:
        """In a child process: nothing here may be used or closed; the caller keeps the returned for ever."""
        self._stand(Standing.FORKED)
        if self.cache is not None:
            self.cache.poison()
        self.writer.forked()
        self.watchers.forked()
        return (self, self.inline, self.lanes, self.writer, self.checkpointer, self.upkeep)

    def closed_error(self) -> errors.Error:
        """Why this database cannot be used now."""
        match self.standing:
            case Standing.FORKED:
                return messages.forked(self.pid, os.getpid())
            case Standing.NEW:
                return errors.DatabaseClosed(
                    f"{self.name} is not open yet",
                    hint="Use `async with Database(...) as db:`, or `await db.open()` first.",
                )
            case _:
                return errors.DatabaseClosed(f"{self.name} is closed")

    def profile(self, sql: str) -> Profile:
        """What a statement is. In the inline connection's thread; not for a database with one connection.

        Raises: errors.Error for wrong SQL.
        """
        assert self.inline is not None
        self.inline.let_go()
        try:
            profile = self.inline.connection.profile(sql)
        except (apsw.Error, TypeError, ValueError) as exc:
            raise self.translate(exc, sql) from exc
        self.profiles.put(profile)
        return profile

    def profile_on(self, connection: Connection, sql: str) -> Profile:
        """What a statement is, asked on a connection that the calling thread holds."""
        profile = self.profiles.get(sql)
        if profile is None or profile.stale:
            profile = connection.profile(sql)
            self.profiles.put(profile)
        return profile

    def transaction_on(self, connection: Connection) -> Transaction:
        """The `tx` that a function given to `write` gets."""
        return Transaction(connection, self.profile_on, self.guard_inside, self.script_on, self.translate)

    @property
    def writer_connection(self) -> Connection:
        """For whoever holds the writer's connection now."""
        connection = self.writer.connection
        assert connection is not None
        return connection

    def script_on(self, connection: Connection, text: str, where: str) -> None:
        """Run the statements of a script, one after another, inside the transaction that there is."""
        at = 0
        statements = connection.profiler.statements(text)
        try:
            for sql in statements:
                at = text.find(sql, at)
                profile = connection.profile(sql)
                if profile.pragma == "foreign_keys" and profile.kind is Kind.EVERYWHERE:
                    following = next(statements, None)
                    if following is not None and connection.profile(following).kind is Kind.TRANSACTION:
                        raise messages.dump_in_a_script(sql)
                self.guard_inside(profile, where)
                connection.change(profile, None)
                at += len(sql)
        except apsw.Error as exc:
            exc.script = text[at:].strip()  # type: ignore[attr-defined]  # begins with the statement that failed
            raise

    def guard_inside(self, profile: Profile, where: str) -> None:
        """Inside a transaction: raise for what has no place there, and note what changes the schema."""
        match profile.kind:
            case Kind.READ | Kind.WRITE:
                return
            case Kind.SCHEMA:
                self.writer.schema_touched()
                self.note_schema_write(profile)
            case Kind.TRANSACTION:
                raise messages.transaction_control(profile.word, _INSTEAD.get(where, _INSTEAD["tx"]), profile.sql)
            case Kind.REFUSED:
                raise self.refusal(profile)
            case Kind.WRITER_ONLY if profile.asks:
                return
            case Kind.WRITER_ONLY | Kind.EVERYWHERE:
                setting = setting_of(profile.pragma or "")
                by_setting = f"Leave it out and give Settings({setting}=...), or run" if setting else "Run"
                raise errors.NotSupportedError(
                    f"{profile.word} {profile.pragma or ''}".strip() + " cannot run inside a transaction",
                    hint=f"{by_setting} it by itself: `await db.execute(...)`.",
                    sql=profile.sql,
                    applied="no",
                )

    def note_schema_write(self, profile: Profile) -> None:
        """From now on a name that readers do not know may be a temporary object of the writer's."""
        self.has_temporaries = self.has_temporaries or profile.temporary

    def refusal(self, profile: Profile) -> errors.Error:
        return errors.NotSupportedError(
            f"PRAGMA {profile.pragma} is Millpond's to set on {self.name}",
            detail=profile.reason,
            hint=f"Leave it out: {profile.reason}.",
            sql=profile.sql,
            applied="no",
        )

    def tell_everyone(self, sql: str, params: Any, connection: Connection) -> None:
        """A statement that every connection runs, those opened later too. connection: has just run it."""
        if not self.memory:
            guards.refuse_private_databases(connection.db, sql)
            self.writer.sync_in_commits()
        self.setup.add(sql, params)
        self.profiles.all_stale()
        if self.cache is not None:
            self.cache.switch_off()

    def open_writer(self) -> Connection:
        """The writer's connection: creates the file, and puts it into WAL mode."""
        if self.memory:
            return Connection(self.setup, readonly=False, uri=":memory:")
        settings = self.settings
        return when_free(
            self._open_writer, self.location.path,
            timeout_s=settings.timeout_s, slice_s=settings.busy_slice_ms / 1000, given_up=self._given_up,
        )  # fmt: skip

    def _open_writer(self) -> Connection:
        path = self.location.path
        try:
            connection = Connection(self.setup, readonly=False, wait_ms=self.settings.busy_slice_ms)
        except BaseException as exc:
            raise translate.translate_open(exc, path, files=self._files, header=None) from exc
        try:
            if connection.db.readonly("main"):
                raise translate.translate_open(apsw.ReadOnlyError("read-only"), path, files=self._files, header=None)
            mode = connection.db.pragma("journal_mode", "wal")
            if mode != "wal":
                raise errors.NotSupportedError(
                    f"{self.name} cannot be put into WAL mode (it stays in {mode})",
                    detail="WAL needs shared memory, which network file systems do not give.",
                    hint="Keep the file on a local disk.",
                    path=path,
                )
            connection.db.pragma("journal_size_limit", self.settings.wal_limit_bytes)
            # One read and one empty write create -wal and -shm, so that their identity is known from now on.
            connection.run("BEGIN IMMEDIATE")
            connection.run("ROLLBACK")
            self.page_size = connection.db.pragma("page_size")
        except errors.Error:
            connection.close()
            raise
        except BaseException as exc:
            connection.close()
            raise translate.translate_open(exc, path, files=self._files, header=None) from exc
        return connection

    def open_turnstile(self) -> Turnstile | None:
        """Turns with other processes on the file; None where there are none to be had."""
        self.turnstile = None if self.memory else Turnstile.open(self.location.path)
        return self.turnstile

    def open_reader(self) -> Connection:
        return Connection(self.setup, readonly=True)

    def open_known_reader(self, wait_ms: int) -> Connection:
        """A reader of the files that were opened. wait_ms: for the locks of its first statement.

        Raises: errors.Error if other files stand in their place.
        """
        problem = self.verify_files()
        if problem is not None:
            raise problem
        return Connection(self.setup, readonly=True, wait_ms=wait_ms)

    def open_checkpointer(self) -> Connection:
        connection = Connection(self.setup, readonly=False)
        connection.db.set_busy_timeout(0)
        connection.db.wal_autocheckpoint(0)
        return connection

    def verify_files(self) -> errors.Error | None:
        """None while the files are those that were opened."""
        return None if self.memory else self._identity.verify()

    def translate(self, exc: BaseException, sql: str | None, *, applied: Any = None) -> BaseException:
        """An engine's exception in Millpond's words; Millpond's own, and the caller's, as they are."""
        sql = getattr(exc, "script", sql)
        if isinstance(exc, (errors.Error, KeyboardInterrupt, SystemExit)):
            if isinstance(exc, errors.ParameterError):  # whoever looks at one value knows nothing of the statement
                exc.sql = exc.sql or sql
                exc.applied = exc.applied or applied or messages.not_applied(sql)
            return exc
        try:
            error = translate.translate(
                exc, sql=sql, schema=self._schema, path=self.location.path, applied=applied, files=self._files
            )
        except Exception as fault:  # whoever finds no words for one job must not fail its neighbours
            log.error("no words for %s", type(exc).__name__, exc_info=fault)
            error = errors.InternalError(f"no words were found for {type(exc).__name__}", applied=applied or "no")
        error.__cause__ = exc
        if isinstance(error, errors.DatabaseCorrupt) and not _ATTACHES.match(messages.clip(sql or "")):
            self._corruption = str(error)
        return error

    def _forget_results(self, profile: Profile) -> None:
        if self.cache is not None:
            self.cache.forget(profile)

    def schema_changed(self) -> None:
        self.profiles.all_stale()

    def log_grew(self, pages: int, name: str = "main") -> None:
        """In the writer's thread, at each commit: is it time for a checkpoint? name: the database's, as attached."""
        self.checkpointer.grew(pages, name)
        if self.upkeep.asleep:
            self.upkeep.wake()

    def tidy_log(self, connection: Connection, gate: Gate) -> None:
        """In the writer's thread, between two batches: begin the log anew if it is time for that."""
        self.checkpointer.finish(connection, gate)

    def readers(self) -> Sequence[Reader]:
        """Our own readers of old commits, the oldest first."""
        return self.lanes.holdback.readers() if self.lanes is not None else ()

    @property
    def log_is_due(self) -> bool:
        return self.checkpointer.is_due

    def emit(self, make: Callable[[], events.Event]) -> None:
        if self.observers.wanted:
            self.observers.emit(make)

    def finished(self, call: Any, result: Any, error: BaseException | None) -> None:
        """With observers: a call that went through a queue is over."""
        event = finished.of_call(call, result, error)
        if event is not None:
            self.emit(lambda: event)

    def finished_inline(self, sql: str, ran_s: float, result: Any, error: BaseException | None) -> None:
        """With observers: a read that ran where the caller is is over."""
        self.emit(lambda: finished.of_run(sql, "inline", ran_s, result, error))

    def finished_inside(self, sql: str, ran_s: float, result: Any, error: BaseException | None) -> None:
        """With observers: a statement of an interactive transaction is over."""
        self.emit(lambda: finished.of_run(sql, "writer", ran_s, result, error))

    def lease_expired(self, lease: Lease, held_s: float) -> errors.Error:
        _, awaiting = self.port.caller_name(lease.caller, lease.code)
        return messages.lease_expired(
            opened=lease.place,
            held_s=held_s,
            limit_s=self.settings.max_lease,
            statements=lease.statements,
            waited_writes=len(self.writer),
            awaiting=awaiting,
        )

    def closed_under(self, lease: Lease, held_s: float) -> errors.Error:
        return messages.closed_under(self.name, opened=lease.place, held_s=held_s, statements=lease.statements)

    def late(self, call: Any, timeout_s: float, *, running: bool) -> errors.Error:
        """The error for a call whose deadline has passed: says where its time went, and who is to blame."""
        now = monotonic()
        waited = now - call.submitted
        self.deadlines_missed += 1
        if not hasattr(call, "committing"):
            return self._late_read(call, timeout_s, now)
        writer = self.writer
        applied: Any = None if call.reads else "unknown" if running else "no"
        if not running and writer.phase is Phase.GATE:
            holder = self.lock_watch.look(writer.since)
            return messages.lock_timeout(
                sql=call.sql, waited_s=waited, file=self.name, holder=holder, behind=len(writer) + 1,
                oldest_s=max(waited, writer.oldest_s(now)),
            )  # fmt: skip
        grant = writer.grant
        lease = grant.current if grant is not None else None
        if not running and lease is not None:
            name, awaiting = self.port.caller_name(lease.caller, lease.code)
            held_s = now - lease.granted
            holder = errors.Holder(os.getpid(), None, time() - held_s, held_s, lease.place, ours=True)
            return messages.lock_timeout(
                sql=call.sql, waited_s=waited, file=self.name, holder=holder, behind=len(writer) + 1,
                oldest_s=max(waited, writer.oldest_s(now)), task=name, statements=lease.statements,
                last_statement_s=now - lease.last, awaiting=awaiting,
            )  # fmt: skip
        started = call.started or now
        return messages.deadline_exceeded(
            sql=call.sql, timeout_s=timeout_s, queue_s=max(0.0, started - call.submitted), lock_s=0.0,
            running_s=now - started, detail=f"The writer is {writer.phase.value}; {len(writer)} writes wait.",
            applied=applied,
        )  # fmt: skip

    def _late_read(self, call: Any, timeout_s: float, now: float) -> errors.Error:
        started = getattr(call, "started", None) or now
        longest = self.lanes.longest if self.lanes is not None else None
        detail = f"{self.lanes!r}"[1:-1] if self.lanes is not None else ""
        if longest is not None and longest[0] != call.sql:
            detail += f"; longest: {messages.clip(longest[0])} for {longest[1]:.1f} s"
        return messages.deadline_exceeded(
            sql=call.sql, timeout_s=timeout_s, queue_s=max(0.0, started - call.submitted), lock_s=0.0,
            running_s=now - started, detail=detail,
        )  # fmt: skip

    def leaked(self, what: str, place: str) -> None:
        """Something was collected that its owner had not closed."""
        self.leaks += 1
        self.emit(lambda: events.LeakFound(monotonic(), what, place))

    def stats(self) -> Stats:
        writer, lanes, cache, upkeep = self.writer, self.lanes, self.cache, self.upkeep
        return Stats(
            open_s=monotonic() - self.opened,
            reads_inline=self.inline.reads if self.inline is not None else 0,
            reads_quick=lanes.quick_reads if lanes is not None else 0,
            reads_heavy=lanes.heavy_reads if lanes is not None else 0,
            reads_kept=cache.hits if cache is not None else 0,
            results_kept=len(cache.kept) if cache is not None else 0,
            results_bytes=cache.kept.bytes if cache is not None else 0,
            writes=writer.writes - upkeep.jobs,
            batches=writer.batches - upkeep.jobs,
            reruns=writer.reruns,
            leases=writer.leases,
            leases_expired=writer.expired,
            errors=self.errors,
            refused=self.refused,
            cancelled=self.cancelled,
            deadlines_missed=self.deadlines_missed,
            leaks=self.leaks,
            reads_waiting=lanes.waiting if lanes is not None else 0,
            writes_waiting=len(writer),
            lanes=len(lanes) if lanes is not None else 0,
            busy_lanes=lanes.busy if lanes is not None else 0,
            connections=1 + (len(lanes) if lanes is not None else 0),
            lanes_replaced=lanes.replaced if lanes is not None else 0,
            writer_replaced=writer.replaced,
            profiles=len(self.profiles),
            wal_pages=writer.wal_pages,
            commit_s=writer.commit_s,
            gate_s=writer.gate_s,
            work_s=writer.work_s,
            observer_errors=self.observers.errors,
            observer_dropped=self.observers.dropped,
            log_pin=self.pins.last,
            **self.checkpointer.counts(),
            **upkeep.counts(),
            watchers=self.watchers.number,
            watch_queries=self.watchers.queries,
        )

    def health(self, read_error: BaseException | None) -> Health:
        """read_error: what a probing read raised just now, if anything."""
        problem = self.verify_files()
        now = monotonic()
        oldest = self.writer.oldest_s(now)
        held = self.lanes.held(now) if self.lanes is not None else None
        forgotten = held is not None and held[2] >= self.settings.leak_warning_s
        wal_bytes = self.writer.wal_pages * self.page_size
        pin = self.pins.look() if not self.memory else None
        checks = (
            Check("files", problem is None, str(problem or "the files are those that were opened")),
            Check("read", read_error is None, str(read_error or "a read was answered")),
            Check("writer", self.writer.is_alive, f"the writer is {self.writer.phase.value}"),
            Check("integrity", self._corruption is None, self._corruption or "no damage was met since it was opened"),
            Check(
                "engine",
                self._conflict_seen is None,
                f"sqlite3 has opened the file in this process: {self._conflict_seen}"
                if self._conflict_seen is not None
                else "no other SQLite library was seen to open the file in this process",
            ),
            Check("write queue", oldest < 1.0, f"{len(self.writer)} writes wait, the oldest for {oldest:.2f} s"),
            Check(
                "readers",
                not forgotten,
                f"the {held[0]} opened at {held[1]} is unused for {held[2]:.0f} s and keeps the log from shrinking"
                if forgotten and held is not None
                else "no reader is held without use",
            ),
            log_check(wal_bytes, self.settings.wal_limit_bytes, pin),
        )
        failing = any(not check.ok for check in checks[:4])
        degraded = any(not check.ok for check in checks)
        return Health("failing" if failing else "degraded" if degraded else "ok", checks)

    def _version(self) -> int:
        return (self.inline.connection if self.inline is not None else self.writer_connection).cookie

    def _warn(self, text: str) -> None:
        """Warn of the caller's line, also where its statement runs in another thread."""
        frame: FrameType | None = sys._getframe(1)
        found = outside(frame)
        while found is None and frame is not None:
            # Who waits for what this thread runs: kept nowhere else, since it is asked for once in a program's life.
            call = frame.f_locals.get("operation") or frame.f_locals.get("call")
            if isinstance(call, Operation):
                call = call.grant.current
            if isinstance(call, (ReadCall, WriteCall)):
                found = self.port.caller_frame(call.caller)
            frame = frame.f_back
        warn_at(found, text, UserWarning)

    def _files(self) -> FileFacts:
        return gather(self.location.path)

    def _conflict(self, place: str) -> None:
        self._conflict_seen = place
        self.emit(lambda: events.EngineConflictSeen(monotonic(), place))


_ATTACHES = re.compile(r"attach\b", re.IGNORECASE)
"""Whatever is wrong then, it is another file."""

_INSTEAD = {
    "db": "Use `async with db.transaction() as tx:` for several statements, or `await db.write(fn)`.",
    "tx": "Use `async with tx.savepoint():` inside a transaction; its end is the block's end.",
    "execute_script": "Leave it out: the script is one transaction already.",
}
