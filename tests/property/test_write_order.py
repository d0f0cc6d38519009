"""Laws of the order of writes: short before long, nobody starved, callers in turns and each in its own order.

A made-up writer under a made-up clock serves what arrives. What is checked is seen from outside: who came when, and
who was served when; a failure is shrunk to the fewest arrivals, and Hypothesis prints the blob that repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from millpond.scheduling.fair_queue import HEAD_START_S, FairQueue
from millpond.scheduling.write_queue import LATER, LONG_SHARE, Batch, Mode, WriteJob, WriteQueue

BUDGET_S = 0.004
LONG_S = BUDGET_S / LONG_SHARE
BATCH_JOBS = 6
COMMIT_S = 0.001
COSTS_S = (0.00002, 0.0005, LONG_S, 0.0025, 0.05)
NEW_CALLER = 9
"""Stands for a caller who has not been here before, as each request of a web service is."""

ARRIVAL = st.tuples(
    st.sampled_from([0, 1, 2, NEW_CALLER]),
    st.sampled_from(COSTS_S),
    st.sampled_from([1, 1, 1, 0, 2, 3]),
)
PAUSE = st.floats(0.0001, 1.5)
EVENTS = st.lists(st.one_of(ARRIVAL, st.just(None), PAUSE), max_size=60)
"""A job arrives; the writer runs a batch; time goes by."""


class Job(WriteJob):
    """caller: a number, of new ones below 0. came, began, served: numbers of events; it began to be its caller's
    next job then."""

    caller: int

    def __init__(self, caller: int, cost_s: float, priority: int, came: int) -> None:
        self.caller = caller
        self.cost_s = self.least_s = cost_s
        self.priority = priority
        self.came = self.began = came
        self.served = -1
        self.waiting: list[Job] = []

    def __repr__(self) -> str:
        return (
            f"<{self.cost_s * 1000:g} ms of {self.caller}, came {self.came}, next {self.began}, served {self.served}>"
        )

    @property
    def is_long(self) -> bool:
        return self.least_s >= LONG_S

    @property
    def later(self) -> int:
        """So many rounds does it let pass."""
        return min(LATER, int(self.least_s / LONG_S)) if self.is_long else 0


@dataclass
class Life:
    """What happened: all jobs, and those that were served, in this order. waiting: of each, beside whom it waited."""

    queue: WriteQueue
    now: float = 0.0
    jobs: list[Job] = field(default_factory=list)
    served: list[Job] = field(default_factory=list)
    batches: list[tuple[Job, ...]] = field(default_factory=list)
    events: int = 0

    def live(self, events: Sequence[Any]) -> Life:
        for event in events:
            match event:
                case None:
                    self.run()
                case float():
                    self.now += event
                case caller, cost_s, priority:
                    self.arrive(caller, cost_s, priority)
        while len(self.queue):
            self.run()
        return self

    def arrive(self, caller: int, cost_s: float, priority: int = 1) -> Job:
        self.events += 1
        job = Job(caller if caller != NEW_CALLER else -self.events, cost_s, priority, self.events)
        assert self.queue.submit(job, self.now) is None
        self.jobs.append(job)
        return job

    def run(self) -> None:
        waiting = [job for job in self.jobs if job.served < 0]
        batch = self.queue.cut(self.now)
        jobs: list[Job] = [job for job in batch.jobs if isinstance(job, Job)]
        assert bool(jobs) == bool(waiting), "what waits is served"
        for job in jobs:
            self.events += 1
            job.served = self.events
            job.waiting = [other for other in waiting if other.served < 0]
            for other in self.jobs:
                if other.served < 0 and (other.caller, other.priority) == (job.caller, job.priority):
                    other.began = max(other.began, self.events)
            self.now += job.cost_s
        self.served += jobs
        self.queue.finished(jobs)
        if jobs:
            self.batches.append(tuple(jobs))
            self.now += COMMIT_S


def lived(events: Sequence[Any], make: Callable[..., WriteQueue] = WriteQueue) -> Life:
    return Life(make(10_000, BATCH_JOBS, BUDGET_S)).live(events)


def passed(life: Life, job: Job) -> list[Job]:
    """Those of its priority that were served before a job though they came later than it was its caller's next."""
    return [
        one for one in life.served if job.began < one.came and one.served < job.served and one.priority == job.priority
    ]


def check_own_order(life: Life) -> None:
    for job in life.served:
        for other in life.served:
            if (job.caller, job.priority) == (other.caller, other.priority) and job.came < other.came:
                assert job.served < other.served, "a caller's jobs are served in their order, whatever they cost"


def check_short(life: Life) -> None:
    for job in life.served:
        if not job.is_long:
            assert not passed(life, job), "nothing that comes later goes before a short job"


def check_long(life: Life) -> None:
    """Of those that go before it though they came later, each generation came while the one before was served."""
    for job in life.served:
        generations, since = 0, job.began
        for one in passed(life, job):
            if one.came > since:
                generations += 1
                since = one.served
        assert generations <= job.later, "a long job lets some rounds pass, and then no more"


def check_turns(life: Life) -> None:
    for job in life.served:
        times: dict[Any, int] = {}
        for one in life.served:
            if job.began < one.served < job.served and one.priority == job.priority and one.caller != job.caller:
                times[one.caller] = times.get(one.caller, 0) + 1
        assert all(n <= 2 + job.later for n in times.values()), "callers take turns"


