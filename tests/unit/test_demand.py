"""What a statement uses is learnt from what its runs have spent."""

from __future__ import annotations

import pytest

from millpond.statements.demand import MOVES, NOTHING, UNKNOWN, Demand, Spent, Use, used

CPU = Spent(wall_s=0.02, cpu_s=0.02, queued_s=0.0, rows=1)
ROWS = Spent(wall_s=0.004, cpu_s=0.0035, queued_s=0.0, rows=10_000)
STORAGE = Spent(wall_s=0.02, cpu_s=0.0002, queued_s=0.0, rows=1)


@pytest.mark.parametrize(
    ("spent", "use"),
    [
        (CPU, Use(1.0, 0.0)),
        (STORAGE, NOTHING),
        (Spent(wall_s=0.4, cpu_s=0.02, queued_s=0.38, rows=1), Use(1.0, 0.0)),
        (Spent(wall_s=0.02, cpu_s=0.01, queued_s=0.0, rows=1), Use(0.5, 0.0)),
        (Spent(wall_s=0.02, cpu_s=0.0, queued_s=0.02, rows=0), UNKNOWN),
        (Spent(wall_s=0.02, cpu_s=0.0, queued_s=0.0, rows=0), NOTHING),
    ],
)
def test_time_in_the_run_queue_is_nobodys_use(spent: Spent, use: Use) -> None:
    assert used(spent) == pytest.approx(use)


def test_many_rows_need_the_interpreter() -> None:
    use = used(ROWS)
    assert use.cpu == pytest.approx(0.875)
    assert use.gil == pytest.approx(0.857, abs=0.001)


def test_rows_in_a_long_computation_do_not() -> None:
    assert used(Spent(wall_s=0.02, cpu_s=0.02, queued_s=0.0, rows=15_000)).gil == 0.0


def test_a_first_run_is_believed_and_later_ones_move_it() -> None:
    demand = Demand(STORAGE)
    assert demand.use == NOTHING
    demand.ran(CPU)
    assert demand.use.cpu == pytest.approx(MOVES)
    for _ in range(20):
        demand.ran(CPU)
    assert demand.use.cpu == pytest.approx(1.0, abs=0.01)
    for _ in range(20):
        demand.ran(STORAGE)
    assert demand.use == NOTHING, "a little is nothing"


def test_without_the_run_queue_a_crowd_does_not_make_a_statement_look_as_if_it_waited() -> None:
    """With 20 at once on two cores each has a tenth of a core, and says nothing of why."""
    demand = Demand(CPU._replace(queued_s=None))
    for _ in range(20):
        demand.ran(Spent(wall_s=0.2, cpu_s=0.02, queued_s=None, rows=1))
    assert demand.use.cpu > 0.6
    for _ in range(200):
        demand.ran(STORAGE._replace(queued_s=None))
    assert demand.use == NOTHING


def test_a_first_run_whose_waits_for_a_core_are_unknown_may_have_wanted_all_of_it() -> None:
    assert Demand(Spent(wall_s=0.02, cpu_s=0.005, queued_s=None, rows=10_000)).use == pytest.approx((1.0, 0.6))
    assert Demand(STORAGE._replace(queued_s=None)).use == NOTHING


def test_the_same_rows_that_took_longer_beside_others_need_no_less_of_the_interpreter() -> None:
    demand = Demand(ROWS)
    before = demand.use.gil
    for _ in range(5):
        demand.ran(ROWS._replace(cpu_s=0.02, wall_s=0.1))
    assert demand.use.gil > before * 0.9
    for _ in range(50):
        demand.ran(ROWS._replace(cpu_s=0.011, wall_s=0.02))
    assert demand.use.gil > 0.5, "or two would run at once, and look as if each needed a third of it"


def test_fewer_rows_soon_need_less_of_the_interpreter() -> None:
    demand = Demand(ROWS)
    for _ in range(60):
        demand.ran(ROWS._replace(rows=100))
    assert demand.use.gil == 0.0


def test_as_many_rows_of_ever_more_work_need_less_of_it_in_the_end() -> None:
    demand = Demand(ROWS)
    for _ in range(2_000):
        demand.ran(ROWS._replace(cpu_s=0.1, wall_s=0.1))
    assert demand.use.gil == 0.0
