"""What do heavy reads do to point reads beside them, and how many lanes are best for them?

One event loop makes awaited point reads, one after another, each of them timed. Beside it 20 callers make heavy
reads: scans, results of 10,000 rows, waits for storage (simulated by a function that waits in SQLite), or all of
these. Fixed numbers of lanes stand beside Millpond's tokens. What streams take is asked of a process of its own.

A loop that reads without a pause wants a core and the interpreter for itself: more lanes then do more heavy reads by
taking them from it. So the same is asked with a pause between the point reads, where that is not what differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

from benchmarks.bars import Bar, Finder, NotMeasured, Rows, figure
from benchmarks.files import KEYS
from benchmarks.harness import READ, TICK_S, machine, ms, prepare
from benchmarks.output import publish

CALLERS = 20
WARM_UP_S = 0.4
SCANNED = 100_000
STREAMED = 1_000_000
MOST_P999_MS = 1.0
FIXED = (1, 2, 4, 20)
STEERED = "millpond"

SCAN = "SELECT count(*), sum(k), max(length(body)) FROM big WHERE body LIKE '%zzz%'"
ROWS = "SELECT id, name, n FROM item"
STORAGE = "SELECT waited_for_storage(20)"
PAUSE_S = 0.0003
SCENARIOS: dict[str, tuple[list[str], float]] = {
    "scans": ([SCAN], 0.0),
    "scans, pauses": ([SCAN], PAUSE_S),
    "rows": ([ROWS], 0.0),
    "rows, pauses": ([ROWS], PAUSE_S),
    "storage": ([STORAGE], 0.0),
    "mixed": ([ROWS, SCAN, STORAGE, STORAGE, STORAGE], 0.0),
}
"""What the heavy reads are, and the pause between two point reads."""
QUICK = ("scans", "scans, pauses", "rows", "rows, pauses")


def best_share(scenario: str) -> Finder:
    """Heavy reads per second by those of the best fixed number of lanes."""

    def found(rows: Rows) -> float:
        fixed = [row["ops_per_s"] for row in rows.all if row["scenario"] == scenario and row["system"] != STEERED]
        if not fixed:
            raise NotMeasured
        return rows.figure(scenario, STEERED, "ops_per_s") / float(max(fixed))

    return found


BARS = [
    *(
        bar
        for what in ("scans", "rows")
        for bar in (
            Bar(f"point reads beside {what}, P99.9 (ms)", figure(what, "read_p999_ms"), "<=", MOST_P999_MS),
            Bar(f"{what} / best fixed number of lanes", best_share(f"{what}, pauses"), ">=", 0.8),
        )
    ),
    Bar("stream of 1,000,000 rows, first (ms)", figure("stream", "first_ms"), "<=", 5),
    Bar("stream of 1,000,000 rows, peak above idle (MiB)", figure("stream", "peak_mib"), "<=", 30),
]
FILL = """
import sys, apsw
db = apsw.Connection(sys.argv[1])
db.execute("BEGIN; CREATE TABLE big(id INTEGER PRIMARY KEY, body TEXT, k INTEGER);"
           "CREATE TABLE long(id INTEGER PRIMARY KEY, name TEXT)")
db.execute("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ?) INSERT INTO big(body, k) "
           "SELECT 'the body of row number ' || i || ', which is not found', i % 97 FROM c", (int(sys.argv[2]),))
db.execute("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < ?) INSERT INTO long "
           "SELECT i, 'name ' || i FROM c", (int(sys.argv[3]),))
