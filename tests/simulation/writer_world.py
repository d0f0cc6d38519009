"""A made-up writer around the real queue: callers, cancels, poison, lost transactions, kill -9, a disk that is a set.

After each step the world checks what `WriteQueue` promises. Everything comes from one seed, the probabilities too
(swarm testing: Groce et al. 2012), so that each life has its own habits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from millpond.scheduling.fair_queue import HEAD_START_S
from millpond.scheduling.write_queue import Mode, State, WriteJob, WriteQueue


class Broken(AssertionError):
    """A promise was not kept."""


def gives_way(job: Job) -> bool:
    """A lease of its own lets the others' batch go first."""
    return job.own


def must(holds: bool, promise: str) -> None:
    if not holds:
        raise Broken(promise)


class Job(WriteJob):
    """A job with a fate: poison fails by itself, deadly ends the transaction, slow outlives its deadline."""

    def __init__(self, name: int, **how: Any) -> None:
        for key, value in how.items():
            setattr(self, key, value)
        self.name = name
        self.poison = False
        self.deadly = False
        self.answers: list[str] = []
        self.came = 0.0
        self.own = self.lease and not self.shares
        self.runs = 0
        self.skipped_by: dict[Any, int] = {}


@dataclass
class Habits:
    """Probabilities of one life."""

    submit: float
    cancel: float
    poison: float
    deadly: float
    lease: float
    shares: float
    alone: float
    outside: float
    reads: float
    normal: float
    commit_fails: float
    crash: float
    short_deadline: float
    burst: int
    callers: int
    pause_s: float

    @classmethod
    def of(cls, random: Random) -> Habits:
        def share(most: float) -> float:
            return random.choice((0.0, random.random() * most))

        return cls(
            submit=0.3 + random.random() * 0.6,
            cancel=share(0.2),
            poison=share(0.3),
            deadly=share(0.1),
            lease=share(0.5),
            shares=random.random(),
            alone=share(0.2),
            outside=share(0.1),
            reads=share(0.2),
            normal=share(0.7),
            commit_fails=share(0.1),
            crash=share(0.01),
            short_deadline=share(0.3),
            burst=random.choice((1, 3, 30)),
            callers=random.choice((1, 3, 25)),
            pause_s=random.choice((0.002, 0.002, 1.0)),
        )


