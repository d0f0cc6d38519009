"""What a benchmark must reach, as data beside it, and the table of what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.harness import PEERS

Line = Mapping[str, Any]
Finder = Callable[["Rows"], float]
WAYS = {">=": "at least", "<=": "at most"}


class NotMeasured(Exception):
    """The rows that a bar speaks of are not there: a quick run, or a peer that is not installed."""


@dataclass(frozen=True, slots=True)
class Bar:
    """what: shown. found: takes it from the benchmark's rows. A bar is missed when it is not `way` the limit."""

    what: str
    found: Finder
    way: Literal[">=", "<="]
    limit: float


class Rows:
    """The rows of one or more benchmarks, by scenario and system. The system "best peer" is whichever peer did best."""

    def __init__(self, results: Iterable[Mapping[str, Any]]) -> None:
        self.all: list[Line] = [row for result in results for row in result["rows"]]
        self._known = {(row["scenario"], row["system"]): row for row in self.all}

    def figure(self, scenario: str, system: str, key: str) -> float:
        if system == "best peer":
            there = [self._known[scenario, peer] for peer in PEERS if (scenario, peer) in self._known]
            figures = [float(row[key]) for row in there if not row["missing"]]
            if not figures:
                raise NotMeasured
            return max(figures) if key == "ops_per_s" else min(figures)
        row = self._known.get((scenario, system))
        if row is None or row.get("missing") or row.get(key) is None:
            raise NotMeasured
        return float(row[key])


def figure(scenario: str, key: str, system: str = "millpond") -> Finder:
    """A figure of one row."""
    return lambda rows: rows.figure(scenario, system, key)


def ratio(scenario: str, beside: str, key: str = "ops_per_s", system: str = "millpond") -> Finder:
    """A system's figure by another's, in the same scenario."""
    return lambda rows: rows.figure(scenario, system, key) / rows.figure(scenario, beside, key)


def crowd(act: str, many: int, key: str = "ops_per_s") -> Finder:
    """Millpond's figure with so many workers by its own with 25."""
    return lambda rows: rows.figure(f"{act} {many:,} workers", "millpond", key) / rows.figure(act, "millpond", key)


def total(key: Literal["errors", "lost", "unfinished"]) -> Finder:
    """Over all rows of Millpond's."""
    return lambda rows: float(sum(row.get(key, 0) for row in rows.all if row["system"].startswith("millpond")))


def judge(bars: Sequence[Bar], rows: Rows) -> list[dict[str, Any]]:
    """Each bar with what was found, and by what share it was missed; found is None if it was not measured."""
    lines: list[dict[str, Any]] = []
    for bar in bars:
        try:
            found = bar.found(rows)
        except NotMeasured:
            lines.append({"bar": bar.what, "way": bar.way, "limit": bar.limit, "found": None})
            continue
        short = bar.limit - found if bar.way == ">=" else found - bar.limit
        line = {"bar": bar.what, "way": bar.way, "limit": bar.limit, "found": round(found, 4), "ok": short <= 0}
        lines.append(line if short <= 0 else {**line, "missed_by": round(short / bar.limit, 4) if bar.limit else None})
    return lines


def show(lines: Sequence[Mapping[str, Any]]) -> None:
    print("\nthe bars")
    print(f"  {'':6} {'':52} {'found':>10}    bar")
    for line in lines:
        if line["found"] is None:
            print(f"  {'-':6} {line['bar']:52} {'':>10} {line['way']} {line['limit']:g} (not measured)")
            continue
        verdict = "ok" if line["ok"] else "MISSED"
        by = f", missed by {line['missed_by']:.1%}" if line.get("missed_by") else ""
        print(f"  {verdict:6} {line['bar']:52} {line['found']:10.2f} {line['way']} {line['limit']:g}{by}")
