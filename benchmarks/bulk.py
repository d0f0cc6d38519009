"""What do small writes feel beside a bulk write, and what does the bulk write lose by them?

25 workers insert one row after another (FULL): alone, and while one `execute_many` brings many rows into a table
with an index on a random column: all or none (`atomic=True`), in slices (`atomic=False`), and in slices whose rows
come from a generator. Each run is a process of its own on a fresh file; what it left is counted by another one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

from benchmarks.bars import Bar
from benchmarks.harness import TICK_S, machine, ms
from benchmarks.output import publish
from millpond import Database, Settings

BARS: Sequence[Bar] = ()
ROWS = 200_000
QUICK_ROWS = 50_000
ALONE_S = 0.5
"""How long the small writes are measured alone."""
SCENARIOS = {
    "small alone": (True, ""),
    "atomic alone": (False, "atomic"),
    "slices alone": (False, "slices"),
    "beside atomic": (True, "atomic"),
    "beside slices": (True, "slices"),
    "beside slices of a generator": (True, "generator"),
}
"""Name: are there small writes, and what kind of bulk write."""

SCHEMA = """
CREATE TABLE log(id INTEGER PRIMARY KEY, worker INTEGER NOT NULL);
CREATE TABLE item(id INTEGER PRIMARY KEY, code INTEGER NOT NULL, name TEXT NOT NULL);
CREATE INDEX item_code ON item(code);
"""
SMALL = "INSERT INTO log(worker) VALUES (?)"
BULK = "INSERT INTO item(code, name) VALUES (?, ?)"
COUNT = """
import json, sys, apsw
db = apsw.Connection(sys.argv[1])
print(json.dumps(db.execute("SELECT (SELECT count(*) FROM log), (SELECT count(*) FROM item), (SELECT total(code) "
                 "FROM item), (SELECT integrity_check FROM pragma_integrity_check)").fetchall()[0]))
