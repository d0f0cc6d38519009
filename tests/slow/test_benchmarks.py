"""The benchmarks' harness: a run counts what was done, and finds out a system that lies."""

from __future__ import annotations

import pytest

from benchmarks.harness import SCATTERED_OPS, Scenario, one

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("system", ["empty", "empty-threads"])
def test_a_system_that_acknowledges_what_it_did_not_write_is_found_out(system: str) -> None:
    (row,) = one(system, Scenario("write", workers=3), 0.05)
    assert row.lost == row.ops > 0


@pytest.mark.parametrize("system", ["raw", "raw-grouped", "aiosqlite", "sqlite3", "millpond", "millpond-sync"])
def test_an_honest_system_loses_nothing(system: str) -> None:
    (row,) = one(system, Scenario("write", workers=3), 0.1)
    assert row.ops > 0
    assert (row.lost, row.errors, row.unfinished) == (0, 0, 0)


def test_several_processes_are_one_row() -> None:
    (row,) = one("millpond", Scenario("write", workers=3, processes=2), 0.2)
    assert (row.workers, row.processes, row.lost) == (6, 2, 0)
    assert row.evenness is not None
    assert 0 < row.evenness <= 1


def test_the_filling_of_kept_results_is_a_row_of_its_own() -> None:
    filling, steady = one("millpond", Scenario("repeat"), 0.1)
    assert (filling.scenario, steady.scenario) == ("repeat filling", "repeat")
    assert filling.lost == steady.lost == 0
    assert min(filling.ops, steady.ops) > 0


@pytest.mark.parametrize("cold", [False, True])
def test_a_scattered_run_reads_each_key_once(cold: bool) -> None:
    (row,) = one("millpond", Scenario("scattered", workers=7, cold=cold), 30.0)
    if row.missing:
        pytest.skip(row.missing)
    assert (row.ops, row.errors) == (SCATTERED_OPS, 0)


def test_calls_that_take_for_ever_are_cut_off_and_their_waiting_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.harness.PATIENCE_S", 0.0)
    (row,) = one("aiosqlite", Scenario("write", workers=2_000), 0.1)
    assert row.unfinished > 0
    assert row.ops + row.unfinished >= 2_000
    assert row.max_ms >= 100
    assert row.lost == 0
