"""When long reads are held back and writes paced, so that the log can be begun anew."""

from __future__ import annotations

from random import Random

import pytest

from millpond.scheduling.checkpoint_plan import CheckpointPlan, Next
from millpond.scheduling.drain_plan import EARLIEST, FULL, LATEST, PACE_MOST_S, PAUSE_MOST_S, DrainPlan, Flow, Lives

MIB = 2**20
LIMIT = 64 * MIB
HOLD_S = 3.0
YOUNG_S = 0.1


def draining(log: int = LIMIT // 2) -> DrainPlan:
    plan = DrainPlan(LIMIT, HOLD_S)
    assert plan.pinned(10.0, log, YOUNG_S)
    return plan


def test_a_short_log_holds_nobody_back() -> None:
    plan = DrainPlan(LIMIT, HOLD_S)
    for log in range(0, int(LIMIT * EARLIEST), MIB):
        assert not plan.pinned(log / MIB / 1000, log, YOUNG_S), "however fast it grows"
    assert plan.flow is Flow.FREE


def test_a_log_that_grows_fast_is_drained_while_its_room_lasts_for_a_hold() -> None:
    plan = DrainPlan(LIMIT, HOLD_S)
    assert not plan.pinned(1.0, 6 * MIB, YOUNG_S), "nothing is known of its growth"
    assert plan.pinned(1.1, 9 * MIB, YOUNG_S), "30 MiB a second"
    assert plan.until == 1.1 + HOLD_S


def test_a_log_that_grows_slowly_is_left_until_half_of_the_limit() -> None:
    plan = DrainPlan(LIMIT, HOLD_S)
    begins = next(log for log in range(6 * MIB, LIMIT, MIB) if plan.pinned(log / MIB, log, YOUNG_S))
    assert begins == LIMIT * LATEST


@pytest.mark.parametrize("left_s", [None, HOLD_S + 0.1, 600.0])
def test_nobody_is_held_back_for_a_reader_that_stays_or_is_not_ours(left_s: float | None) -> None:
    plan = DrainPlan(LIMIT, HOLD_S)
    assert not plan.pinned(1.0, LIMIT, left_s)
    assert plan.pace_s(2.0, 2 * LIMIT) == 0.0


def test_without_a_time_for_holds_there_are_none() -> None:
    assert not DrainPlan(LIMIT, 0.0).pinned(1.0, LIMIT, YOUNG_S)


def test_a_hold_ends_when_the_log_is_begun_anew() -> None:
    plan = draining()
    assert plan.begun_anew()
    assert plan.flow is Flow.FREE
    assert not plan.begun_anew(), "there was none"


def test_a_hold_that_brings_nothing_ends_by_its_time_and_the_pauses_between_such_double() -> None:
    plan, now, pauses = draining(), 10.0, []
    for _ in range(12):
        now += HOLD_S
        assert not plan.over(now - 0.01)
        assert plan.over(now)
        assert plan.flow is Flow.RESIGNED
        assert not plan.over(now), "once"
        ended = now
        while not plan.pinned(now, LIMIT, YOUNG_S):
            now += 1.0
        pauses.append(now - ended)
    assert pauses[:3] == [4 * HOLD_S, 8 * HOLD_S, 16 * HOLD_S]
    assert pauses[-1] == PAUSE_MOST_S
    plan.begun_anew()
    assert plan.pinned(now, LIMIT, YOUNG_S), "after a success there is no pause"


def test_writes_are_paced_only_while_it_drains() -> None:
    plan = DrainPlan(LIMIT, HOLD_S)
    assert plan.pace_s(1.0, LIMIT) == 0.0
    plan = draining()
    assert plan.pace_s(10.001, LIMIT // 2 + MIB) > 0.0
    plan.begun_anew()
    assert plan.pace_s(10.5, 100 * MIB) == 0.0


def test_the_less_room_there_is_the_longer_a_batch_waits_but_never_too_long() -> None:
    waits = []
    for share in (0.5, 0.7, 0.85):
        plan = draining(int(LIMIT * share))
        waits.append(plan.pace_s(10.0, int(LIMIT * share) + MIB // 4))
    assert waits == sorted(waits)
    assert waits[0] < 0.02
    assert draining().pace_s(10.0, LIMIT) == PACE_MOST_S


def test_what_took_its_time_anyway_does_not_wait() -> None:
    assert draining().pace_s(11.0, LIMIT // 2 + MIB) == 0.0


def test_a_log_that_is_too_long_already_is_not_paced() -> None:
    plan = draining(int(LIMIT * FULL))
    assert plan.pace_s(10.0, 2 * LIMIT) == 0.0


class Pond:
    """A made-up world: a writer, copies beside it, and readers that come one after another and overlap."""

    def __init__(self, seed: int, hold_s: float = HOLD_S, *, paced: bool = True) -> None:
        chance = Random(seed)
        self.batch = chance.randrange(4_096, LIMIT // 100)
        self.batch_s = chance.uniform(0.0005, 0.005)
        self.life_s = chance.uniform(0.005, 0.8 * HOLD_S)
        self.chance = chance
        self.copies, self.plan, self.paced = CheckpointPlan(1_000), DrainPlan(LIMIT, hold_s), paced
        self.readers = [(0.0, chance.uniform(0, self.life_s)) for _ in range(4)]
        self.waiting = 0
        self.now = 0.0
        self.log = self.longest = self.begun_anew = 0
        self.longest_hold_s, self.hold_began = 0.0, 0.0

    def run(self, seconds: float) -> Pond:
        while self.now < seconds:
            self.read()
            self.look()
            self.now += self.plan.pace_s(self.now, self.log) if self.paced else 0.0
            self.now += self.batch_s
            self.log += self.batch
            self.longest = max(self.longest, self.log)
        return self

    def read(self) -> None:
        """Each of four callers reads again as soon as it has read, if it is let in."""
        alive = [reader for reader in self.readers if reader[1] > self.now]
        self.waiting += len(self.readers) - len(alive)
        if self.plan.flow is not Flow.DRAINING:
            alive += [(self.now, self.now + self.life_s * self.chance.uniform(0.8, 1.2)) for _ in range(self.waiting)]
            self.waiting = 0
        self.readers = alive

    def look(self) -> None:
        if self.plan.over(self.now):
            self.longest_hold_s = max(self.longest_hold_s, self.now - self.hold_began)
        if not self.copies.grew(self.log // 4_120) and self.readers:
            return
        if self.readers:
            self.copies.copied(self.log // 4_120, 0)
            if self.copies.now is Next.COPY:
                self.copies.copied(self.log // 4_120, 0)
            if self.plan.pinned(self.now, self.log, self.now - min(began for began, _ in self.readers)):
                self.hold_began = self.now
        else:
            if self.plan.begun_anew():
                self.longest_hold_s = max(self.longest_hold_s, self.now - self.hold_began)
            self.log = 0
            self.begun_anew += 1
        self.copies.ended()


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_load_the_log_stays_below_its_limit_while_readers_roll(seed: int) -> None:
    pond = Pond(seed).run(60.0)
    assert pond.longest <= LIMIT, f"seed {seed}"
    assert pond.begun_anew > 0
    assert pond.longest_hold_s <= HOLD_S + PACE_MOST_S + 0.01


def test_without_holds_or_without_pacing_the_same_loads_outgrow_it() -> None:
    assert all(Pond(seed, hold_s=0.0).run(60.0).longest > LIMIT for seed in range(5))
    assert any(Pond(seed, paced=False).run(60.0).longest > LIMIT for seed in range(40))


def test_a_copy_can_be_begun_at_once_when_who_was_in_the_way_has_gone() -> None:
    plan = CheckpointPlan(100)
    plan.grew(50)
    assert not plan.again(), "the log is short"
    plan.grew(150)
    assert not plan.again(), "one is on its way"
    plan.copied(150, 10)
    plan.copied(150, 10)
    plan.ended()
    assert plan.again()
    assert plan.now is Next.COPY


def test_how_long_the_snapshots_of_a_line_last_is_learnt_and_forgotten() -> None:
    lives = Lives(limit=2)
    assert lives.of("a.py:1 in f()") is None
    lives.ended("a.py:1 in f()", 10.0)
    assert lives.of("a.py:1 in f()") == 10.0
    for _ in range(20):
        lives.ended("a.py:1 in f()", 1.0)
    assert lives.of("a.py:1 in f()") == pytest.approx(1.0, rel=0.05)
    lives.ended("b.py:1 in f()", 2.0)
    lives.ended("c.py:1 in f()", 3.0)
    assert [lives.of(f"{name}.py:1 in f()") for name in "abc"] == [None, 2.0, 3.0]
