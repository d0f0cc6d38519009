"""The plan of watchers: each promise alone, and all of them over random lives beside a model that forgets nothing."""

from __future__ import annotations

from random import Random

import pytest

from millpond.scheduling.watch_plan import Moved, Position, Watcher, WatchPlan, moved

A, B = frozenset({"a"}), frozenset({"b"})


def up_to_date(plan: WatchPlan, tables: frozenset[str] | None, not_before: float = 0.0) -> Watcher:
    """A new watcher that has read."""
    one = Watcher()
    plan.enter(one)
    plan.read(one, plan.begin(one, tables), tables, not_before)
    return one


def test_who_has_not_read_yet_is_due() -> None:
    plan, one = WatchPlan(), Watcher()
    plan.enter(one)
    assert one.is_due
    assert not plan.wait(one, 0.0)


def test_a_commit_tells_those_of_its_tables_and_no_others() -> None:
    plan = WatchPlan()
    of_a, of_b, of_any = up_to_date(plan, A), up_to_date(plan, B), up_to_date(plan, None)
    assert all(plan.wait(one, 0.0) for one in (of_a, of_b, of_any))
    assert set(plan.committed({"a", "c"}, 1.0)) == {of_a, of_any}
    assert (of_a.is_due, of_b.is_due, of_any.is_due) == (True, False, True)


def test_a_commit_of_unknown_tables_tells_everyone_and_one_of_none_nobody() -> None:
    plan = WatchPlan()
    watchers = [up_to_date(plan, tables) for tables in (A, B, None)]
    assert all(plan.wait(one, 0.0) for one in watchers)
    assert plan.committed(frozenset(), 1.0) == []
    assert not any(one.is_due for one in watchers)
    assert set(plan.committed(None, 1.0)) == set(watchers)


def test_many_commits_tell_once() -> None:
    plan = WatchPlan()
    one = up_to_date(plan, A)
    assert plan.wait(one, 0.0)
    assert [plan.committed({"a"}, 1.0) for _ in range(3)] == [[one], [], []]
    plan.read(one, plan.begin(one, A), A)
    assert plan.wait(one, 2.0)


def test_a_commit_before_the_wait_is_noticed_at_the_wait() -> None:
    plan = WatchPlan()
    one = up_to_date(plan, A)
    plan.committed({"a"}, 1.0)
    assert not plan.wait(one, 1.0)


def test_a_commit_during_the_reading_is_noticed_after_it() -> None:
    plan = WatchPlan()
    one = up_to_date(plan, A)
    moment = plan.begin(one, A)
    plan.committed({"a"}, 1.0)
    plan.read(one, moment, A)
    assert not plan.wait(one, 1.0)


def test_a_reading_that_failed_leaves_it_due() -> None:
    plan = WatchPlan()
    one = up_to_date(plan, A)
    plan.committed({"a"}, 1.0)
    plan.begin(one, A)
    assert not plan.wait(one, 1.0)


def test_what_a_result_turns_out_to_depend_on_counts_from_the_beginning_of_its_reading() -> None:
    plan = WatchPlan()
    one = up_to_date(plan, A)
    moment = plan.begin(one, A)
    plan.committed({"b"}, 1.0)
    plan.read(one, moment, None)
    assert not plan.wait(one, 1.0)
    plan.read(one, plan.begin(one, B), B)
    assert plan.wait(one, 1.0)
    assert plan.committed({"a"}, 1.0) == []
    assert plan.committed({"b"}, 1.0) == [one]


def test_before_its_time_it_is_told_of_nothing_and_then_of_all_at_once() -> None:
    plan = WatchPlan()
    one = up_to_date(plan, A, not_before=5.0)
    assert plan.wait(one, 1.0)
    assert plan.next_at is None
    assert plan.committed({"a"}, 2.0) == plan.committed({"a"}, 3.0) == []
    assert plan.next_at == 5.0
    assert plan.in_time(4.9) == []
    assert plan.in_time(5.0) == [one]
    assert plan.next_at is None
    assert plan.in_time(6.0) == []


def test_a_commit_after_its_time_is_told_at_once() -> None:
    plan = WatchPlan()
    one = up_to_date(plan, A, not_before=5.0)
    assert plan.wait(one, 1.0)
    assert plan.committed({"a"}, 5.0) == [one]


def test_due_and_before_its_time_it_waits() -> None:
    plan = WatchPlan()
    one = up_to_date(plan, A, not_before=5.0)
    plan.committed({"a"}, 1.0)
    assert plan.wait(one, 1.0)
    assert plan.in_time(5.0) == [one]
    assert not plan.wait(one, 5.0)


def test_who_has_left_is_told_nothing_and_nothing_of_it_stays() -> None:
    plan = WatchPlan()
    one, other = up_to_date(plan, A, not_before=5.0), up_to_date(plan, None)
    assert plan.wait(one, 0.0)
    plan.committed({"a"}, 1.0)
    for _ in range(2):
        plan.leave(one)
        plan.leave(other)
    assert not plan.wait(one, 9.0), "it would wait for ever"
    plan.read(other, plan.begin(other, B), A)
    assert (len(plan), plan.next_at, plan.in_time(9.0), plan.everyone(), plan._readers) == (0, None, [], [], {})


