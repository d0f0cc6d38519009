"""A call's place among the deadlines, once it is emptied."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from millpond.scheduling.deadlines import SWEEP_AT, Deadlines


@dataclass
class Call:
    deadline: float | None
    settled: bool = False


@pytest.mark.parametrize("timeout_s", [5.0, 3.0])
def test_an_emptied_place_is_neither_due_nor_next(timeout_s: float) -> None:
    deadlines = Deadlines(5.0)
    first, second = Call(timeout_s), Call(timeout_s + 1)
    place = deadlines.add(first, timeout_s)
    deadlines.add(second, timeout_s)
    assert deadlines.next() == timeout_s
    place[0] = None
    assert deadlines.next() == timeout_s + 1
    assert deadlines.due(100.0) == [second]
    assert len(deadlines) == 0


@pytest.mark.parametrize("timeout_s", [5.0, 3.0])
def test_emptied_places_are_swept_out_when_they_are_many(timeout_s: float) -> None:
    deadlines = Deadlines(5.0)
    for number in range(3 * SWEEP_AT):
        deadlines.add(Call(float(number)), timeout_s)[0] = None
        assert len(deadlines) <= SWEEP_AT + 1