@dataclass
class World:
    """One life of a writer."""

    seed: int
    make_queue: Callable[[int, int, float], WriteQueue] = WriteQueue
    random: Random = field(init=False)
    now: float = 0.0
    disk: set[int] = field(default_factory=set)
    jobs: list[Job] = field(default_factory=list)
    waiting: list[Job] = field(default_factory=list)
    steps: int = 0
    paid: set[tuple[Any, int]] = field(default_factory=set)
    refused: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.habits = Habits.of(self.random)
        self.limit = self.random.choice((3, 20, 200))
        self.batch_jobs = self.random.choice((1, 4, 64))
        self.budget_s = self.random.choice((0.001, 0.004, 1.0))
        self.queue = self.make_queue(self.limit, self.batch_jobs, self.budget_s)

    def live(self, steps: int) -> None:
        """Live for some steps, then let everything come to its end."""
        for _ in range(steps):
            self.step()
        for _ in range(10 * self.limit + 100):
            if not self.waiting:
                break
            self.run_batch()
            self.now += 0.001
        must(not self.waiting, f"all is answered in the end: {self.queue!r}, {len(self.waiting)} wait")
        must(len(self.queue) == 0, "an idle queue is empty")
        self.settle_accounts()

    def step(self) -> None:
        self.steps += 1
        habits, random = self.habits, self.random
        if random.random() < habits.submit:
            for _ in range(random.randint(1, habits.burst)):
                self.submit()
        elif random.random() < habits.cancel and self.waiting:
            self.cancel(random.choice(self.waiting))
        else:
            self.run_batch()
        if random.random() < habits.crash:
            self.crash()
        self.now += random.random() * habits.pause_s
        must(len(self.queue) <= self.limit, "at most `limit` jobs wait")
        must(len(self.queue) == len(self.waiting), "the queue holds what waits, and nothing else")

    def submit(self) -> None:
        random, habits = self.random, self.habits
        lease = random.random() < habits.lease
        reads = not lease and random.random() < habits.reads
        outside = not lease and not reads and random.random() < habits.outside
        job = Job(
            len(self.jobs),
            caller=random.randrange(habits.callers),
            priority=random.choice((0, 1, 1, 1, 2, 3)),
            deadline=self.now + (random.random() * 0.005 if random.random() < habits.short_deadline else 100.0),
            cost_s=random.choice((0.00002, 0.0005, 0.01)),
            full=not reads and random.random() >= habits.normal,
            lease=lease,
            shares=not lease or random.random() < habits.shares,
            alone=not lease and not reads and not outside and random.random() < habits.alone,
            outside=outside,
            reads=reads,
        )
        job.poison = random.random() < habits.poison
        job.deadly = not job.reads and not job.outside and random.random() < habits.deadly
        refused = self.queue.submit(job, self.now)
        if refused is not None:
            must(len(self.waiting) >= self.limit, "only a full queue refuses")
            self.refused += 1
            return
        must(len(self.waiting) < self.limit, "a full queue refuses")
        job.came = self.now
        self.jobs.append(job)
        self.waiting.append(job)

    def cancel(self, job: Job) -> None:
        must(self.queue.cancel(job), "what waits can be cancelled")
        must(not self.queue.cancel(job), "what is cancelled cannot be cancelled again")
        self.waiting.remove(job)
        self.answer(job, "cancelled")

    def run_batch(self) -> None:
        inside = not self.queue.next_is_outside
        full = self.queue.wants_full
        must(full or not any(job.full for job in self.waiting), "a waiting wish for a sync is known")
        before = list(self.waiting)
        batch = self.queue.cut(self.now, full=full, inside=inside)
        jobs: list[Job] = [job for job in batch.jobs if isinstance(job, Job)]
        for job in batch.expired:
            assert isinstance(job, Job)
            must(job.deadline is not None and job.deadline <= self.now, "only what is late expires")
            self.waiting.remove(job)
            self.answer(job, "expired")
        self.check_batch(batch.mode, jobs, full, inside)
        self.check_order(before, jobs)
        for job in jobs:
            self.waiting.remove(job)
            job.runs += 1
        if batch.mode in (Mode.OUTSIDE, Mode.READS):
            for job in jobs:
                self.finish(job, failed=job.poison)
            return
        self.run_transaction(jobs)

    def run_transaction(self, jobs: list[Job]) -> None:
        done: list[Job] = []
        for i, job in enumerate(jobs):
            self.now += job.cost_s
            if job.deadly:
                self.finish(job, failed=True)
                self.lose([*done, *jobs[i + 1 :]])
                return
            if job.poison:
                self.finish(job, failed=True)
            else:
                done.append(job)
        if done and self.random.random() < self.habits.commit_fails:
            if len(done) == 1:
                self.finish(done[0], failed=True)
            else:
                self.lose(done)
            return
        self.disk.update(job.name for job in done)
        for job in done:
            self.finish(job, failed=False)

    def lose(self, survivors: list[Job]) -> None:
        self.queue.lost(list(survivors))
        for job in survivors:
            must(job.state is State.ALONE, "a survivor runs again alone")
        self.waiting.extend(survivors)

    def finish(self, job: Job, *, failed: bool) -> None:
        self.queue.finished([job])
        if not failed:
            self.disk.add(job.name)
        self.answer(job, "failed" if failed else "acknowledged")

    def answer(self, job: Job, answer: str) -> None:
        job.answers.append(answer)
        if answer in ("cancelled", "expired"):
            self.paid.add((job.caller, job.priority))  # its caller's turn was taken all the same
        must(len(job.answers) == 1, "each job is answered once")
        must(job.state is State.DONE, "what is answered is done")

    def crash(self) -> None:
        """kill -9: what waits is gone, without an answer; what was acknowledged is on the disk."""
        self.settle_accounts()
        self.queue = self.make_queue(self.limit, self.batch_jobs, self.budget_s)
        for job in self.waiting:
            job.answers.append("killed")
        self.waiting.clear()

    def check_batch(self, mode: Mode, jobs: list[Job], full: bool, inside: bool) -> None:
        must(len(jobs) <= self.batch_jobs or len(jobs) == 1, "a batch has at most `batch_jobs` jobs")
        must(
            len(jobs) <= 1 or sum(job.cost_s for job in jobs) <= self.budget_s + 1e-12,
            "a batch of several keeps to its budget",
        )
        must(full or not any(job.full for job in jobs), "what wants a sync gets one")
        must(
            inside == (mode in (Mode.TOGETHER, Mode.ALONE)) or not jobs, "only what wants no transaction is without one"
        )
        for job in jobs:
            must(job.deadline is None or job.deadline > self.now, "what is late does not run")
            must(not job.answers, "what was answered does not run")
            alone = job.alone or job.outside or job.runs > 0 or job.own
            must(not alone or len(jobs) == 1, "what must be alone is alone")
            must(job.reads == (mode is Mode.READS), "reads run among reads")
            must(job.runs <= 1 or mode is Mode.ALONE, "what runs again runs alone")

    def check_order(self, before: list[Job], jobs: list[Job]) -> None:
        """Order within a caller, turns between callers, no starvation between priorities."""
        chosen = set(map(id, jobs))
        fresh = [job for job in before if not job.runs]
        left = [job for job in fresh if id(job) not in chosen and not job.answers and not gives_way(job)]
        for job in jobs:
            if job.runs or gives_way(job):
                continue  # it has had its turn, or has let one batch pass
            for other in left:
                if other.priority == job.priority:
                    self.check_turns(job, other, fresh)
                elif other.priority > job.priority and not any(
                    o.priority == other.priority and o is not other for o in fresh
                ):
                    head_start = HEAD_START_S[other.priority] - HEAD_START_S[job.priority]
                    must(
                        job.came <= other.came + head_start,
                        "a lower priority is passed only by what came within its head start",
                    )

    def check_turns(self, job: Job, other: Job, fresh: list[Job]) -> None:
        if other.caller == job.caller:
            must(other.name > job.name, "jobs of one caller run in their order")
            return
        is_head = not any(
            o.caller == other.caller and o.priority == other.priority and o.name < other.name for o in fresh
        )
        if is_head and (other.caller, other.priority) not in self.paid:
            served = other.skipped_by.get(job.caller, 0) + 1
            other.skipped_by[job.caller] = served
            must(served <= 2, "while a caller's next job waits, each other caller is served twice at most")

    def settle_accounts(self) -> None:
        for job in self.jobs:
            if job.answers == ["acknowledged"]:
                must(job.name in self.disk, "what was acknowledged is on the disk")
            elif job.answers and job.answers != ["killed"]:
                must(job.name not in self.disk, "what was not acknowledged is not on the disk")