def check_priorities(life: Life) -> None:
    for job in life.served:
        for other in job.waiting:
            alone = sum(one.priority == other.priority for one in job.waiting) == 1
            if other.priority > job.priority and alone:
                head_start = HEAD_START_S[other.priority] - HEAD_START_S[job.priority]
                assert job.submitted <= other.submitted + head_start, "a priority's head start has an end"


def check_batches(life: Life) -> None:
    for batch in life.batches:
        assert len({job.is_long for job in batch}) == 1, "short and long ones are in no batch together"
        assert len(batch) == 1 or sum(job.cost_s for job in batch) <= BUDGET_S + 1e-9
        assert len(batch) <= BATCH_JOBS


def check_short_first(life: Life) -> None:
    """Two new callers, the short job right after the long one: if both wait, it goes first."""
    for job in life.served:
        for other in job.waiting:
            together = other.came == job.came + 1 and job.priority == other.priority
            both_new = job.caller < 0 and other.caller < 0
            assert not (together and both_new and job.is_long and not other.is_long), "what is short goes first"


LAWS = [
    check_own_order, check_short, check_short_first, check_long, check_turns, check_priorities, check_batches,
]  # fmt: skip


@given(EVENTS)
def test_the_order_of_writes_keeps_its_laws(events: list[Any]) -> None:
    life = lived(events)
    assert len(life.served) == len(life.jobs)
    for law in LAWS:
        law(life)


@given(st.lists(st.lists(st.sampled_from(COSTS_S[:2]), min_size=1, max_size=5), min_size=12, max_size=20), PAUSE)
def test_a_long_job_is_served_however_many_short_ones_come(crowds: list[list[float]], pause: float) -> None:
    """More come each time than a batch takes, each of a new caller."""
    life = Life(WriteQueue(10_000, 3, BUDGET_S))
    for cost_s in crowds[0]:
        life.arrive(NEW_CALLER, cost_s)
    long = life.arrive(0, COSTS_S[-1])
    ahead = len(life.jobs)
    for crowd in crowds[1:]:
        for cost_s in crowd:
            life.arrive(NEW_CALLER, cost_s)
        life.run()
        life.now += pause
    while long.served < 0:
        life.run()
    came_later = passed(life, long)
    most_waiting = max(sum(one.came <= job.served < one.served for one in life.jobs) for job in life.served)
    assert len(came_later) <= LATER * (most_waiting + ahead)
    check_long(life)


def test_a_caller_who_comes_again_is_not_passed_by_ever_new_ones() -> None:
    """The clock once stood still while new callers came: who had been here before waited for ever."""
    life = Life(WriteQueue(100, 1, BUDGET_S))
    for _ in range(3):
        life.arrive(0, COSTS_S[0])
        life.run()
    mine = life.arrive(0, COSTS_S[0])
    for _ in range(5):
        life.arrive(NEW_CALLER, COSTS_S[0])
        life.run()
    assert mine.served >= 0
    check_short(life)


class StandsStill(FairQueue[WriteJob]):
    """As it was: the clock is where the one that was served began."""

    def pop(self) -> WriteJob | None:
        member = super().pop()
        if member is not None:
            self._round[member.priority] -= 1
        return member


class StarvesReturning(WriteQueue):
    def __init__(self, *limits: Any) -> None:
        super().__init__(*limits)
        self._queue = StandsStill()


class NoneIsLong(WriteQueue):
    def submit(self, job: WriteJob, now: float) -> Any:
        cost_s, job.least_s = job.least_s, 0.0
        try:
            return super().submit(job, now)
        finally:
            job.least_s = cost_s


class LongWaitsForEver(WriteQueue):
    def submit(self, job: WriteJob, now: float) -> Any:
        refused = super().submit(job, now)
        if job.least_s >= LONG_S and self._queue.remove(job):
            self._queue.push(job, 50)
        return refused


class LongInCompany(WriteQueue):
    def cut(self, now: float, *, full: bool = True, inside: bool = True) -> Batch:
        batch = super().cut(now, full=full, inside=inside)
        following = self._queue.peek()
        if batch.mode is Mode.TOGETHER and len(batch.jobs) == 1 and following is not None:
            self._take(batch, following, Mode.TOGETHER)
        return batch


class ShortOvertakesItsOwn(WriteQueue):
    def submit(self, job: WriteJob, now: float) -> Any:
        if job.least_s < LONG_S:
            self._queue._last.clear()
        return super().submit(job, now)


FIRST_FOUND = settings(max_examples=5_000, database=None, phases=[Phase.generate])


@pytest.mark.parametrize(
    "planted", [StarvesReturning, NoneIsLong, LongWaitsForEver, LongInCompany, ShortOvertakesItsOwn]
)
def test_a_planted_bug_breaks_a_law(planted: Callable[..., WriteQueue]) -> None:
    def breaks(events: list[Any]) -> bool:
        life = lived(events, planted)
        try:
            for law in LAWS:
                law(life)
        except AssertionError:
            return True
        return False

    try:
        assert find(EVENTS, breaks, settings=FIRST_FOUND, random=Random(1))
    except NoSuchExample:
        pytest.fail(f"{planted.__name__} broke no law")
