"""The write queue in thousands of seeded lives; and the simulation itself, tried on planted bugs."""

from __future__ import annotations

import os
from collections.abc import Callable
from heapq import heapify
from random import Random

import pytest

from millpond.scheduling.write_queue import Batch, Mode, Refused, WriteJob, WriteQueue

from .writer_world import Broken, World

STEPS = 60


def live(lives: int, steps: int) -> None:
    """Many lives, each from its own seed; a broken promise names the seed."""
    first = int(os.environ.get("SIMULATION_SEED", Random().randrange(2**32)))
    refused = jobs = 0
    for seed in range(first, first + lives):
        world = World(seed)
        try:
            world.live(steps)
        except Broken as broken:
            pytest.fail(f"{broken}; replay with SIMULATION_SEED={seed}")
        refused += world.refused
        jobs += len(world.jobs)
    print(f"{lives} lives of {steps} steps from seed {first}: {jobs} jobs, {refused} refused")
    assert jobs > lives
    assert refused


def test_the_queue_keeps_its_promises_in_every_life() -> None:
    live(lives=2000, steps=15)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_queue_keeps_its_promises_in_many_long_lives() -> None:
    live(lives=12_000, steps=STEPS)


def test_seeds_that_once_failed_pass() -> None:
    """3217653833: a lease that was set aside did not count towards the limit."""
    for seed in (3217653833,):
        World(seed).live(STEPS)


class NoLimit(WriteQueue):
    def submit(self, job: WriteJob, now: float) -> Refused | None:
        self.limit += 1
        return super().submit(job, now)


class LateRuns(WriteQueue):
    def cut(self, now: float, *, full: bool = True, inside: bool = True) -> Batch:
        return super().cut(now - 1.0, full=full, inside=inside)


class ForgetsSync(WriteQueue):
    @property
    def wants_full(self) -> bool:
        return False


class IgnoresFull(WriteQueue):
    def cut(self, now: float, *, full: bool = True, inside: bool = True) -> Batch:
        return super().cut(now, full=True, inside=inside)

    @property
    def wants_full(self) -> bool:
        return False


class NoBudget(WriteQueue):
    def cut(self, now: float, *, full: bool = True, inside: bool = True) -> Batch:
        self.budget_s = 1e9
        return super().cut(now, full=full, inside=inside)


class NoBatchLimit(WriteQueue):
    def cut(self, now: float, *, full: bool = True, inside: bool = True) -> Batch:
        self.batch_jobs = 10**9
        return super().cut(now, full=full, inside=inside)


class LosesSurvivors(WriteQueue):
    def lost(self, survivors: list[WriteJob]) -> None:
        super().lost(survivors)
        self._again.clear()


class RunsSurvivorsTogether(WriteQueue):
    def lost(self, survivors: list[WriteJob]) -> None:
        super().lost(survivors)
        for job in survivors:
            self._again.remove(job)
            self._queue.push(job)


class CancelDoesNothing(WriteQueue):
    def cancel(self, job: WriteJob) -> bool:
        return True


def retag(queue: WriteQueue, job: WriteJob, order: int) -> None:
    """Give a job just queued another place in its class."""
    heap = queue._queue._heaps[job.priority]
    heap[:] = [(0, order * seq if member is job else seq, member) for _, seq, member in heap]
    heapify(heap)


class LastInFirstOut(WriteQueue):
    def submit(self, job: WriteJob, now: float) -> Refused | None:
        refused = super().submit(job, now)
        if refused is None:
            retag(self, job, -1)
        return refused


class NoTurns(WriteQueue):
    def submit(self, job: WriteJob, now: float) -> Refused | None:
        refused = super().submit(job, now)
        if refused is None:
            retag(self, job, 1)
        return refused


class StrictPriorities(WriteQueue):
    def submit(self, job: WriteJob, now: float) -> Refused | None:
        return super().submit(job, now + 1000 * job.priority)


class LeasesInCompany(WriteQueue):
    def submit(self, job: WriteJob, now: float) -> Refused | None:
        refused = super().submit(job, now)
        if job.lease and not job.shares:
            job.lease = False
        return refused


class ForgetsLeases(WriteQueue):
    def cut(self, now: float, *, full: bool = True, inside: bool = True) -> Batch:
        batch = super().cut(now, full=full, inside=inside)
        if self._due is not None and batch.mode is Mode.TOGETHER:
            self._due = None
        return batch


@pytest.mark.parametrize(
    "planted",
    [
        NoLimit, LateRuns, ForgetsSync, IgnoresFull, NoBudget, NoBatchLimit, LosesSurvivors,
        RunsSurvivorsTogether, CancelDoesNothing, LastInFirstOut, LeasesInCompany, ForgetsLeases,
        NoTurns, StrictPriorities,
    ],
)  # fmt: skip
def test_a_planted_bug_is_found(planted: Callable[[int, int, float], WriteQueue]) -> None:
    for seed in range(400):
        try:
            World(seed, make_queue=planted).live(STEPS)
        except (Broken, ValueError):
            return
    pytest.fail(f"{planted} went unseen through 400 lives")