"""


def rows_of(number: int) -> Iterator[tuple[int, str]]:
    """The rows of the bulk write, the same in each run."""
    chance = Random(1)
    return ((chance.randrange(2**31), f"item {i}") for i in range(number))


async def child(path: str, scenario: str, workers: int, number: int) -> None:
    """In a process of its own: one scenario."""
    has_small, kind = SCENARIOS[scenario]
    late: list[float] = []
    latencies: list[float] = []
    wrote = errors = 0
    running = True
    async with Database(path, Settings(timeout_s=120.0)) as db:
        await db.execute_script(SCHEMA)
        rows: Any = rows_of(number) if kind == "generator" else list(rows_of(number))

        async def ticker() -> None:
            loop = asyncio.get_running_loop()
            while running:
                due = loop.time() + TICK_S
                await asyncio.sleep(TICK_S)
                late.append(loop.time() - due)

        async def small(worker: int) -> None:
            nonlocal wrote, errors
            while running:
                then = time.perf_counter()
                try:
                    await db.execute(SMALL, (worker,))
                    wrote += 1
                except Exception as exc:
                    print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
                    errors += 1
                latencies.append(time.perf_counter() - then)

        tasks = [asyncio.create_task(ticker())]
        tasks += [asyncio.create_task(small(worker)) for worker in range(workers if has_small else 0)]
        await asyncio.sleep(0.1)  # the small writes have proven to be cheap by then
        late.clear()
        latencies.clear()
        began = time.perf_counter()
        if kind:
            result = await db.execute_many(BULK, rows, atomic=kind == "atomic")
            assert result.rowcount == number
        else:
            await asyncio.sleep(ALONE_S)
        took = time.perf_counter() - began
        running = False
        await asyncio.gather(*tasks)
    print(json.dumps({"latencies": latencies, "late": late, "seconds": took, "wrote": wrote, "errors": errors}))


def one(scenario: str, workers: int, number: int) -> dict[str, Any]:
    """One run in fresh processes on a fresh file, and the count of what it left."""
    folder = tempfile.mkdtemp(prefix="millpond-bench-")
    path = os.path.join(folder, "bench.db")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.bulk", "--child", path, scenario, str(workers), str(number)],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{scenario} failed:\n{done.stderr[-2000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        bulk = number if SCENARIOS[scenario][1] else 0
        lost = verify(path, found["wrote"], bulk)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    latencies = sorted(found["latencies"])
    seconds = found["seconds"]
    return {
        "system": "millpond",
        "scenario": scenario,
        "workers": workers if SCENARIOS[scenario][0] else 0,
        "ops": len(latencies),
        "seconds": round(seconds, 3),
        "ops_per_s": round(len(latencies) / seconds, 1),
        "p50_ms": ms(latencies, 0.50),
        "p95_ms": ms(latencies, 0.95),
        "p99_ms": ms(latencies, 0.99),
        "max_ms": ms(latencies, 1.0),
        "late_p99_ms": ms(sorted(found["late"]), 0.99),
        "errors": found["errors"],
        "lost": lost,
        "bulk_rows": bulk,
        "bulk_rows_per_s": round(bulk / seconds, 1),
    }


def verify(path: str, acknowledged: int, bulk: int) -> int:
    """Ask another process what is in the file: what was acknowledged and is missing, or is there twice."""
    out = subprocess.run([sys.executable, "-c", COUNT, path], check=True, capture_output=True, text=True).stdout
    logged, items, total, verdict = json.loads(out)
    if verdict != "ok":
        raise RuntimeError(f"integrity_check: {verdict}")
    wrong_sum = bool(bulk) and total != sum(code for code, _ in rows_of(bulk))
    return abs(acknowledged - int(logged)) + abs(bulk - int(items)) + wrong_sum


def measure(workers: int, rounds: int, number: int) -> list[dict[str, Any]]:
    """Interleaved rounds; of each scenario the round in the middle, by the speed of what is measured in it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for turn in range(rounds):
        for scenario in list(SCENARIOS)[:: -1 if turn % 2 else 1]:
            row = one(scenario, workers, number)
            found.setdefault(scenario, []).append(row)
            print(f"round {turn + 1}: {scenario}: {row['bulk_rows_per_s']:,.0f} rows/s, small writes P99 "
                  f"{row['p99_ms']:.2f} ms", file=sys.stderr)  # fmt: skip
    rows: list[dict[str, Any]] = []
    for scenario in SCENARIOS:
        by = "bulk_rows_per_s" if SCENARIOS[scenario][1] else "ops_per_s"
        runs = sorted(found[scenario], key=lambda row: row[by])
        middle = runs[len(runs) // 2]
        for name in ("p50_ms", "p95_ms", "p99_ms", "max_ms", "late_p99_ms"):
            middle[name] = sorted(row[name] for row in runs)[len(runs) // 2]
        middle["errors"] = sum(row["errors"] for row in runs)
        middle["lost"] = sum(row["lost"] for row in runs)
        middle["spread"] = round((runs[-1][by] - runs[0][by]) / middle[by], 3)
        rows.append(middle)
    return rows


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    row = {row["scenario"]: row for row in rows}
    whole = row["atomic alone"]["bulk_rows_per_s"]
    found = {
        f"bulk speed: {name}/atomic alone": round(row[name]["bulk_rows_per_s"] / whole, 3)
        for name in SCENARIOS
        if row[name]["bulk_rows"] and name != "atomic alone"
    }
    for name in ("beside atomic", "beside slices", "beside slices of a generator"):
        found[f"small writes' P99: {name}/alone"] = round(row[name]["p99_ms"] / row["small alone"]["p99_ms"], 2)
    return found


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bulk")
    parser.add_argument("--workers", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=ROWS, help="of the bulk write")
    parser.add_argument("--quick", action="store_true", help=f"one round of {QUICK_ROWS:,} rows: a few seconds")
    parser.add_argument("--json", default=None, metavar="FILE", help="write the result object ('-': to stdout, alone)")
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds, args.rows = 1, QUICK_ROWS
    rows = measure(args.workers, args.rounds, args.rows)
    result = {
        "benchmark": "bulk",
        "machine": machine(),
        "settings": {"workers": args.workers, "rounds": args.rounds, "rows": args.rows,
                     "bulk_slice_ms": Settings().bulk_slice_ms},
        "rows": rows,
        "ratios": ratios(rows),
    }  # fmt: skip
    return publish(result, args.json, lambda: show(result))


def show(result: dict[str, Any]) -> None:
    print(f"\nbulk: {result['settings']['workers']} workers, {result['settings']['rows']:,} rows, "
          f"{result['settings']['rounds']} rounds, median")  # fmt: skip
    print(f"{'scenario':30} {'rows/s':>10} {'+-':>5} {'small/s':>8} {'p50 ms':>8} {'p95':>8} {'p99':>8} {'max':>8} "
          f"{'late p99':>8} {'errors':>6} {'lost':>5}")  # fmt: skip
    for row in result["rows"]:
        print(f"{row['scenario']:30} {row['bulk_rows_per_s']:10,.0f} {row['spread']:5.0%} {row['ops_per_s']:8,.0f} "
              f"{row['p50_ms']:8.3f} {row['p95_ms']:8.3f} {row['p99_ms']:8.3f} {row['max_ms']:8.2f} "
              f"{row['late_p99_ms']:8.2f} {row['errors']:6} {row['lost']:5}")  # fmt: skip
    for name, ratio in result["ratios"].items():
        print(f"  {name} = {ratio:g}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        asyncio.run(child(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
    else:
        main()
