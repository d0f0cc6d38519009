"""Figures, verdict and words of the demonstration."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.cli.demo_progress import figures, progress, what_runs
from millpond.cli.demo_text import blocks_of, compared
from millpond.cli.documents import json_schema
from millpond.cli.terminal import Screen
from millpond.cli.view import show
from millpond.demo.conduct import Phase, Plan, Progress
from millpond.demo.outcome import Outcome, SideOutcome, Verified, percentile, summarise

GOOD = Verified(
    acknowledged=1000, found=1000, lost=0, failed_but_stored=0, messages=1000, xp=12_345, sums_agree=True,
    uneven_rows=0, integrity_check="ok",
)  # fmt: skip
AFTER = SideOutcome(
    system="millpond", workers=25, processes=1, ops=990, seconds=2.0, mean_ms=5.0, p50_ms=4.0, p95_ms=8.0, p99_ms=12.0,
    max_ms=31.0, late_p99_ms=2.0, errors=0, locked=0, reasons={}, verified=GOOD,
)  # fmt: skip
BEFORE = replace(
    AFTER, system="sqlite3", ops=100, mean_ms=50.0, p50_ms=2.0, p95_ms=100.0, p99_ms=600.0, max_ms=5100.0,
    late_p99_ms=None, errors=300, locked=299, reasons={"OperationalError: database is locked": 299},
    verified=replace(GOOD, acknowledged=100, found=100, messages=100),
)  # fmt: skip
MACHINE = {
    "cpus": 2, "system": "Linux x86_64", "python": "3.11.7", "sqlite3": "3.40.1", "millpond_sqlite": "3.54.1.0",
    "filesystem": "ext4",
}  # fmt: skip
OUTCOME = Outcome(Plan(seed=7).settings(), MACHINE, BEFORE, AFTER)


def text_of(outcome: Outcome, width: int = 80, colour: bool = False, symbols: bool = True) -> str:
    stream = io.StringIO()
    show(blocks_of(outcome), stream, Screen(colour, moving=False, symbols=symbols, width=width))
    return stream.getvalue()


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200).map(sorted), st.floats(0.1, 100))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], percent: float) -> None:
    found = percentile(values, percent)
    assert found in values
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-6
    assert sum(value < found for value in values) <= len(values) * percent / 100


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def said(**facts: Any) -> dict[str, Any]:
    return {"seconds": 2.0, "errors": 0, "locked": 0, "reasons": {}, "late_p99_ms": None} | facts


def test_the_parts_of_several_processes_make_one_side() -> None:
    parts = [said(errors=1, locked=1, reasons={"a": 1}, late_p99_ms=3.0), said(errors=2, reasons={"a": 1, "b": 1})]
    finished = [(0.5, 0.010), (1.0, 0.020), (1.5, 0.030), (2.1, 4.0)]
    side = summarise("millpond", 25, parts, finished, GOOD)
    assert (side.processes, side.ops, side.ops_per_s) == (2, 3, 1.5)
    assert (side.p50_ms, side.max_ms, side.late_p99_ms) == (20.0, 4000.0, 3.0)
    assert (side.errors, side.locked, side.reasons) == (3, 1, {"a": 2, "b": 1})
    assert side.mean_ms == pytest.approx(1015.0)


def test_a_side_that_did_nothing_has_no_times_and_is_not_good() -> None:
    side = summarise("millpond", 25, [said(seconds=0.0)], [], replace(GOOD, acknowledged=0, found=0))
    assert (side.ops, side.ops_per_s, side.p50_ms, side.max_ms) == (0, 0.0, None, None)
    assert not side.good


@pytest.mark.parametrize(
    "spoilt",
    [
        replace(AFTER, errors=1),
        replace(AFTER, verified=replace(GOOD, lost=1, found=999)),
        replace(AFTER, verified=replace(GOOD, uneven_rows=1)),
        replace(AFTER, verified=replace(GOOD, sums_agree=False)),
        replace(AFTER, verified=replace(GOOD, failed_but_stored=1)),
        replace(AFTER, verified=replace(GOOD, integrity_check="page 7 is never used")),
    ],
)
def test_millpond_is_judged_without_mercy(spoilt: SideOutcome) -> None:
    outcome = replace(OUTCOME, after=spoilt)
    assert not outcome.good
    assert text_of(outcome).lstrip().startswith("FAILED: Millpond did not keep its word")
    assert "In your own bot" not in text_of(outcome)


def test_how_sqlite3_fared_is_told_and_not_judged() -> None:
    assert OUTCOME.good
    assert replace(OUTCOME, before=replace(BEFORE, errors=0, locked=0)).good


def test_ratios_say_how_many_times_better_millpond_was() -> None:
    assert OUTCOME.ratios() == {
        "ops_per_s": 9.9, "mean": 10.0, "p50": 0.5, "p95": 12.5, "p99": 50.0, "max": pytest.approx(164.516),
    }  # fmt: skip
    assert replace(OUTCOME, after=None).ratios() == {}
    assert "p50" not in replace(OUTCOME, before=replace(BEFORE, p50_ms=None)).ratios()


@pytest.mark.parametrize(
    "outcome",
    [
        OUTCOME,
        replace(OUTCOME, after=None, interrupted=True),
        replace(OUTCOME, before=None, after=None, interrupted=True),
        replace(OUTCOME, before=replace(BEFORE, p50_ms=None, mean_ms=None, p95_ms=None, p99_ms=None, max_ms=None)),
    ],
)
def test_the_document_follows_its_schema(outcome: Outcome) -> None:
    schema = json_schema("demo")
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(outcome.document(), schema)


def test_the_text_has_verdict_table_proof_and_what_to_do() -> None:
    text = text_of(OUTCOME)
    for words in (
        "Millpond did 1,000 events, 0 errors, 0 lost: 9.9 times the work of sqlite3.",
        'sqlite3 said "database is locked" 299 times and dropped 75 % of its events.',
        "9.9x more",
        "5.10 s",
        "sqlite3's P50: short for those who get through",
        "found again in the file",
        'async with millpond.Database("bot.db") as db:',
        "Again: millpond demo --seed 7.",
    ):
        assert words in text, words


@pytest.mark.parametrize("width", [60, 80, 100])
def test_nothing_is_wider_than_the_screen(width: int) -> None:
    for outcome in (OUTCOME, replace(OUTCOME, after=None, interrupted=True)):
        lines = text_of(outcome, width=max(width, 80) if width < 80 else width).splitlines()
        assert max(map(len, lines)) <= max(width, 80)


def test_without_colour_there_is_no_escape_and_with_it_words_stay() -> None:
    assert "\x1b" not in text_of(OUTCOME)
    assert "\x1b[32m" in text_of(OUTCOME, colour=True)
    assert "0 errors, 0 lost" in text_of(OUTCOME, colour=True)


def test_a_poor_terminal_gets_ascii() -> None:
    assert text_of(OUTCOME, symbols=False).isascii()


def test_an_interrupted_run_says_so_and_has_what_there_is() -> None:
    text = text_of(replace(OUTCOME, after=None, interrupted=True))
    assert text.lstrip().startswith("Interrupted.")
    assert "100" in text
    assert text_of(replace(OUTCOME, before=None, after=None, interrupted=True)).count("\n") < 8


def test_a_failure_of_millpond_is_named() -> None:
    text = text_of(replace(OUTCOME, after=replace(AFTER, errors=2, reasons={"InternalError: the writer failed": 2})))
    assert "2 x InternalError: the writer failed" in text


def test_a_side_without_errors_is_not_accused() -> None:
    text = text_of(replace(OUTCOME, before=replace(BEFORE, errors=0, locked=0)))
    assert "sqlite3 did 100 events without an error; its slowest event took 5.10 s." in text


def test_the_command_to_repeat_it_has_what_was_not_usual() -> None:
    plan = Plan(workers=4, seconds=3.0, processes=2, seed=9, tuned=True)
    text = text_of(replace(OUTCOME, settings=plan.settings(), folder="kept", notes=("The files were in memory.",)))
    assert "Again: millpond demo --seed 9 --workers 4 --seconds 3 --processes 2 --tuned." in text
    assert "The databases are in kept." in text
    assert "Again: millpond demo --data 'my logs/chat.tsv.gz'." in text_of(replace(OUTCOME, data="my logs/chat.tsv.gz"))
    assert "The files were in memory." in text


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (10, 30, "3.0x more"),
        (30, 10, "3.0x fewer"),
        (100, 103, "the same"),
        (1, 250, "250x more"),
        (0, 5, ""),
        (None, 5, ""),
    ],
)
def test_a_comparison_is_in_words(before: float | None, after: float | None, words: str) -> None:
    assert compared(before, after, "more", "fewer") == words


def test_what_runs_is_said_as_it_is() -> None:
    assert "timeout 5 s, no WAL" in what_runs(Plan(), Phase.BEFORE)
    assert "WAL, timeout 30 s, BEGIN IMMEDIATE" in what_runs(Plan(tuned=True), Phase.BEFORE)
    assert "full durability" in what_runs(Plan(), Phase.AFTER)
    assert "4 processes" in what_runs(Plan(processes=4), Phase.AFTER)
    assert "counts again" in what_runs(Plan(), Phase.CHECKING)


def test_figures_tell_rate_errors_and_time_left() -> None:
    told = Progress(Phase.BEFORE, elapsed_s=2.0, seconds=8.0, ops=1000, errors=3, locked=3)
    assert figures(told) == "500 events/s, 3 locked, 6 s left"
    assert "4 errors" in figures(replace(told, errors=4))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def tell_all(stream: io.StringIO, quiet: bool = False) -> str:
    with progress(Plan(seed=7), stream, quiet=quiet) as tell:
        for phase in (Phase.BEFORE, Phase.AFTER):
            for quarter in range(1, 33):
                tell(Progress(phase, elapsed_s=quarter / 4, seconds=8.0, ops=10 * quarter))
            tell(Progress(Phase.CHECKING))
    return stream.getvalue()


def test_without_a_terminal_progress_is_a_plain_line_every_two_seconds() -> None:
    text = tell_all(io.StringIO())
    assert text.splitlines()[0] == "millpond demo: 25 workers, twice 8 s, a made-up chat, seed 7"
    assert sum("events/s" in line for line in text.splitlines()) == 8
    assert "\r" not in text
    assert "\x1b" not in text


def test_quiet_is_quiet() -> None:
    assert tell_all(io.StringIO(), quiet=True) == ""


@pytest.mark.parametrize("rich", [True, False])
def test_on_a_terminal_one_line_moves(monkeypatch: pytest.MonkeyPatch, rich: bool) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("millpond.cli.demo_progress.has_rich", lambda: rich)
    text = tell_all(Terminal())
    assert "40 events/s" in text
    assert ("\x1b[" in text) == rich
    assert "before: sqlite3" in text
    assert "after: Millpond" in text


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    text = tell_all(Terminal())
    assert "\r" not in text
    assert "\x1b" not in text
