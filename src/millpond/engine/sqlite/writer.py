"""The one gate that all writes of a process pass: one connection, one thread, one transaction per batch."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from threading import get_ident
from time import monotonic
from typing import Any

import apsw

from millpond import errors, events
from millpond.engine.sqlite.bell import Bell
from millpond.engine.sqlite.calls import WriteCall
from millpond.engine.sqlite.commits import Commits
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.gate import LONG_WAIT_S, Gate
from millpond.engine.sqlite.grant import Grant, Lease, LeaseState
from millpond.engine.sqlite.job_errors import lost_with
from millpond.engine.sqlite.jobs import Jobs
from millpond.engine.sqlite.lease_watch import LeaseWatch
from millpond.engine.sqlite.log_sync import LogSync
from millpond.engine.sqlite.outside import run_outside
from millpond.engine.sqlite.step_guard import StepGuard
from millpond.engine.sqlite.turn_batch import TurnBatch
from millpond.engine.sqlite.writer_host import Phase, WriterHost
from millpond.ports import Reply
from millpond.scheduling.company import Company
from millpond.scheduling.stalls import Stalls
from millpond.scheduling.write_queue import Batch, Mode, Refused, State, WriteJob, WriteQueue

__all__ = ["Writer"]

log = logging.getLogger("millpond.writer")

AWAKE_S = 0.05
"""Idle for so long, the thread sleeps, and the loop does not take the connection: nobody would look after it."""


class Writer:
    """Takes batches from the queue and commits each once; acknowledges nothing before its COMMIT.

    Callers come by `submit` and `cancel` from their own threads; a lock guards the queue. The thread
    alone decides what runs. `phase` and `since` say what it is at; `grant` who has the connection; `commits`
    whether what was committed is synced.
    """

    def __init__(self, host: WriterHost) -> None:
        settings = host.settings
        self._host = host
        self._port = host.port
        self._lock = threading.Lock()
        self._bell = Bell()
        self._queue = WriteQueue(settings.max_queue, settings.batch_jobs, settings.batch_budget_ms / 1000)
        self._gate = Gate(settings.busy_slice_ms, host.lock_watch)
        self._grant_of = partial(
            Grant, port=self._port, bell=self._bell, claims=threading.Lock(), translate=host.translate,
            tell=host.finished_inside if host.observed else None,
        )  # fmt: skip
        self._watch = LeaseWatch(host, self._bell, self._queue.__len__, lambda: (self._closing, self._out_of_time()))
        self._kicked = self._closing = self._parked = False
        self._company = Company()
        self._wanted = 0
        self._awake = True
        self._turn_batch: TurnBatch | None = None
        self._guard = StepGuard()
        self._at_once = self._port.has_turns and settings.inline == "auto" and not host.memory
        self._give_up_at: float | None = None
        self.commits = Commits(host, self._lock)
        self._log_sync: LogSync | None = None
        self._stalls = Stalls()
        self._jobs = Jobs(host, self._lock)
        self._in_hand: list[WriteCall] = []
        self._thread = threading.Thread(target=self._main, name="millpond-writer", daemon=True)
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self.connection: Connection | None = None
        self.grant: Grant | None = None
        self.phase = Phase.IDLE
        self.since = monotonic()
        self.writes = self.batches = self.reruns = self.leases = self.replaced = self.crashes = 0
        self.gate_s = self.work_s = self.commit_s = 0.0
        self.last_error: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Writer: {self.phase.value}, {self._queue!r}>"

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def thread_id(self) -> int | None:
        return self._thread.ident

    @property
    def expired(self) -> int:
        """Leases that were taken back."""
        return self._watch.expired

    @property
    def wal_pages(self) -> int:
        return self.commits.wal_pages

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        """Open the connection in the thread that will use it.

        Raises: what opening raised.
        """
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    def sync_behind(self) -> None:
        """From now on the loop commits what it did by itself, and the log is synced behind its back, if it can be."""
        connection = self.connection
        if self._at_once and connection is not None and LogSync.serves(connection):
            with suppress(OSError):
                self._log_sync = LogSync(connection.db.filename_wal, self._host, self.commits)

    def sync_in_commits(self) -> None:
        """In the thread: from now on each commit is synced by SQLite, as it must be where there are other files."""
        log_sync, self._log_sync = self._log_sync, None
        if log_sync is not None:
            log_sync.close()

    def submit(self, call: WriteCall, *, kick: bool = True) -> Refused | None:
        """Queue a job. kick: wake the thread at the turn's end; else `ring`. Raises: DatabaseClosed while closing."""
        with self._lock:
            if self._closing:
                raise errors.DatabaseClosed("the database is closing and takes no more writes", applied="no")
            refused = self._queue.submit(call, monotonic())
            self._parked = False
            if self._turn_batch is not None:
                self._turn_batch.room = 0  # nobody overtakes what waits
            if len(self._queue) < self._wanted:
                return refused
        if kick and refused is None and not self._kicked:
            self._kicked = True
            self._port.soon(self._kick)
        return refused

    def at_once(self, call: WriteCall) -> bool:
        """On the loop: run a job that is proven cheap here and now, or begin a lease. False: submit it.

        Its answer comes with the commit, at the turn's end; that of a job that failed comes at once.
        """
        if not self._at_once:
            return False
        batch = self._turn_batch
        now = monotonic()
        if batch is None:
            batch = self._open_batch(call.full, now)
            if batch is None:
                return False
        elif not batch.takes(call, now):
            return False
        call.submitted = now
        if isinstance(call, Lease):
            return batch.begin(call)
        grant, connection = batch.grant, self.connection
        assert connection is not None
        if not grant.lock.acquire(blocking=False):
            return False  # the thread runs a lease's statement: the loop waits for nobody
        try:
            if not grant.open or grant.current is not None:
                return False
            batch.room -= 1
            call.state = State.RUNNING
            guard = self._guard
            guard.call = None if batch.leases else call
            ran = self._jobs.run(call, connection, True, here=True, guarded=batch.leases > 0)
            guard.call = None
            if guard.struck:
                grant.fail(guard.stopped(call, connection))
            if ran or guard.struck:
                batch.done.append(call)
                return True
            call.state = State.DONE
            assert call.error is not None
            if not connection.db.in_transaction:
                grant.fail(call.error)
        finally:
            grant.lock.release()
        self._port.settle([(call, None, call.error)])
        return True

    def cancel(self, call: WriteCall) -> bool:
        """Its caller gave up. True: it had not run and will not. False: ask again when it is answered."""
        with self._lock:
            if self._queue.cancel(call):
                return True
            grant = self.grant
            if isinstance(call, Lease) and call.standing is LeaseState.WAITING and grant is not None:
                return grant.withdraw(call)
            if call.state is State.RUNNING and not call.committing:
                call.stop = True
                self._jobs.stop(call, self.connection, neighbours=False)
        return False

    def interrupt(self, call: WriteCall) -> None:
        """It has outlived its deadline by far: stop it, though its neighbours must run again."""
        with self._lock:
            if call.state is State.RUNNING and not call.committing:
                self._jobs.stop(call, self.connection, neighbours=True)

    def oldest_s(self, now: float) -> float:
        with self._lock:
            return self._queue.oldest_s(now)

    def forked(self) -> None:
        """In a child process: what other processes would see of this one is the parent's."""
        for ours in (self._log_sync, self._gate.turnstile):
            if ours is not None:
                ours.forked()

    def ring(self) -> None:
        """Have the thread look around."""
        self._bell.ring()

    def close(self, grace_s: float) -> None:
        """Stop admitting; the thread finishes what is queued within the grace, fails the rest, and ends."""
        with self._lock:
            self._closing = True
            self._give_up_at = monotonic() + grace_s
        self._bell.ring()

    def join(self, timeout_s: float | None) -> bool:
        """Wait for the thread's end. False when the time is up."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _kick(self) -> None:
        self._kicked = False
        self._bell.ring()

    def _open_batch(self, full: bool, now: float) -> TurnBatch | None:
        """On the loop: take the connection for the rest of the turn, if the thread has nothing to do."""
        if self._log_sync is not None and self._log_sync.failure is not None:
            return None
        with self._lock:
            connection = self.connection
            if not (self._parked and self._awake) or self._closing or connection is None:
                return None
            grant = self._grant_of(connection, [], together=True, is_open=True)
            queue = self._queue
            mixes = self._log_sync is not None
            batch = TurnBatch(grant, full=full, mixes=mixes, begun=now, room=queue.batch_jobs, budget_s=queue.budget_s)
            grant.lock.acquire()  # the thread may be tired of waiting before there is a transaction to take back
            self._parked = False
            self._turn_batch = batch
        begun = False
        try:
            if self._host.verify_files() is None:
                self.commits.sync(connection, full and not mixes)
                begun = self._gate.slip_in(connection)
            if begun:
                self._guard.begin(connection)
                self.commits.begun(connection)
                self._jobs.alone = None
                self.grant = grant
                self._phase(Phase.LEASE)
        except apsw.Error:
            self.commits.unsure()  # whatever it is, the thread will meet it too, and has the time for it
        finally:
            grant.lock.release()
        if not begun:
            grant.shut()
            return None
        self._port.soon(grant.shut if self._log_sync is None else lambda: self._turn_is_over(batch))
        return batch

    def _turn_is_over(self, batch: TurnBatch) -> None:
        """On the loop: commit what it did, unless a lease goes on or the disk has stalled; the thread does then."""
        grant, connection = batch.grant, self.connection
        assert connection is not None
        with self._lock:
            ends = (
                not (grant.lost or grant.over or grant.busy or grant.current is not None or self._closing)
                and not self._stalls.keep_off(monotonic())
                and batch.claim(get_ident())
            )
        if not ends:
            grant.shut()
            return
        grant.open, grant.over = False, True
        try:
            self._commit_here(batch, connection, [*batch.done, *grant.ended])
        except BaseException as exc:
            self._crashed(exc)
            self._turn_batch = None
        if not self._parked:
            self._bell.ring()

    def _commit_here(self, batch: TurnBatch, connection: Connection, done: list[WriteCall]) -> None:
        self._in_hand = done
        self._guard.end(connection)
        self.grant = None
        worked = monotonic()
        error = self._commit(done)
        if error is not None:
            with self._lock:
                batch.hand_over(error)
            return
        now = monotonic()
        self._stalls.took(now, now - worked)
        self.leases += batch.leases
        self._concluded(done, done, batch.full, batch.begun, batch.begun, worked)
        log_sync = self._log_sync if batch.full and self.commits.wrote else None
        if log_sync is not None:
            log_sync.add([(call, call.result, None) for call in done if call.full])
            done = [call for call in done if not call.full]
        self._port.settle([(call, call.result, None) for call in done])

    def _main(self) -> None:
        try:
            self._connect()
            self._gate.turnstile = self._host.open_turnstile()
        except BaseException as exc:
            self._failure = exc
            self._phase(Phase.CLOSED)
            return
        finally:
            self._ready.set()
        while True:
            if self._host.log_is_due:
                self._tidy()
            with self._lock:
                empty = not len(self._queue)
                closing = self._closing
                lent = self._turn_batch
                theirs = lent is not None and not lent.claim(get_ident())
                self._parked = empty and not closing and lent is None
            if theirs:
                self._bell.wait(AWAKE_S)
            elif lent is not None or (not empty and not self._out_of_time()):
                try:
                    if lent is not None:
                        self._finish(lent)
                    else:
                        self._turn()
                except BaseException as exc:
                    self._crashed(exc)
            elif closing:
                break
            else:
                self._rest()
        self._fail_all(errors.DatabaseClosed("the database was closed before this write ran", applied="no"))
        self.sync_in_commits()
        if self.connection is not None:
            self.connection.close()
        self._gate.close()
        self._phase(Phase.CLOSED)

    def _rest(self) -> None:
        """Nothing to do. For a moment it stays awake, so that a batch of the loop's is never without a watch."""
        self._phase(Phase.IDLE)
        batches = self.batches
        if self._bell.wait(AWAKE_S) or self.batches != batches:
            return
        with self._lock:
            self._awake = self._turn_batch is not None
        if not self._awake:
            self._bell.wait()
            self._awake = True

    def _tidy(self) -> None:
        """Between two batches, unless the loop has just taken the connection."""
        with self._lock:
            if self._turn_batch is not None:
                return
            self._parked = False
        assert self.connection is not None
        self._phase(Phase.TIDY)
        self._host.tidy_log(self.connection, self._gate)

    def _connect(self) -> None:
        self.connection = connection = self._host.open_writer()
        self._gate.prepare(connection)
        self.commits.adopt(connection)

    def _turn(self) -> None:
        """One batch."""
        problem = self._host.verify_files()
        if problem is not None:
            self._fail_all(problem)
            return
        log_sync = self._log_sync
        if log_sync is not None and log_sync.failure is not None and not self._mend_log(log_sync):
            return
        if not self._port.has_turns and self._company.missing(len(self._queue)):
            self._gather()
        with self._lock:
            outside = self._queue.next_is_outside
            full = self._queue.wants_full
        if outside:
            with self._lock:
                batch = self._queue.cut(monotonic(), inside=False)
            self._expire(batch)
            if batch.jobs:
                self._run_outside(batch)
            return
        assert self.connection is not None
        self.commits.sync(self.connection, full)
        started = monotonic()
        if not self._begin(started):
            return
        begun = monotonic()
        with self._lock:
            batch = self._queue.cut(begun, full=full)
        self._expire(batch)
        if not batch.jobs:
            self.connection.run("ROLLBACK")
            self._gate.leave()
            return
        self.gate_s += begun - started
        self._run_batch(batch, full, started, begun)

    def _gather(self) -> None:
        """Threads that were answered together come back one after another: wait for them, if that pays."""
        self._bell.wait(0)
        with self._lock:
            missing = 0 if self._closing else self._company.missing(len(self._queue))
            self._wanted = len(self._queue) + missing
        if missing:
            self._bell.wait(self._company.wait_s)
        self._wanted = 0

    def _begin(self, started: float) -> bool:
        """Wait for the write lock. False: nobody waits for it any more."""
        assert self.connection is not None
        self._phase(Phase.GATE)
        try:
            if not self._gate.enter(self.connection, self._is_wanted):
                return False
        except apsw.Error as exc:
            self._broken(exc)
            self._fail_all(self._host.translate(exc, None))
            return False
        waited = monotonic() - started
        if waited > LONG_WAIT_S:
            held_by = self._gate.held_by or errors.Holder()
            self._host.emit(lambda: events.LockWaited(monotonic(), waited, held_by.pid, held_by.program))
        return True

    def _is_wanted(self) -> bool:
        with self._lock:
            return len(self._queue) > 0 and not self._out_of_time()

    def _run_batch(self, batch: Batch, full: bool, started: float, begun: float) -> None:
        """Run the jobs, then the leases, then commit, then answer all at once."""
        self._phase(Phase.WORK)
        connection = self.connection
        assert connection is not None
        calls: list[WriteCall] = batch.jobs  # type: ignore[assignment]  # the shell queues WriteCalls only
        together = len(calls) > 1
        self._jobs.alone = None if together else calls[0]
        self._in_hand = calls
        self.commits.begun(connection)
        done: list[WriteCall] = []
        replies: list[Reply] = []
        plain = [call for call in calls if not isinstance(call, Lease)]
        leases = [call for call in calls if isinstance(call, Lease)]
        for i, call in enumerate(plain):
            if self._jobs.run(call, connection, together):
                done.append(call)
                continue
            replies.append((call, None, call.error))
            if not connection.db.in_transaction:
                self._lost(call.error, [*done, *plain[i + 1 :], *leases], replies)
                return
        if leases:
            grant = self._serve(leases, together)
            if grant.lost:
                replies += [(lease, None, lost_with(grant.cause, lease)) for lease in grant.ended]
                self._lost(grant.cause, [*done, *grant.waiting], replies)
                return
            done += grant.ended
        self._conclude(batch.jobs, done, replies, full, started, begun)

    def _conclude(
        self, jobs: Sequence[WriteJob], done: list[WriteCall], replies: list[Reply], full: bool, started: float,
        begun: float,
    ) -> None:  # fmt: skip
        """Commit what is done, then answer all at once. The loop may have the connection before they are answered."""
        worked = monotonic()
        error = self._commit(done)
        if error is not None:
            self._commit_failed(error, done, replies)
            return
        replies += [(call, call.result, None) for call in done]
        log_sync = self._log_sync if full and self.commits.wrote and self.commits.unsynced else None
        self._concluded(jobs, done, full, started, begun, worked)
        if log_sync is not None:
            log_sync.now(replies)
        else:
            self._port.settle(replies)

    def _commit(self, done: list[WriteCall]) -> BaseException | None:
        assert self.connection is not None
        self._phase(Phase.COMMIT)
        error = self.commits.commit(self.connection, done, self._out_of_time)
        self._gate.leave()
        return error

    def _concluded(
        self, jobs: Sequence[WriteJob], done: list[WriteCall], full: bool, started: float, begun: float, worked: float
    ) -> None:
        """It is committed: count it, and give the connection back."""
        committed = monotonic()
        self.work_s += worked - begun
        self.commit_s += committed - worked
        if done:
            self.batches += 1
            self.writes += len(done)
            self._company.committed(len(done), committed - worked)
            self._host.emit(
                lambda: events.BatchCommitted(
                    committed, len(done), full, begun - started, worked - begun, committed - worked
                )
            )
        self._jobs.tell_schema(self.connection)
        with self._lock:
            self._queue.finished(jobs)
            self._turn_batch = None
            self._parked = not (len(self._queue) or self._closing or self._host.log_is_due)

    def _finish(self, batch: TurnBatch) -> None:
        """What the loop did in its turn: wait for the end of it, commit, answer."""
        grant = batch.grant
        self._in_hand = batch.done
        try:
            self._watch.attend(grant, self._gate.leave)
            assert self.connection is not None
            self._guard.end(self.connection)
            self.grant = None
            self.leases += batch.leases
            done: list[WriteCall] = [*batch.done, *grant.ended]
            self._in_hand = done
            replies: list[Reply] = []
            if batch.error is not None:
                self._commit_failed(batch.error, done, replies)
            elif grant.lost:
                replies += [(lease, None, lost_with(grant.cause, lease)) for lease in grant.ended]
                self._lost(grant.cause, batch.done, replies)
            else:
                self._conclude(done, done, replies, batch.full, batch.begun, batch.begun)
        finally:
            with self._lock:
                if self._turn_batch is batch:
                    self._turn_batch = None

    def _serve(self, leases: list[Lease], together: bool) -> Grant:
        """Hand the connection over, and watch until it comes back."""
        assert self.connection is not None
        grant = self._grant_of(self.connection, leases, together=together)
        self.grant = grant
        self._phase(Phase.LEASE)
        grant.start()
        self._watch.attend(grant, self._gate.leave)
        self.grant = None
        self.leases += len(leases)
        self._phase(Phase.WORK)
        return grant

    def _commit_failed(self, error: BaseException, done: list[WriteCall], replies: list[Reply]) -> None:
        """Nothing of the batch is in the file. A single job is the culprit; of several, each runs again alone."""
        for call in done:
            call.committing = False
        if len(done) == 1:
            unsure = isinstance(error, apsw.IOError)
            self._broken(error)
            translated = self._host.translate(error, done[0].sql, applied="unknown" if unsure else "no")
            replies.append((done[0], None, translated))
            self._jobs.tell_schema(self.connection)
            with self._lock:
                self._queue.finished(list(done))
            self._port.settle(replies)
            return
        self._lost(error, done, replies)

    def _lost(self, cause: BaseException | None, survivors: list[Any], replies: list[Reply]) -> None:
        """The transaction is gone: the innocent run again, each by itself; leases that had ended cannot."""
        self._jobs.tell_schema(self.connection)
        self._gate.leave()
        self._broken(cause)
        again: list[WriteCall] = []
        for call in survivors:
            call.committing = False
            if isinstance(call, Lease) and call.standing is not LeaseState.WAITING:
                replies.append((call, None, lost_with(cause, call)))
            elif not call.settled or (isinstance(call, Lease) and call.woken):
                again.append(call)
        self.reruns += len(again)
        with self._lock:
            self._queue.lost(list(again))
        if again:
            name = type(cause).__name__
            self._host.emit(lambda: events.BatchLost(monotonic(), name, len(again)))
        self._port.settle(replies)

    def _run_outside(self, batch: Batch) -> None:
        """Jobs that want no transaction around them."""
        assert self.connection is not None
        self._phase(Phase.WORK)
        calls: list[WriteCall] = batch.jobs  # type: ignore[assignment]  # the shell queues WriteCalls only
        self._in_hand = calls
        replies = [run_outside(self._host, call, self.connection, self._jobs, self._out_of_time) for call in calls]
        with self._lock:
            self._queue.finished(batch.jobs)
        if batch.mode is Mode.OUTSIDE:
            self.commits.unsure()
            self._host.schema_changed()
        self._port.settle(replies)

    def _expire(self, batch: Batch) -> None:
        late = [call for call in batch.expired if isinstance(call, WriteCall)]
        if late:
            self._port.settle([(call, None, self._host.late(call, call.timeout_s, running=False)) for call in late])

    def _mend_log(self, log_sync: LogSync) -> bool:
        """After a sync that failed. False: that cannot be mended now, and whoever waits is told."""
        if not self._begin(monotonic()):
            return False
        assert self.connection is not None
        error = log_sync.mend(self.connection)
        self._gate.leave()
        if error is not None:
            self._fail_all(error)
        return error is None

    def _fail_all(self, error: BaseException) -> None:
        with self._lock:
            calls = self._queue.drain()
        replies: list[Reply] = [(call, None, copy.copy(error)) for call in calls if isinstance(call, WriteCall)]
        self._port.settle(replies)

    def _out_of_time(self) -> bool:
        return self._give_up_at is not None and monotonic() >= self._give_up_at

    def _broken(self, cause: BaseException | None) -> None:
        """After an error of the storage a new connection is the safest."""
        error = cause.__cause__ if isinstance(cause, errors.Error) and cause.__cause__ else cause
        if cause is not None:
            self.last_error = cause
        if not isinstance(error, (apsw.IOError, apsw.CorruptError, apsw.NotADBError, apsw.NoMemError)):
            return
        assert self.connection is not None
        if self._host.verify_files() is not None:
            return
        old = self.connection
        try:
            self._connect()
        except (apsw.Error, errors.Error) as exc:
            log.error("the writer could not reopen its connection: %s", exc)
            return
        self.replaced += 1
        old.close()

    def _crashed(self, exc: BaseException) -> None:
        """A fault of Millpond's own: nothing hangs, everyone waiting is told."""
        log.error("the writer failed", exc_info=exc)
        self.crashes += 1
        self.last_error = exc
        error = errors.InternalError(f"the writer failed: {type(exc).__name__}: {exc}", applied="unknown")
        grant, self.grant = self.grant, None
        calls = self._in_hand
        if grant is not None:
            grant.open, grant.over = False, True
            calls = [*calls, *grant.ended]
        self._fail_all(error)
        for call in calls:
            if isinstance(call, Lease):
                call.standing, call.cause = LeaseState.LOST, error
        self._port.settle([(call, None, error) for call in calls])
        self._in_hand = []
        if self.connection is not None and self.connection.db.in_transaction:
            self.connection.run("ROLLBACK")
        self._gate.leave()

    def _phase(self, phase: Phase) -> None:
        self.phase = phase
        self.since = monotonic()

    def schema_touched(self) -> None:
        """In the thread: a statement of this batch changes the schema."""
        self._jobs.schema_touched = True
