"""All benchmarks, and the bars that they are held to: python -m benchmarks [--quick]."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import bulk, memory, mixed, processes, reads, writes
from benchmarks.harness import answer

OUT = Path(__file__).parent / "out"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--quick", action="store_true", help="one short round of the systems that matter most")
    args = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    results: dict[str, Any] = {}
    for question in (reads.QUESTION, writes.QUESTION, mixed.QUESTION, processes.QUESTION):
        argv = ["--json", str(OUT / f"{question.name}.json")]
        argv += ["--seconds", "0.7"]
        if args.quick:
            few = [s for s in ("raw", "aiosqlite", "millpond") if s in question.systems]
            argv += ["--rounds", "1", "--seconds", "0.4", "--systems", ",".join(few)]
        results[question.name] = answer(question, argv)
    results["bulk"] = bulk.main(["--json", str(OUT / "bulk.json"), *(["--quick"] if args.quick else [])])
    results["memory"] = memory.main(["--json", str(OUT / "memory.json")])
    return verdict(results)


def verdict(results: dict[str, Any]) -> int:
    """Each bar with what was found; 1 if one was missed."""
    rows = {(r["scenario"], r["system"]): r for result in results.values() for r in result["rows"]}

    def rate(scenario: str, beside: str) -> float:
        return float(rows[scenario, "millpond"]["ops_per_s"]) / float(rows[scenario, beside]["ops_per_s"])

    def own(scenario: str, key: str) -> float:
        return float(rows[scenario, "millpond"][key])

    bars: list[tuple[str, float, str, float]] = [
        ("point reads / aiosqlite", rate("read", "aiosqlite"), ">=", 8),
        ("point reads / raw loop", rate("read", "raw"), ">=", 0.5),
        ("write(fn) FULL / aiosqlite", rate("write FULL", "aiosqlite"), ">=", 8),
        ("write(fn) FULL / raw ungrouped", rate("write FULL", "raw"), ">=", 3),
        ("transactions FULL / aiosqlite", rate("transaction FULL", "aiosqlite"), ">=", 8),
        ("transactions FULL / raw ungrouped", rate("transaction FULL", "raw"), ">=", 3),
        ("mixed P95 (ms)", own("mixed FULL", "p95_ms"), "<=", 5),
        ("4 processes, P99 / aiosqlite's", own("write FULL 4 processes", "p99_ms")
         / float(rows["write FULL 4 processes", "aiosqlite"]["p99_ms"]), "<=", 0.2),
        ("idle memory (MiB)", float(rows["idle", "millpond"]["resident_mib"]), "<=", memory.LIMIT_MIB),
    ]  # fmt: skip
    bars += [
        (f"ticker late P99, {scenario} (ms)", own(scenario, "late_p99_ms"), "<=", 10)
        for scenario in ("read", "write FULL", "transaction FULL", "mixed FULL")
    ]
    mine = [row for (_, system), row in rows.items() if system == "millpond" and "errors" in row]
    bars.append(("errors", sum(row["errors"] for row in mine), "<=", 0))
    bars.append(("lost", sum(row["lost"] for row in mine), "<=", 0))
    print("\nthe bars")
    missed = 0
    for name, found, way, bar in bars:
        holds = found >= bar if way == ">=" else found <= bar
        missed += not holds
        print(f"  {'ok    ' if holds else 'MISSED'} {name:42} {found:8.2f} {way} {bar:g}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