db.execute("COMMIT")
"""


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run all of it from a command line; print it; return the result object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heavy")
    parser.add_argument("--scenarios", default=";".join(SCENARIOS), help="separated by semicolons")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.8, help="per system and round")
    parser.add_argument("--quick", action="store_true", help="one short round of scans and rows")
    parser.add_argument("--json", default=None, metavar="FILE", help="write the result object ('-': to stdout, alone)")
    args = parser.parse_args(argv)
    chosen = list(QUICK) if args.quick else args.scenarios.split(";")
    unknown = set(chosen) - set(SCENARIOS)
    if unknown:
        parser.error(f"unknown scenario {', '.join(sorted(unknown))}; there are: {'; '.join(SCENARIOS)}")
    if args.quick:
        args.rounds, args.seconds = 1, 0.5
    with tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder:
        path = os.path.join(folder, "bench.db")
        prepare(path)
        subprocess.run([sys.executable, "-c", FILL, path, str(SCANNED), str(STREAMED)], check=True)
        rows = beside(path, chosen, args.rounds, args.seconds)
        streams = [stream(path, system, args.rounds) for system in (STEERED, "millpond-sync")]
    result = {
        "benchmark": "heavy",
        "machine": machine(),
        "settings": {
            "callers": CALLERS, "rounds": args.rounds, "seconds": args.seconds, "pause_ms": PAUSE_S * 1000,
            "scanned": SCANNED, "streamed": STREAMED,
        },
        "rows": [*rows, *streams],
        "ratios": ratios(rows),
    }  # fmt: skip
    return publish(result, args.json, lambda: show(result))


def beside(path: str, scenarios: Sequence[str], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Interleaved rounds of each number of lanes and of the tokens; of each the median of every figure."""
    systems = [(STEERED, 0), *[(f"{lanes} lane{'s' * (lanes > 1)}", lanes) for lanes in FIXED]]
    rows = []
    for scenario in scenarios:
        found: dict[str, list[dict[str, Any]]] = {name: [] for name, _ in systems}
        for number in range(rounds):
            for name, lanes in systems if number % 2 == 0 else reversed(systems):
                part = child("beside", path, scenario, lanes, seconds)
                found[name].append(part)
                print(
                    f"round {number + 1}: {scenario}: {name} {part['ops_per_s']:,.0f}/s, point reads "
                    f"{part['reads_per_s']:,.0f}/s, P99.9 {part['read_p999_ms']:.2f} ms",
                    file=sys.stderr,
                )
        rows += [middle(name, scenario, found[name]) for name, _ in systems]
    return rows


def stream(path: str, system: str, rounds: int) -> dict[str, Any]:
    """A stream read to its end, in a process of its own."""
    return middle(system, "stream", [child("stream", path, system) for _ in range(rounds)])