def test_everyone_who_waits_is_told_of_what_concerns_all() -> None:
    plan = WatchPlan()
    waiting, early, busy = up_to_date(plan, A), up_to_date(plan, A, not_before=9.0), up_to_date(plan, A)
    assert plan.wait(waiting, 0.0)
    assert plan.wait(early, 0.0)
    assert set(plan.everyone()) == {waiting, early}
    assert not busy.waits
    assert plan.everyone() == []


@pytest.mark.parametrize(
    ("before", "after", "wrote", "whose"),
    [
        ((7, 3), (8, 4), True, Moved.OURS),
        ((0xFFFFFFFF, 3), (0, 4), True, Moved.OURS),
        ((7, 3), (8, 1), True, Moved.OURS),  # into a log that begins anew
        ((7, 3), (9, 5), True, Moved.OTHERS),
        ((7, 3), (7, 0), True, Moved.OTHERS),
        ((7, 3), (8, 4), False, Moved.OTHERS),
        ((7, 3), (7, 0), False, Moved.NOBODY),  # a log that begins anew
        ((7, 3), (7, 5), False, Moved.OTHERS),  # a counter that does not count: the log was recovered
        ((7, 3), (0, 3), False, Moved.OTHERS),
        (None, (1, 0), False, Moved.OTHERS),
        (None, (1, 0), True, Moved.OTHERS),
    ],
)
def test_whose_doing_a_move_of_the_log_is(
    before: tuple[int, int] | None, after: tuple[int, int], wrote: bool, whose: Moved
) -> None:
    assert moved(Position(*before) if before else None, Position(*after), wrote=wrote) is whose


class Life:
    """One watcher in the model. since: so many commits there were when its last reading began; None: it has none."""

    def __init__(self) -> None:
        self.watcher = Watcher()
        self.tables: frozenset[str] | None = None
        self.since: int | None = None
        self.waits = False


class World:
    """A plan beside a model that keeps all commits in a list. Its habits are drawn, too."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.plan = WatchPlan()
        self.lives: list[Life] = []
        self.commits: list[frozenset[str] | None] = []
        self.now = 0.0
        self.pause = chance.choice((0.0, 0.0, 3.0))
        self.fails = chance.choice((0.0, 0.2))

    def is_due(self, one: Life) -> bool:
        return one.since is None or any(
            tables is None or (tables and (one.tables is None or tables & one.tables))
            for tables in self.commits[one.since :]
        )

    def tables(self, most: int) -> frozenset[str]:
        return frozenset(self.chance.sample("abcd", self.chance.randrange(1, most)))

    def enter(self) -> None:
        if len(self.lives) < 6:
            self.lives.append(Life())
            self.plan.enter(self.lives[-1].watcher)

    def leave(self, one: Life) -> None:
        self.plan.leave(one.watcher)
        self.lives.remove(one)

    def commit(self, tables: frozenset[str] | None) -> None:
        self.commits.append(tables)
        self.told(self.plan.committed(tables, self.now))

    def told(self, found: list[Watcher]) -> None:
        for watcher in found:
            (one,) = [other for other in self.lives if other.watcher is watcher]
            assert one.waits, "told, and did not wait"
            assert self.is_due(one), "told of nothing"
            assert watcher.not_before <= self.now, "told before its time"
            one.waits = False

    def step(self, one: Life) -> None:
        """As whoever watches does: wait, or look where there is something to be seen."""
        if self.plan.wait(one.watcher, self.now):
            one.waits = True
            return
        assert self.is_due(one), "to look, and due for nothing"
        assert one.watcher.not_before <= self.now, "to look before its time"
        chance, begun = self.chance, len(self.commits)
        tables = None if chance.random() < 0.2 else self.tables(3)
        one.waits = False
        moment = self.plan.begin(one.watcher, tables)
        for _ in range(chance.choice((0, 0, 1, 2))):
            self.commit(self.tables(2))
        if chance.random() >= self.fails:
            tables = None if chance.random() < 0.2 else tables
            self.plan.read(one.watcher, moment, tables, chance.choice((0.0, self.now + self.pause)))
            one.tables, one.since = tables, begun

    def check(self) -> None:
        for one in self.lives:
            if one.waits and self.is_due(one):
                assert one.watcher.not_before > self.now, "due, waits, and was not told"
                assert self.plan.next_at is not None
                assert self.plan.next_at <= one.watcher.not_before


@pytest.mark.parametrize("life", range(8))
def test_random_lives_keep_every_promise(life: int) -> None:
    seed = Random().randrange(10**9)
    print(f"seed {seed}")
    chance = Random(seed)
    world = World(chance)
    for _ in range(1_500):
        world.now += chance.random()
        punctual = chance.random() < 0.7
        if punctual:
            world.told(world.plan.in_time(world.now))
        one = chance.choice(world.lives) if world.lives else None
        dice = chance.randrange(20)
        if dice < 3 or one is None:
            world.enter()
        elif dice < 4:
            world.leave(one)
        elif dice < 14:
            world.step(one)
        else:
            world.commit(chance.choice((None, frozenset(), world.tables(2), world.tables(3), world.tables(4))))
        if punctual:
            world.check()
    for one in list(world.lives):
        world.leave(one)
    assert world.plan._readers == {}
