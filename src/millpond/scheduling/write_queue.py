"""Order waiting writes and cut them into batches."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from millpond.scheduling.fair_queue import FairQueue

__all__ = ["Batch", "Mode", "Refused", "State", "WriteJob", "WriteQueue"]


class State(enum.Enum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    ALONE = "alone"
    DONE = "done"


_WAITING, _RUNNING, _ALONE, _DONE = State
"""A member of an enum costs 100 ns on Python 3.11, a global 10."""


class Mode(enum.Enum):
    """How a batch is run."""

    TOGETHER = "together"
    """One transaction, each job harmless to the others."""
    ALONE = "alone"
    """One job, one transaction."""
    OUTSIDE = "outside"
    """One job, no transaction around it."""
    READS = "reads"
    """Only reads, no transaction around them (a database with one connection)."""


class WriteJob:
    """What the queue knows of a job. The shell adds what it takes to run it.

    cost_s: predicted seconds in the writer, as they usually are; least_s: as they are at best, which no busy
    machine makes look long. full: wants to survive a power cut.
    lease: an interactive transaction; shares: one that is known to await nothing but the database.
    alone, outside, reads: see Mode. deadline: seconds on the shell's clock, None for never.

    Defaults stand in the class: one is made per write, and most keep most of them.
    """

    caller: Hashable = None
    priority: int = 1
    deadline: float | None = None
    cost_s: float = 0.00005
    least_s: float = 0.0
    full: bool = True
    lease: bool = False
    shares: bool = True
    alone: bool = False
    outside: bool = False
    reads: bool = False
    state: State = _WAITING
    submitted: float = 0.0
    queued: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The queue is full."""

    waiting: int
    limit: int
    oldest_s: float


@dataclass(slots=True)
class Batch:
    """Jobs to run, in this order, and those whose deadline passed before they ran."""

    mode: Mode
    jobs: list[WriteJob] = field(default_factory=list)
    expired: list[WriteJob] = field(default_factory=list)


LONG_SHARE = 4
"""A job is long that takes such a part of a batch's budget (4: a quarter): what a commit costs, more or less."""
LATER = 3
"""A long job lets so many rounds of shorter ones go first, at most: some commits, which it will hardly notice."""


