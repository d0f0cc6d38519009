"""The frame around the attacks: cases are the same each time, nothing is counted that was not done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.torture import __main__ as running
from tests.torture.case import Broken, Case, all_parts


class Throws:
    """Throws a number per case; one of them breaks a promise."""

    TITLE = "numbers"
    UNIT = "throws"
    GOAL = 5

    def __init__(self, breaks: int | None = None) -> None:
        self.breaks = breaks
        self.thrown: list[tuple[int, int]] = []

    def run(self, case: Case) -> Mapping[str, int]:
        if case.number == self.breaks:
            raise Broken("a seven was thrown")
        self.thrown.append((case.number, case.random.randrange(1_000_000)))
        return {"throws": 1, "sixes": 2}


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "OUT", tmp_path)


def test_a_case_is_the_same_for_the_same_seed_and_number_alone(tmp_path: Path) -> None:
    thrown = [Case(number, seed, tmp_path).random.random() for seed in (1, 2, 1) for number in (0, 1)]
    assert thrown[:2] == thrown[4:]
    assert len(set(thrown)) == 4


def test_a_run_ends_at_its_goal_and_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    part = Throws()
    state = running._attack("numbers", part, 1, None, fresh=False)
    assert state["counts"] == {"throws": 5, "sixes": 10}
    part.GOAL = 7
    assert running._attack("numbers", part, 1, None, fresh=False)["counts"] == {"throws": 7, "sixes": 14}
    assert [number for number, _ in part.thrown] == list(range(7))
    assert json.loads((tmp_path / "numbers-1.json").read_text())["next"] == 7


def test_a_broken_promise_is_told_with_the_command_that_shows_it_again(capsys: pytest.CaptureFixture[str]) -> None:
    part = Throws(breaks=2)
    state = running._attack("numbers", part, 3, None, fresh=True)
    assert running._summary({"numbers": part}, {"numbers": state}, 3) == 1
    told = capsys.readouterr()
    assert "python -m tests.torture numbers --seed 3 --case 2" in told.err
    assert "BROKEN in case 2: Broken: a seven was thrown" in told.out
    assert state["counts"]["throws"] == 5


def test_a_part_that_did_nothing_has_not_passed() -> None:
    part = Throws()
    state = running._attack("numbers", part, 1, 0.0, fresh=True)
    assert running._summary({"numbers": part}, {"numbers": state}, 1) == 1


def test_each_part_says_what_it_attacks_and_is_tried_in_the_usual_tests() -> None:
    for name, part in all_parts().items():
        assert part.TITLE
        assert part.GOAL > 0
        assert (Path(__file__).parent / f"test_{name}.py").exists(), f"parts/{name}.py has no test"
