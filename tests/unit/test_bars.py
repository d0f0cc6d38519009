"""Bars of the benchmarks: held, missed and by how much, not measured."""

from __future__ import annotations

from typing import Any

from benchmarks import __main__ as everything
from benchmarks.bars import Bar, Rows, crowd, figure, judge, ratio, total


def row(scenario: str, system: str, rate: float, **more: Any) -> dict[str, Any]:
    return {"scenario": scenario, "system": system, "ops_per_s": rate, "missing": None, "errors": 0, **more}


def judged(bar: Bar, *rows: dict[str, Any]) -> dict[str, Any]:
    (line,) = judge([bar], Rows([{"rows": list(rows)}]))
    return line


def test_a_bar_that_is_missed_says_by_how_much() -> None:
    bar = Bar("reads", ratio("read", "raw"), ">=", 2)
    line = judged(bar, row("read", "millpond", 150), row("read", "raw", 100))
    assert (line["ok"], line["found"], line["missed_by"]) == (False, 1.5, 0.25)
    line = judged(Bar("tail", figure("read", "p99_ms"), "<=", 2), row("read", "millpond", 1, p99_ms=3.0))
    assert (line["ok"], line["missed_by"]) == (False, 0.5)


def test_a_bar_that_is_just_reached_holds() -> None:
    line = judged(Bar("reads", ratio("read", "raw"), ">=", 2), row("read", "millpond", 200), row("read", "raw", 100))
    assert line["ok"]
    assert "missed_by" not in line


def test_what_was_not_measured_is_neither_held_nor_missed() -> None:
    bar = Bar("reads", ratio("read", "raw"), ">=", 2)
    assert judged(bar, row("read", "millpond", 150))["found"] is None
    assert judged(bar, row("read", "millpond", 150), row("read", "raw", 0, missing="not installed"))["found"] is None


def test_the_best_peer_is_the_one_that_makes_the_bar_hardest() -> None:
    rows = [row("write FULL", "millpond", 100, p99_ms=1.0), row("write FULL", "raw", 1_000, p99_ms=0.1),
            row("write FULL", "aiosqlite", 20, p99_ms=5.0), row("write FULL", "sqlite3", 10, p99_ms=2.0)]  # fmt: skip
    assert judged(Bar("rate", ratio("write FULL", "best peer"), ">=", 1), *rows)["found"] == 5
    assert judged(Bar("tail", ratio("write FULL", "best peer", "p99_ms"), "<=", 1), *rows)["found"] == 0.5


def test_a_crowd_is_compared_with_25_workers() -> None:
    rows = [row("read", "millpond", 100), row("read 10,000 workers", "millpond", 90)]
    assert judged(Bar("crowd", crowd("read", 10_000), ">=", 0.9), *rows)["ok"]


def test_errors_of_either_facade_count_and_those_of_peers_do_not() -> None:
    rows = [row("read", system, 1, errors=errors) for system, errors in
            (("millpond", 1), ("millpond-sync", 2), ("aiosqlite", 4))]  # fmt: skip
    assert judged(Bar("errors", total("errors"), "<=", 0), *rows)["found"] == 3


def test_every_benchmark_has_its_bars_and_takes_the_options_that_all_take() -> None:
    for benchmark in everything.BENCHMARKS:
        assert all(isinstance(bar, Bar) for bar in benchmark.BARS), benchmark.__name__
        assert callable(benchmark.main)