@dataclass(slots=True, repr=False)
class WriteQueue:
    """Waiting writes, in fair order, and the batches cut from them.

        submit --> WAITING --cut--> RUNNING --finished--> DONE
                      |                `--lost--> ALONE --cut (by itself)--> RUNNING
                      `--cancel, deadline--> DONE            `--cancel--> DONE

    Promises, each an invariant of the simulation:
    - at most `limit` jobs wait; one more is refused, and nothing is changed by that;
    - a job is cut once, or once more alone after each loss; never after its deadline or a cancel;
    - a batch has at most `batch_jobs` jobs and is predicted to take `budget_s` at most, unless it is one job;
      short jobs and long ones (a LONG_SHARE of `budget_s` or more) are in no batch together;
    - a job that wants a sync is never in a batch without one;
    - jobs of one caller and priority run in the order in which they came, whatever they cost;
    - a caller's next job that is short is passed by nothing of its priority that comes later;
    - one that is long is passed by what comes within LATER rounds: a round is what waits when it begins;
    - while a caller's next job waits, each other caller of its priority is served twice at most, and once more for
      each round that it lets pass (a job that is cancelled has had its turn); a lower priority is passed only by
      what came within its head start; a lease of its own lets one batch of others go first.
    Times are seconds on the shell's monotonic clock.
    """

    limit: int
    batch_jobs: int
    budget_s: float
    _queue: FairQueue[WriteJob] = field(default_factory=FairQueue)
    _again: deque[WriteJob] = field(default_factory=deque)
    _due: WriteJob | None = None
    _full: int = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._again) + (self._due is not None)

    def __repr__(self) -> str:
        due = ", a lease is due" if self._due is not None else ""
        return f"<WriteQueue: {len(self._queue)} waiting, {len(self._again)} to run again alone{due}>"

    @property
    def wants_full(self) -> bool:
        """Does any waiting job want its commit synced?"""
        return self._full > 0

    @property
    def next_is_outside(self) -> bool:
        """Must the next batch not be inside a transaction?"""
        if self._again or self._due is not None:
            head: WriteJob | None = self._again[0] if self._again else self._due
        else:
            head = self._queue.peek()
        return head is not None and (head.outside or head.reads)

    def oldest_s(self, now: float) -> float:
        """How long the job that waits longest has waited."""
        times = [job.submitted for job in self._queue]
        times += [job.submitted for job in self._again]
        if self._due is not None:
            times.append(self._due.submitted)
        return now - min(times) if times else 0.0

    def submit(self, job: WriteJob, now: float) -> Refused | None:
        """Take a job in, or say that the queue is full."""
        if self._queue.size + len(self._again) + (self._due is not None) >= self.limit:
            return Refused(len(self), self.limit, self.oldest_s(now))
        job.submitted = now
        job.state = _WAITING
        self._full += job.full
        long_s = self.budget_s / LONG_SHARE
        self._queue.push(job, 0 if job.least_s < long_s else min(LATER, int(job.least_s / long_s)))
        return None

    def cancel(self, job: WriteJob) -> bool:
        """Take a waiting job out. False: it runs already or has run."""
        if job is self._due:
            self._due = None
        elif job.state is _ALONE and job in self._again:
            self._again.remove(job)
        elif not self._queue.remove(job):
            return False
        self._leave(job)
        return True

    def cut(self, now: float, *, full: bool = True, inside: bool = True) -> Batch:
        """The next batch, empty where the head of the queue does not fit.

        full: the transaction that it goes into is synced at its commit.
        inside: there is a transaction; without one only jobs that want none are cut.
        """
        batch = Batch(Mode.TOGETHER)
        if inside:
            self._cut_again(batch, now, full)
            if not batch.jobs:
                self._cut_due(batch, now, full)
            if batch.jobs:
                return batch
        cost = 0.0
        is_long = False
        long_s = self.budget_s / LONG_SHARE
        while (job := self._queue.peek()) is not None:
            if job.deadline is not None and job.deadline <= now:
                self._expire(batch, job)
                continue
            if (job.full and not full) or (job.outside or job.reads) is inside:
                break
            if job.lease and not job.shares and (batch.jobs or len(self._queue) > 1):
                if self._due is not None:
                    break
                self._queue.pop()
                self._due = job
                continue
            if job.alone or job.outside or (job.lease and not job.shares):
                if not batch.jobs:
                    self._take(batch, job, Mode.OUTSIDE if job.outside else Mode.ALONE)
                break
            least_s = job.least_s
            cost_s = job.cost_s if job.cost_s > least_s else least_s
            if batch.jobs and (
                job.reads is not (batch.mode is Mode.READS)
                or (least_s >= long_s) is not is_long
                or len(batch.jobs) >= self.batch_jobs
                or cost + cost_s > self.budget_s
            ):
                break
            self._take(batch, job, Mode.READS if job.reads else Mode.TOGETHER)
            cost += cost_s
            is_long = least_s >= long_s
        if not batch.jobs and inside:
            self._cut_due(batch, now, full)
        return batch

    def finished(self, jobs: Sequence[WriteJob]) -> None:
        """These are decided: committed, or failed by their own fault."""
        for job in jobs:
            job.state = _DONE

    def lost(self, survivors: list[WriteJob]) -> None:
        """The transaction of these innocent jobs is gone: each runs again, by itself, before anyone else."""
        for job in survivors:
            job.state = _ALONE
            self._full += job.full
        self._again.extendleft(reversed(survivors))

    def drain(self) -> list[WriteJob]:
        """Take everything out, in no order: the writer is closing."""
        jobs = list(self._queue) + list(self._again)
        if self._due is not None:
            jobs.append(self._due)
        for job in jobs:
            job.queued = False
            self._leave(job)
        self._queue = FairQueue()
        self._again.clear()
        self._due = None
        return jobs

    def _cut_again(self, batch: Batch, now: float, full: bool) -> None:
        while self._again:
            job = self._again[0]
            if job.deadline is not None and job.deadline <= now:
                self._again.popleft()
                self._leave(job)
                batch.expired.append(job)
                continue
            if job.full and not full:
                return
            self._again.popleft()
            self._run(batch, job, Mode.ALONE)
            return

    def _cut_due(self, batch: Batch, now: float, full: bool) -> None:
        job = self._due
        if job is None or (job.full and not full):
            return
        self._due = None
        if job.deadline is not None and job.deadline <= now:
            self._leave(job)
            batch.expired.append(job)
        else:
            self._run(batch, job, Mode.ALONE)

    def _take(self, batch: Batch, job: WriteJob, mode: Mode) -> None:
        self._queue.pop()
        self._run(batch, job, mode)

    def _run(self, batch: Batch, job: WriteJob, mode: Mode) -> None:
        self._full -= job.full
        job.state = _RUNNING
        batch.mode = mode
        batch.jobs.append(job)

    def _expire(self, batch: Batch, job: WriteJob) -> None:
        self._queue.pop()
        self._leave(job)
        batch.expired.append(job)

    def _leave(self, job: WriteJob) -> None:
        self._full -= job.full
        job.state = _DONE
