"""Slices of a bulk write: how long they are, and what is told when they end early."""

from __future__ import annotations

import asyncio
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond import errors, messages, partly
from millpond.scheduling.slices import CROWD, FASTER, FIRST, MOST, QUIET, SlicePlan

TARGET_S = 0.004


def settled(row_s: float, waiting: int, overhead_s: float = 0.0) -> float:
    """How long the slices run in the end, where a row takes `row_s`."""
    plan = SlicePlan(TARGET_S)
    for _ in range(40):
        plan.ran(plan.rows, overhead_s + plan.rows * row_s, waiting)
    return overhead_s + plan.rows * row_s


def test_an_unknown_statement_begins_with_few_rows_and_a_known_one_with_as_many_as_fit() -> None:
    assert SlicePlan(TARGET_S).rows == FIRST
    assert SlicePlan(TARGET_S, 0.000004).rows == 1_000
    assert SlicePlan(TARGET_S, 1.0).rows == 1
    assert SlicePlan(TARGET_S, 1e-9).rows == MOST


@pytest.mark.parametrize("row_s", [0.000002, 0.00001, 0.0003])
def test_slices_come_to_their_length_whatever_a_row_takes(row_s: float) -> None:
    assert settled(row_s, waiting=1) == pytest.approx(TARGET_S, rel=0.1)
    assert settled(row_s, waiting=CROWD) == pytest.approx(TARGET_S / CROWD**0.5, rel=0.2)
    assert settled(row_s, waiting=1_000) == settled(row_s, waiting=CROWD)
    assert settled(row_s, waiting=0) == pytest.approx(TARGET_S * QUIET, rel=0.1)


def test_whoever_comes_makes_them_short_again_at_once() -> None:
    plan = SlicePlan(TARGET_S)
    for _ in range(40):
        plan.ran(plan.rows, plan.rows * 0.00001, 0)
    plan.ran(plan.rows, plan.rows * 0.00001, 1)
    assert plan.rows * 0.00001 == pytest.approx(TARGET_S, rel=0.1)
    plan.ran(plan.rows, plan.rows * 0.00001, 0)
    assert plan.rows * 0.00001 < 1.5 * TARGET_S, "the way back is slow"


def test_a_slice_without_length_says_little() -> None:
    plan = SlicePlan(TARGET_S)
    plan.ran(10, 0.0, 0)
    assert plan.rows == 10 * FASTER


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 10_000))))
def test_a_slice_has_rows_within_bounds_whatever_is_measured(runs: list[tuple[float, int]]) -> None:
    plan = SlicePlan(TARGET_S)
    for seconds, waiting in runs:
        before = plan.rows
        plan.ran(before, seconds, waiting)
        assert 1 <= plan.rows <= min(MOST, FASTER * before)


SQL = "INSERT INTO measurement(sensor, taken_at, value, unit, note) VALUES (?, ?, ?, ?, ?)"


def unique() -> errors.Error:
    return errors.UniqueViolation(
        messages.headed(SQL, " breaks UNIQUE (measurement.sensor, measurement.taken_at, measurement.value)"),
        detail="Not applied; retrying will not help. Calls that run beside it are not touched.",
        hint="ON CONFLICT (sensor) DO UPDATE / DO NOTHING, if that is meant.",
        sql=SQL, applied="no",
    )  # fmt: skip


def test_an_error_tells_how_many_rows_are_in() -> None:
    error = partly.told(unique(), 12_000)
    assert str(error).endswith("; the first 12,000 rows are in")
    assert str(error).startswith("INSERT INTO measurement")
    assert "measurement.value)" in str(error), "the statement gives way, not the reason"
    assert len(str(error)) <= messages.LINE
    assert (error.applied, error.rows_applied, error.retryable) == ("yes", 12_000, False)
    notes = error.__notes__
    assert notes[0].startswith("detail: The first 12,000 rows are in. The others are not. Retrying will not help.")
    assert not any("Not applied" in note for note in notes)
    assert [note for note in notes if note.startswith("hint")] == [
        note for note in unique().__notes__ if "hint" in note
    ]
    again = pickle.loads(pickle.dumps(error))
    assert (again.rows_applied, str(again)) == (12_000, str(error))


@pytest.mark.parametrize(
    ("rows", "unsure", "text"),
    [
        (1, 0, "the first row is in"),
        (2, 1, "the first 2 rows are in, whether the next one is is not known"),
        (2_000, 500, "the first 2,000 rows are in, whether the next 500 are is not known"),
        (0, 500, "whether the first 500 rows are in is not known"),
        (0, 1, "whether the first row is in is not known"),
    ],
)
def test_what_is_not_known_is_not_promised(rows: int, unsure: int, text: str) -> None:
    assert partly.so_far(rows, unsure) == text
    error = partly.told(unique(), rows, unsure)
    assert error.applied == ("unknown" if unsure else "yes")
    assert str(error).endswith(text)
    assert "others are not" not in error.__notes__[0] or not unsure


def test_an_error_before_the_first_slice_stays_as_it_was() -> None:
    error = partly.told(unique(), 0)
    assert str(error) == str(unique())
    assert (error.applied, error.rows_applied) == ("no", 0)
    assert error.__notes__ == unique().__notes__


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (messages.deadline_exceeded(sql=SQL, timeout_s=2, queue_s=2, lock_s=0, running_s=0, applied="no"),
         "Go on with the rows after them."),
        (messages.overloaded(sql=SQL, waiting=9, limit_name="max_queue", oldest_s=1, retry_after=1, write=True),
         "Go on after about 1.0 s (.retry_after)."),
        (errors.DiskFull("no room", detail="0 bytes free. Not applied. Reads go on.", sql=SQL, applied="no"),
         "0 bytes free. Reads go on."),
    ],
)  # fmt: skip
def test_no_error_calls_a_part_of_it_the_whole(made: errors.Error, told: str) -> None:
    error = partly.told(made, 5)
    assert error.detail is not None
    assert told in error.detail
    assert "Not applied" not in error.detail
    assert len(str(error)) <= messages.LINE


def test_what_is_no_error_of_millponds_gets_a_note() -> None:
    cancel = partly.told(asyncio.CancelledError(), 7, 3)
    assert cancel.__notes__ == ["execute_many: the first 7 rows are in, whether the next 3 are is not known"]
    assert getattr(cancel, "rows_applied", None) == 7
