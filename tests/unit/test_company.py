"""A batch waits for company where that pays, and never alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from millpond.scheduling.company import LONGEST_S, Company


def test_nobody_waits_before_the_first_commit() -> None:
    assert Company().missing(1) == 0


def test_alone_nobody_waits() -> None:
    company = Company()
    company.committed(1, 0.010)
    assert company.missing(1) == 0


def test_those_of_the_last_batch_are_expected_again() -> None:
    company = Company()
    company.committed(25, 0.000_4)
    assert company.missing(3) == 22
    assert company.missing(25) == company.missing(40) == 0


def test_whoever_did_not_come_is_not_expected_twice() -> None:
    company = Company()
    company.committed(25, 0.000_4)
    company.committed(2, 0.000_4)
    assert company.missing(2) == 0


def test_a_wait_is_as_long_as_a_commit_takes() -> None:
    company = Company()
    for _ in range(100):
        company.committed(25, 0.000_4)
    assert abs(company.wait_s - 0.000_4) < 1e-6


@given(st.lists(st.tuples(st.integers(1, 100), st.floats(0, 10)), min_size=1), st.integers(0, 200))
def test_it_never_waits_for_long_nor_for_a_negative_number(commits: list[tuple[int, float]], waiting: int) -> None:
    company = Company()
    for jobs, commit_s in commits:
        company.committed(jobs, commit_s)
    assert 0 <= company.wait_s <= LONGEST_S
    assert 0 <= company.missing(waiting) <= max(jobs for jobs, _ in commits)