def middle(system: str, scenario: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure, but for what must never happen; the spread of the rates."""
    row: dict[str, Any] = {"system": system, "scenario": scenario}
    for key in parts[0]:
        values = sorted(part[key] for part in parts)
        row[key] = sum(values) if key in ("errors", "lost") else values[len(values) // 2]
    rates = [part["ops_per_s"] for part in parts]
    row["spread"] = round((max(rates) - min(rates)) / row["ops_per_s"], 3) if row["ops_per_s"] else 0.0
    return row


def ratios(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Heavy reads by tokens, by those of the best fixed number of lanes: of all, and of those fair to point reads."""
    found: dict[str, float] = {}
    for scenario in dict.fromkeys(row["scenario"] for row in rows):
        (mine,) = [r for r in rows if r["scenario"] == scenario and r["system"] == STEERED]
        fixed = [r for r in rows if r["scenario"] == scenario and r["system"] != STEERED]
        fair = [r for r in fixed if r["read_p999_ms"] <= MOST_P999_MS]
        for label, among in (("best", fixed), ("best of those with P99.9 within 1 ms", fair)):
            best = max((r["ops_per_s"] for r in among), default=0.0)
            if best:
                found[f"{scenario}: {STEERED}/{label}"] = round(mine["ops_per_s"] / best, 2)
        reads = max(r["reads_per_s"] for r in fixed if r["ops_per_s"] == max(r["ops_per_s"] for r in fixed))
        if reads:
            found[f"{scenario}: point reads of {STEERED}/of the best"] = round(mine["reads_per_s"] / reads, 2)
    return found


def show(result: dict[str, Any]) -> None:
    print(f"\nheavy: {CALLERS} callers, {result['settings']['rounds']} rounds, median")
    print(f"{'scenario':26} {'system':14} {'heavy/s':>9} {'+-':>5} {'p50 ms':>8} {'p99':>8} | {'reads/s':>9} "
          f"{'p50 ms':>8} {'p99':>8} {'p99.9':>8} {'late p99':>8} {'lanes':>5} {'errors':>6} {'lost':>5}")  # fmt: skip
    for row in result["rows"]:
        if "reads_per_s" in row:
            print(f"{row['scenario']:26} {row['system']:14} {row['ops_per_s']:9,.1f} {row['spread']:5.0%} "
                  f"{row['p50_ms']:8.2f} {row['p99_ms']:8.2f} | {row['reads_per_s']:9,.0f} {row['read_p50_ms']:8.3f} "
                  f"{row['read_p99_ms']:8.3f} {row['read_p999_ms']:8.3f} {row['late_p99_ms']:8.2f} {row['lanes']:5} "
                  f"{row['errors']:6} {row['lost']:5}")  # fmt: skip
        else:
            print(f"{row['scenario']:26} {row['system']:14} {row['ops_per_s']:9,.0f} {row['spread']:5.0%} rows/s, "
                  f"first after {row['first_ms']:.2f} ms, {row['peak_mib']:.1f} MiB above idle, "
                  f"{row['errors']} errors, {row['lost']} lost")  # fmt: skip
    for name, ratio in result["ratios"].items():
        print(f"  {name} = {ratio:g}")


def child(*args: Any) -> dict[str, Any]:
    """One run, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.heavy", "--child", json.dumps(args)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{args} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


async def run_beside(path: str, scenario: str, lanes: int, seconds: float) -> dict[str, Any]:
    """Heavy reads beside point reads. lanes: a fixed number of them, 0 for tokens."""
    from millpond import Database, Settings

    with_storage_function()
    if lanes:
        with_fixed_lanes(lanes)
    latencies: list[float] = []
    heavy: list[float] = []
    late: list[float] = []
    errors = lost = 0
    kinds, pause_s = SCENARIOS[scenario]
    expected = {SCAN: 0, ROWS: KEYS, STORAGE: 1}
    running = True

    async with Database(path, Settings(cache_bytes=0)) as db:
        begins = time.perf_counter() + WARM_UP_S
        end = begins + seconds

        async def reader() -> None:
            nonlocal lost
            clock = time.perf_counter
            keys = cycle(Random(1).choices(range(1, KEYS + 1), k=4_001))
            while (then := clock()) < end:
                key = next(keys)
                row = await db.fetch_one(READ, (key,))
                if then >= begins:
                    latencies.append(clock() - then)
                lost += row is None or row[0] != key
                if pause_s:
                    await asyncio.sleep(pause_s)

        async def caller(number: int) -> None:
            nonlocal errors, lost
            while (then := time.perf_counter()) < end:
                sql = kinds[number % len(kinds)]
                number += 1
                try:
                    rows = await db.fetch_all(sql)
                except Exception as exc:
                    print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
                    errors += 1
                    continue
                if then >= begins:
                    heavy.append(time.perf_counter() - then)
                lost += (rows[-1][0] if sql is not ROWS else len(rows)) != expected[sql]

        async def ticker() -> None:
            loop = asyncio.get_running_loop()
            while running:
                due = loop.time() + TICK_S
                await asyncio.sleep(TICK_S)
                if time.perf_counter() >= begins:
                    late.append(loop.time() - due)

        tick = asyncio.create_task(ticker())
        await asyncio.gather(reader(), *(caller(number) for number in range(CALLERS)))
        took = time.perf_counter() - begins
        running = False
        await tick
        opened = db.stats().lanes
    for values in (latencies, heavy, late):
        values.sort()
    waited = latencies or [took]  # not one of them came to its end
    return {
        "workers": CALLERS, "ops": len(heavy), "seconds": round(took, 3), "ops_per_s": round(len(heavy) / took, 1),
        "p50_ms": ms(heavy, 0.50), "p95_ms": ms(heavy, 0.95), "p99_ms": ms(heavy, 0.99), "max_ms": ms(heavy, 1.0),
        "reads_per_s": round(len(latencies) / took, 1), "read_p50_ms": ms(waited, 0.50),
        "read_p99_ms": ms(waited, 0.99), "read_p999_ms": ms(waited, 0.999), "read_max_ms": ms(waited, 1.0),
        "late_p99_ms": ms(late, 0.99), "lanes": opened, "errors": errors, "lost": lost,
    }  # fmt: skip


def with_fixed_lanes(lanes: int) -> None:
    """From now on databases run so many heavy reads at once, whatever they use."""
    from millpond.engine.sqlite import lanes as room
    from millpond.engine.sqlite.holdback import Holdback
    from millpond.scheduling.tokens import TokenQueue

    class Fixed(TokenQueue[Any]):
        __slots__ = ()

        def next(self, now: float, running: Any, unasked: Any = ()) -> Any:
            heads = sorted((line.rank, number) for number, line in enumerate(self._lines) if line)
            return self._lines[heads[0][1]].peek() if heads else None

    class FixedLanes(room.Lanes):
        def __init__(self, host: room.LanesHost) -> None:
            super().__init__(host)
            self._queue = Fixed(1)
            self.holdback = Holdback(self._lock, self._queue, self._lanes, self._assign)
            self._limit = lanes

    from millpond.engine.sqlite import engine

    vars(engine)["Lanes"] = FixedLanes


def with_storage_function() -> None:
    """From now on readers know a function that waits as a slow disk would."""
    from millpond.engine.sqlite.connection import Connection
    from millpond.engine.sqlite.engine import Engine

    never = threading.Event()
    real, known = Engine.open_reader, Engine.open_known_reader

    def waited(*wait_ms: Any) -> int:
        return int(not never.wait(wait_ms[0] / 1000))

    def taught(connection: Connection) -> Connection:
        connection.db.create_scalar_function("waited_for_storage", waited)
        return connection

    # The loop's reader is asked what a statement is, so it must know the function too.
    Engine.open_reader = lambda self: taught(real(self))  # type: ignore[method-assign]  # for this process
    Engine.open_known_reader = lambda self, wait_ms: taught(known(self, wait_ms))  # type: ignore[method-assign]  # same


def resident_mib() -> tuple[float, float]:
    """Now, and the most so far."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines())
    return int(status["VmRSS"].split()[0]) / 1024, int(status["VmHWM"].split()[0]) / 1024


async def run_stream(path: str, system: str) -> dict[str, Any]:
    """A stream of all rows, read as fast as they come."""
    sql = "SELECT id, name FROM long ORDER BY id"
    count = total = 0
    if system == "millpond-sync":
        from millpond.sync import Database as ForThreads

        with ForThreads(path) as threads_db:
            threads_db.fetch_value("SELECT 1")
            idle, _ = resident_mib()
            began = time.perf_counter()
            first_s = 0.0
            for row in threads_db.iterate(sql):
                first_s = first_s or time.perf_counter() - began
                count += 1
                total += row[0]
    else:
        from millpond import Database

        async with Database(path) as db:
            await db.fetch_value("SELECT 1")
            idle, _ = resident_mib()
            began = time.perf_counter()
            first_s = 0.0
            async for row in db.iterate(sql):
                first_s = first_s or time.perf_counter() - began
                count += 1
                total += row[0]
    took = time.perf_counter() - began
    _, peak = resident_mib()
    return {
        "workers": 1, "ops": count, "seconds": round(took, 3), "ops_per_s": round(count / took, 1),
        "first_ms": round(first_s * 1000, 3), "idle_mib": round(idle, 1), "peak_mib": round(peak - idle, 1),
        "errors": 0, "lost": abs(STREAMED - count) + abs(STREAMED * (STREAMED + 1) // 2 - total),
    }  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        kind, *given = json.loads(sys.argv[2])
        print(json.dumps(asyncio.run(run_beside(*given) if kind == "beside" else run_stream(*given))))
    else:
        main()
