"""What is done at quiet times, by a simulated clock."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from millpond.scheduling.upkeep_plan import (
    BACK_OFF_MOST_S,
    BACK_OFF_S,
    GLANCE_S,
    LONG_QUIET,
    LOOK_EVERY_S,
    MANY_ROWS,
    MOMENT_S,
    REST,
    STEP_S,
    Outcome,
    Sight,
    Task,
    UpkeepPlan,
)

QUIET_S = 2.0
USUAL = 4_000_000
DAY_S = 86_400.0


def plan_of(**given: object) -> UpkeepPlan:
    return UpkeepPlan(quiet_s=QUIET_S, usual_log=USUAL, **given)  # type: ignore[arg-type]  # by their names


def sight(changes: int = 0, *, schema: int = 1, pages: int = 10_000, free: int = 0, incremental: bool = True) -> Sight:
    return Sight(changes, schema, pages, free, incremental)


def settled(now: float = 0.0, **given: object) -> UpkeepPlan:
    """A plan with which all is done."""
    plan = plan_of(**given)
    plan.opened(now)
    for task in (Task.LOG, Task.SHRINK):
        plan.did(task, now, Outcome.DONE)
    plan.saw(now, sight())
    plan.did(Task.ANALYZE, now, Outcome.DONE)
    assert plan.next(now, now, 0) is None
    return plan


def due(plan: UpkeepPlan, now: float, quiet_since: float, log_bytes: int = 0) -> set[Task]:
    """All that would be done now."""
    found = set()
    while isinstance(task := plan.next(now, quiet_since, log_bytes), Task):
        found.add(task)
        plan.did(task, now, Outcome.DONE)
    return found


def test_after_the_opening_tables_are_looked_at_in_the_first_valley() -> None:
    plan = plan_of()
    plan.opened(0.0)
    assert plan.next(1.0, 0.0, 0) == pytest.approx(QUIET_S - 1.0, rel=0.05)
    assert plan.next(2.0, 0.0, 0) is Task.LOOK
    plan.saw(2.0, sight())
    assert plan.next(2.0, 0.0, 0) is Task.ANALYZE


def test_a_long_log_goes_in_the_first_valley_and_a_usual_one_in_a_long_quiet() -> None:
    plan = settled()
    plan.wrote(100.0)
    assert Task.LOG not in due(plan, 100.0 + QUIET_S, 100.0, 2 * USUAL)
    plan.wrote(200.0)
    assert Task.LOG in due(plan, 200.0 + QUIET_S, 200.0, 2 * USUAL + 1)
    plan.wrote(300.0)
    assert Task.LOG not in due(plan, 300.0 + 0.9 * LONG_QUIET * QUIET_S, 300.0, USUAL)
    assert Task.LOG in due(plan, 300.0 + LONG_QUIET * QUIET_S, 300.0, USUAL)


def test_nothing_is_done_while_it_is_not_quiet() -> None:
    plan = plan_of()
    plan.opened(0.0)
    plan.wrote(0.0)
    for tick in range(100):
        assert not isinstance(plan.next(tick / 10, tick / 10 - MOMENT_S / 2, 10**9), Task)


def test_when_all_is_done_and_nobody_writes_it_sleeps_for_good() -> None:
    plan = settled()
    assert plan.next(DAY_S, 0.0, 0) is None
    plan.wrote(DAY_S)
    assert plan.next(DAY_S, DAY_S, 0) == pytest.approx(QUIET_S)


@pytest.mark.parametrize(
    ("seen", "at", "wanted"),
    [
        (sight(MANY_ROWS - 1), 100.0, False),
        (sight(MANY_ROWS), 100.0, True),
        (sight(1, schema=2), 100.0, True),
        (sight(1), 3_599.0, False),
        (sight(1), 3_600.0, True),
    ],
)
def test_statistics_are_renewed_when_much_has_changed_or_time_has_passed(
    seen: Sight, at: float, *, wanted: bool
) -> None:
    plan = settled()
    plan.saw(at, seen)
    assert (plan.next(at + QUIET_S, at, 0) is Task.ANALYZE) is wanted


def test_what_changed_too_little_is_looked_at_again_when_the_hour_is_over() -> None:
    plan = settled()
    plan.saw(100.0, sight(5))
    wait = plan.next(100.0, 100.0, 0)
    assert isinstance(wait, float)
    assert 100.0 + wait == 3_600.0
    plan = settled()
    plan.saw(100.0, sight())
    assert plan.next(100.0, 100.0, 0) is None, "nothing has changed: there will be nothing to do"


def test_looks_are_some_seconds_apart_however_often_it_is_quiet() -> None:
    plan, looks = settled(), []
    for second in range(0, 600, 3):
        plan.wrote(float(second))
        now = second + QUIET_S
        if plan.next(now, float(second), 0) is Task.LOOK:
            looks.append(now)
            plan.saw(now, sight())
    assert len(looks) > 20
    assert min(b - a for a, b in pairwise(looks)) >= LOOK_EVERY_S


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (sight(free=0), False),
        (sight(pages=10_000, free=499), False),
        (sight(pages=10_000, free=500), True),
        (sight(pages=10**6, free=1_000), True),
        (sight(pages=10**6, free=999), False),
        (sight(pages=10, free=1), True),
        (sight(pages=10, free=9, incremental=False), False),
    ],
)
def test_free_pages_are_given_back_where_they_are_many_and_the_file_allows_it(seen: Sight, *, wanted: bool) -> None:
    plan = settled()
    plan.saw(50.0, seen)
    assert (plan.next(60.0, 50.0, 0) is Task.VACUUM) is wanted


def test_a_step_of_a_vacuum_takes_about_the_same_time_and_is_followed_by_rest() -> None:
    plan = settled()
    plan.saw(50.0, sight(free=9_000))
    now = 60.0
    for page_s in (0.00001, 0.001, 0.0001):
        for _ in range(12):
            took = plan.vacuum_pages * page_s
            now += took
            plan.did(Task.VACUUM, now, Outcome.MORE, took)
            assert plan.next(now, 50.0, 0) == pytest.approx(REST * took)
            now += REST * took
            assert plan.next(now, 50.0, 0) is Task.VACUUM
        assert STEP_S / 4 <= plan.vacuum_pages * page_s <= 2 * STEP_S
    pages = plan.vacuum_pages
    plan.did(Task.VACUUM, now, Outcome.STOPPED)
    assert plan.vacuum_pages == pages // 2, "a smaller step may fit between two writes"


def test_what_is_in_vain_is_tried_again_after_pauses_that_grow_whoever_writes() -> None:
    plan, now, pauses = settled(), 100.0, []
    plan.wrote(now)
    for _ in range(8):
        while plan.next(now, 50.0, 10**9) is not Task.LOG:
            due(plan, now, 50.0)
            plan.wrote(now)
            now += 0.5
        plan.did(Task.LOG, now, Outcome.IN_VAIN)
        pauses.append(now)
    waits = [b - a for a, b in pairwise(pauses)]
    assert waits[:3] == [BACK_OFF_S, 2 * BACK_OFF_S, 4 * BACK_OFF_S]
    assert waits[-1] == BACK_OFF_MOST_S


def test_memory_is_given_back_after_a_quiet_of_its_own() -> None:
    plan = settled()
    plan.wrote(100.0)
    assert Task.SHRINK not in due(plan, 129.0, 100.0)
    assert Task.SHRINK in due(plan, 130.0, 100.0)


def test_each_can_be_switched_off() -> None:
    off = plan_of(empty_log=False, analyze=False, vacuum=False, shrink_s=None)
    off.opened(0.0)
    off.wrote(0.0)
    assert off.next(1_000.0, 0.0, 10**9) is None
    for name, task in (("empty_log", Task.LOG), ("analyze", Task.ANALYZE), ("vacuum", Task.VACUUM)):
        plan = plan_of(**{name: False})
        plan.opened(0.0)
        plan.wrote(0.0)
        plan.saw(1.0, sight(MANY_ROWS, free=9_000))
        assert {Task.LOG, Task.ANALYZE, Task.VACUUM} - due(plan, 1_000.0, 0.0) == {task}
    plan = plan_of(shrink_s=None)
    plan.wrote(0.0)
    assert Task.SHRINK not in due(plan, 1_000.0, 0.0)


class World:
    """A day of writes with the thread's loop around the plan: it sleeps as long as it is told."""

    def __init__(self, seed: int, pause_s: float) -> None:
        self.chance = Random(seed)
        self.pause_s = pause_s
        self.plan = plan_of()
        self.plan.opened(0.0)
        self.wakes: list[float] = []
        self.done: Counter[Task] = Counter()
        self.quiets: list[float] = []
        self.last = 0.0
        self.upcoming = self.chance.expovariate(1 / pause_s)

    def advance(self, until: float) -> int:
        """Writes happen until then. How many."""
        count = 0
        while self.upcoming <= until:
            count += 1
            self.last = self.upcoming
            self.upcoming += self.chance.expovariate(1 / self.pause_s)
        return count

    def run(self, seconds: float) -> World:
        now, written = 0.0, 0
        while now < seconds:
            if count := self.advance(now):
                written += count
                self.plan.wrote(now)
            following = self.plan.next(now, self.last, USUAL)
            self.wakes.append(now)
            if isinstance(following, Task):
                self.quiets.append(now - self.last)
                self.done[following] += 1
                if following is Task.LOOK:
                    self.plan.saw(now, sight(written, pages=1_000, free=written % 200))
                else:
                    self.plan.did(following, now, Outcome.DONE, 0.001)
                now += 0.001
            else:
                now += 1.0 if following is None else max(following, 0.0001)
        return self


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("pause_s", [0.02, 0.1, 1.0])
def test_a_day_without_valleys_is_not_one_without_upkeep(seed: int, pause_s: float) -> None:
    world = World(seed, pause_s).run(3_600.0)
    assert world.done[Task.LOOK] >= 3
    assert world.done[Task.ANALYZE] >= 1
    assert min(world.quiets) >= MOMENT_S
    looks = Counter(int(at) for at in world.wakes)
    assert max(looks.values()) <= 1 / GLANCE_S + sum(world.done.values()) + 2


def test_while_nothing_is_overdue_it_waits_for_the_whole_quiet() -> None:
    world = World(1, 8.0).run(3_600.0)
    assert min(world.quiets) >= 0.9 * QUIET_S
    assert len(world.wakes) < 3_600
