"""The small deciding parts: deadlines, turns of the loop, places, costs, fair turns."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from millpond.scheduling.deadlines import SWEEP_AT, Deadlines
from millpond.scheduling.fair_queue import HEAD_START_S, FairQueue
from millpond.scheduling.places import ENOUGH, LIMIT, MOST, QUICK_S, Place, Places
from millpond.scheduling.turns import TurnBudget
from millpond.scheduling.write_queue import Mode, WriteJob, WriteQueue
from millpond.statements.cost import CHEAP_S, FORGIVEN_AFTER, LONG_S, MOST_PROOF, SLOW_S, Cost, Lane


@dataclass
class Call:
    deadline: float | None
    settled: bool = False


def test_deadlines_come_due_in_their_order_whatever_their_timeout() -> None:
    watch = Deadlines(usual_s=30.0)
    calls = [Call(30.0), Call(31.0), Call(5.0), Call(30.5)]
    for call, timeout in zip(calls, (30.0, 30.0, 5.0, 2.0), strict=True):
        watch.add(call, timeout)
    assert watch.next() == 5.0
    assert watch.due(4.9) == []
    assert watch.due(30.6) == [calls[2], calls[0], calls[3]]
    calls[1].settled = True
    assert watch.next() is None


def test_settled_calls_do_not_pile_up_behind_an_open_one() -> None:
    watch = Deadlines(usual_s=30.0)
    watch.add(Call(30.0), 30.0)
    for i in range(20 * SWEEP_AT):
        watch.add(Call(30.0 + i, settled=True), 30.0)
        watch.add(Call(2.0 + i, settled=True), 2.0)
    assert len(watch) <= 2 * SWEEP_AT
    assert watch.next() == 30.0


def test_a_turn_is_shared_between_those_that_were_seen_in_the_last() -> None:
    budget = TurnBudget(0.001)
    budget.begin(0.0)
    assert budget.slice_ends == pytest.approx(0.001)
    for _ in range(10):
        budget.yields()
    budget.reset()
    budget.resumes(5.0)
    assert budget.slice_ends == pytest.approx(0.001), "nothing is given out before the turn begins"
    budget.begin(1.0)
    assert budget.slice_ends == pytest.approx(1.0001)
    budget.resumes(1.5)
    assert budget.slice_ends == pytest.approx(1.5001)


def test_a_line_shares_batches_after_some_quick_leases_and_not_when_it_awaits() -> None:
    place = Place()
    for _ in range(ENOUGH - 1):
        place.ended(QUICK_S / 2)
        assert not place.shares
    place.ended(QUICK_S / 2)
    assert place.shares
    for _ in range(MOST):
        place.ended(QUICK_S / 2)
    place.ended(1.0)
    assert place.shares, "one hiccup is forgiven"
    for _ in range(4):
        place.ended(1.0)
    assert not place.shares


def test_a_lease_that_let_nobody_else_run_is_quick_however_long_it_took() -> None:
    place = Place()
    for _ in range(ENOUGH):
        place.ended(1.0, awaited=False)
    assert place.shares


def test_places_are_known_by_their_line_and_bounded() -> None:
    places = Places()
    code = compile("", "bot.py", "exec")
    assert places.at(code, 1) is places.at(code, 1)
    assert places.at(code, 1) is not places.at(code, 2)
    first = places.at(code, 1)
    for line in range(2, LIMIT + 10):
        places.at(code, line)
    assert places.at(code, 1) is not first


def test_a_statement_is_proven_cheap_by_its_runs() -> None:
    cost = Cost()
    assert cost.lane is Lane.QUICK
    cost.ran(CHEAP_S / 10)
    assert cost.lane is Lane.QUICK
    cost.ran(CHEAP_S / 10)
    assert cost.lane is Lane.INLINE


def test_a_run_over_its_steps_is_demoted_at_once_and_wants_twice_the_proof() -> None:
    cost = Cost()
    while cost.lane is not Lane.INLINE:
        cost.ran(CHEAP_S / 10)
    proof = cost.proof
    cost.over_budget()
    assert cost.lane is Lane.QUICK
    assert cost.proof == 2 * proof
    cost.over_budget()
    cost.over_budget()
    assert cost.lane is Lane.HEAVY
    for _ in range(2 * cost.proof):
        cost.ran(CHEAP_S / 10)
    assert cost.lane is Lane.INLINE
    for _ in range(20):
        cost.lane = Lane.INLINE
        cost.over_budget()
    assert cost.proof == MOST_PROOF


def test_slow_runs_now_and_then_are_a_neighbours_fault_and_again_and_again_the_statements_own() -> None:
    cost = Cost()
    for i in range(1000):
        cost.ran(SLOW_S * 5 if i % 10 == 9 else CHEAP_S / 10)
    assert cost.lane is Lane.INLINE
    for _ in range(5):
        cost.ran(SLOW_S * 5)
    assert cost.lane is not Lane.INLINE


def test_what_is_never_short_goes_to_the_heavy_lanes() -> None:
    cost = Cost()
    cost.ran(LONG_S * 2)
    assert cost.lane is Lane.HEAVY


def test_long_good_conduct_halves_the_proof() -> None:
    cost = Cost()
    cost.lane = Lane.INLINE
    cost.proof = 64
    for _ in range(FORGIVEN_AFTER):
        cost.ran(CHEAP_S / 10)
    assert cost.proof == 32


def job(caller: object = None, priority: int = 1, **how: object) -> WriteJob:
    made = WriteJob()
    made.caller = caller
    made.priority = priority
    for name, value in how.items():
        setattr(made, name, value)
    return made


def test_a_caller_with_many_waiting_is_passed_by_each_other() -> None:
    queue: FairQueue[WriteJob] = FairQueue()
    many = [job("many") for _ in range(5)]
    for one in many:
        queue.push(one)
    other = job("other")
    queue.push(other)
    order = []
    while (found := queue.pop()) is not None:
        order.append(found)
    assert order.index(other) == 1
    assert [one for one in order if one is not other] == many


def test_a_lower_priority_is_passed_only_by_what_comes_within_its_head_start() -> None:
    queue: FairQueue[WriteJob] = FairQueue()
    low, soon, late = job(priority=2), job("a"), job("b")
    low.submitted, soon.submitted, late.submitted = 0.0, 0.5, 100.0
    for one in (low, soon, late):
        queue.push(one)
    assert [queue.pop(), queue.pop(), queue.pop()] == [soon, low, late]
    assert HEAD_START_S[2] - HEAD_START_S[1] > 0.5


def test_removed_members_are_swept_out() -> None:
    queue: FairQueue[WriteJob] = FairQueue()
    members = [job(i) for i in range(10_000)]
    for one in members:
        queue.push(one)
    for one in members[:-1]:
        assert queue.remove(one)
        assert not queue.remove(one)
    assert len(queue) == 1
    assert sum(len(heap) for heap in queue._heaps) < 200
    assert list(queue) == members[-1:]
    assert queue.pop() is members[-1]
    assert queue.pop() is None
    assert len(queue._last) <= 10_000


def test_the_queue_says_in_a_sentence_how_it_stands() -> None:
    queue = WriteQueue(10, 4, 1.0)
    queue.submit(job(), 0.0)
    lease = job(lease=True, shares=False)
    queue.submit(lease, 0.0)
    assert repr(queue) == "<WriteQueue: 2 waiting, 0 to run again alone>"
    assert queue.oldest_s(2.0) == 2.0
    batch = queue.cut(0.0)
    assert batch.mode is Mode.TOGETHER
    queue.lost(batch.jobs)
    assert queue.cut(0.0).mode is Mode.ALONE
    assert queue.cut(0.0).jobs == [lease]
    assert queue.oldest_s(9.0) == 0.0
    queue.submit(job(), 0.0)
    assert len(queue.drain()) == 1
    assert len(queue) == 0
