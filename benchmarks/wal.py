"""How long does the write-ahead log get under endless writes beside readers that are never all gone?

25 workers write (INSERT and UPDATE) as fast as they can; at any moment some readers are in the middle of something:
four callers take one snapshot of two seconds after another, half a second apart; or four read streams; or four
scan all the time. Each variant runs as Millpond is by default, and with holds switched off: then the log grows.

Each run is a process of its own. It checks that snapshots and streams saw one commit from their beginning to their
end; another process counts what was written.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.bars import Bar, Finder
from benchmarks.files import verify
from benchmarks.harness import INSERT, TICK_S, UPDATE, keys, machine, ms, prepare
from benchmarks.output import publish

LIMIT_MIB = 64


def most(key: str) -> Finder:
    """The largest figure of all rows of Millpond's."""
    return lambda rows: max(float(row[key]) for row in rows.all if row["system"] == "millpond")


BARS = [
    Bar("log beside rolling readers (MiB)", most("log_max_mib"), "<=", LIMIT_MIB),
    Bar("snapshots that were torn", most("torn"), "<=", 0),
]
"""The bar, and the default of wal_limit_bytes."""
WORKERS = 25
READERS = 4
READ_S = 2.0
SAMPLE_S = 0.02
SCENARIOS = ("none FULL", "snapshots FULL", "streams FULL", "scans FULL", "snapshots NORMAL")
SYSTEMS = ("millpond", "unbounded")
SCAN = "SELECT (SELECT count(*) FROM log) + sum(a.n) FROM item a, (SELECT id FROM item LIMIT 30) b"


class Load:
    """What one run does to a database, and what it sees of it."""

    def __init__(self, path: str, durability: str, seconds: float) -> None:
        self.log = path + "-wal"
        self.full = "full" if durability == "FULL" else "normal"
        self.end = time.monotonic() + seconds
        self.over = False
        self.latencies: list[float] = []
        self.waits: list[float] = []
        self.late: list[float] = []
        self.checkpoints: list[float] = []
        self.torn = self.longest = 0

    def observe(self, event: Any) -> None:
        if type(event).__name__ == "Checkpointed":
            self.checkpoints.append(event.seconds)

    async def writer(self, db: Any, number: int) -> None:
        drawn = keys(number)
        while time.monotonic() < self.end:
            key = next(drawn)

            def job(tx: Any, key: int = key) -> None:
                tx.execute(INSERT, (key,))
                tx.execute(UPDATE, (key,))

            began = time.perf_counter()
            await db.write(job, durability=self.full)
            self.latencies.append(time.perf_counter() - began)

    async def snapshots(self, db: Any, number: int) -> None:
        """The sum and the count are written together, and are asked for two seconds apart."""
        await asyncio.sleep(number * READ_S / READERS)
        while time.monotonic() < self.end:
            began = time.perf_counter()
            async with db.snapshot() as snap:
                logged = await snap.fetch_value("SELECT count(*) FROM log")
                self.waits.append(time.perf_counter() - began)
                await asyncio.sleep(READ_S)
                self.torn += await snap.fetch_value("SELECT total(n) FROM item") != logged

    async def streams(self, db: Any, number: int) -> None:
        """The same of 10,000 rows, read with ten pauses."""
        await asyncio.sleep(number * READ_S / READERS)
        while time.monotonic() < self.end:
            began = time.perf_counter()
            total = rows = 0
            logged = None
            async for row in db.iterate("SELECT n, (SELECT count(*) FROM log) AS logged FROM item"):
                if logged is None:
                    self.waits.append(time.perf_counter() - began)
                    logged = row.logged
                rows += 1
                total += row.n
                if rows % 1_000 == 0:
                    await asyncio.sleep(READ_S / 10)
            self.torn += total != logged

    async def scans(self, db: Any, _number: int) -> None:
        while time.monotonic() < self.end:
            began = time.perf_counter()
            await db.fetch_value(SCAN, cache=False)
            self.waits.append(time.perf_counter() - began)

    async def none(self, _db: Any, _number: int) -> None:
        return

    async def sample(self) -> None:
        while not self.over:
            self.longest = max(self.longest, os.stat(self.log).st_size)
            await asyncio.sleep(SAMPLE_S)

    async def ticker(self) -> None:
        loop = asyncio.get_running_loop()
        while not self.over:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self.late.append(loop.time() - due)

    async def run(self, db: Any, readers: str) -> float:
        """Seconds that the writers took."""
        read = {"none": self.none, "snapshots": self.snapshots, "streams": self.streams, "scans": self.scans}[readers]
        beside = [asyncio.create_task(self.sample()), asyncio.create_task(self.ticker())]
        reading = [asyncio.create_task(read(db, number)) for number in range(READERS)]
        began = time.monotonic()
        await asyncio.gather(*(self.writer(db, number) for number in range(WORKERS)))
        took = time.monotonic() - began
        await asyncio.gather(*reading)
        self.over = True
        await asyncio.gather(*beside)
        for figures in (self.latencies, self.waits, self.late, self.checkpoints):
            figures.sort()
        return took


async def run(path: str, scenario: str, system: str, seconds: float) -> dict[str, Any]:
    """One run, in a process of its own."""
    from millpond import Database, Settings

    readers, durability = scenario.split()
    load = Load(path, durability, seconds)
    settings = Settings(log_hold_s=0.0) if system == "unbounded" else Settings()
    async with Database(path, settings, observers=[load.observe]) as db:
        took = await load.run(db, readers)
        stats = db.stats()
    return {
        "ops": len(load.latencies),
        "seconds": round(took, 3),
        "ops_per_s": round(len(load.latencies) / took, 1),
        "p50_ms": ms(load.latencies, 0.5),
        "p95_ms": ms(load.latencies, 0.95),
        "p99_ms": ms(load.latencies, 0.99),
        "max_ms": ms(load.latencies, 1.0),
        "late_p99_ms": ms(load.late, 0.99),
        "log_max_mib": round(load.longest / 2**20, 1),
        "reads": len(load.waits),
        "read_p50_ms": ms(load.waits, 0.5),
        "read_max_ms": ms(load.waits, 1.0),
        "checkpoints": len(load.checkpoints),
        "checkpoint_pages": stats.checkpoint_pages,
        "checkpoint_p50_ms": ms(load.checkpoints, 0.5),
        "checkpoint_max_ms": ms(load.checkpoints, 1.0),
        "holds": stats.log_holds,
        "held_s": round(stats.log_held_s, 2),
        "paced_s": round(stats.log_paced_s, 2),
        "errors": stats.errors,
        "torn": load.torn,
    }


def one(system: str, scenario: str, seconds: float) -> dict[str, Any]:
    """A run in a fresh process on a fresh file, and what another process finds in the file."""
    with tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder:
        path = os.path.join(folder, "bench.db")
        prepare(path)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.wal", "--child", path, scenario, system, str(seconds)],
            capture_output=True, text=True, check=False, timeout=seconds * 4 + 60,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{system} {scenario} failed:\n{done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        found["lost"] = verify(path, found["ops"], "write", exact=True)
        return {"system": system, "scenario": scenario, "workers": WORKERS, **found}


def measure(scenarios: Sequence[str], systems: Sequence[str], rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Interleaved rounds; the median one by its rate, but the longest log of all."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for number in range(rounds):
        for scenario in scenarios:
            for system in systems if number % 2 == 0 else list(reversed(systems)):
                row = one(system, scenario, seconds)
                found.setdefault((scenario, system), []).append(row)
                note = f"{row['ops_per_s']:,.0f}/s, log {row['log_max_mib']} MiB"
                print(f"round {number + 1}: {scenario}: {system} {note}", file=sys.stderr)
    rows = []
    for runs in found.values():
        runs.sort(key=lambda row: float(row["ops_per_s"]))
        middle = runs[len(runs) // 2]
        rates = [row["ops_per_s"] for row in runs]
        middle["spread"] = round((max(rates) - min(rates)) / middle["ops_per_s"], 2)
        middle["log_max_mib"] = max(row["log_max_mib"] for row in runs)
        for name in ("errors", "lost", "torn"):
            middle[name] = sum(row[name] for row in runs)
        rows.append(middle)
    return rows


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.wal", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="per run")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="Millpond beside snapshots alone, 3 seconds each")
    parser.add_argument("--long", action="store_true", help="60 seconds each, as Millpond is by default alone")
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="comma-separated")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="comma-separated")
    parser.add_argument("--json", default=None, metavar="FILE", help="write the result object ('-': to stdout, alone)")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        path, scenario, system, seconds = args.child
        print(json.dumps(asyncio.run(run(path, scenario, system, float(seconds)))))
        return {}
    if args.quick:
        args.scenarios, args.systems, args.seconds = "snapshots FULL,snapshots NORMAL", "millpond", 3.0
    seconds = 60.0 if args.long else args.seconds
    systems = ["millpond"] if args.long else args.systems.split(",")
    rows = measure(args.scenarios.split(","), systems, args.rounds, seconds)
    rate = {(row["scenario"], row["system"]): row["ops_per_s"] for row in rows}
    result: dict[str, Any] = {
        "benchmark": "wal",
        "machine": machine(),
        "settings": {"workers": WORKERS, "readers": READERS, "read_s": READ_S, "seconds": seconds,
                     "rounds": args.rounds, "limit_mib": LIMIT_MIB},
        "rows": rows,
        "ratios": {
            f"{scenario}: millpond/unbounded": round(found / rate[scenario, "unbounded"], 2)
            for (scenario, system), found in rate.items()
            if system == "millpond" and rate.get((scenario, "unbounded"))
        },
    }  # fmt: skip
    return publish(result, args.json, lambda: show(result))


COLUMNS = (
    ("log max", "log_max_mib", 8, 1), ("writes/s", "ops_per_s", 9, 0), ("p50", "p50_ms", 7, 2), ("p99", "p99_ms", 7, 2),
    ("max", "max_ms", 7, 0), ("late p99", "late_p99_ms", 9, 2), ("read p50", "read_p50_ms", 9, 1),
    ("max", "read_max_ms", 6, 0), ("copies", "checkpoints", 7, 0), ("p50", "checkpoint_p50_ms", 6, 1),
    ("max", "checkpoint_max_ms", 5, 0), ("lost", "lost", 5, 0), ("torn", "torn", 5, 0),
)  # fmt: skip
"""Title, name in the row, width, digits."""


def show(result: dict[str, Any]) -> None:
    seconds = result["settings"]["seconds"]
    print(f"wal: {WORKERS} workers write for {seconds:g} s; the log in MiB (bar: {LIMIT_MIB}), times in ms")
    print(f"{'readers':17} {'system':10}" + "".join(f"{title:>{width}}" for title, _, width, _ in COLUMNS))
    for row in result["rows"]:
        figures = "".join(f"{row[name]:{width},.{digits}f}" for _, name, width, digits in COLUMNS)
        print(f"{row['scenario']:17} {row['system']:10}{figures}")
    for name, ratio in result["ratios"].items():
        print(f"  {name} = {ratio:g}")


def verdict(result: dict[str, Any]) -> int:
    """1 if the bar is missed, or anything was lost or torn."""
    mine = [row for row in result["rows"] if row["system"] == "millpond"]
    bad = [row for row in mine if row["log_max_mib"] > LIMIT_MIB]
    bad += [row for row in result["rows"] if row["errors"] or row["lost"] or row["torn"]]
    for row in bad:
        print(f"MISSED: {row['scenario']} {row['system']}: log {row['log_max_mib']} MiB, {row['errors']} errors, "
              f"{row['lost']} lost, {row['torn']} torn", file=sys.stderr)  # fmt: skip
    return 1 if bad else 0


if __name__ == "__main__":
    found = main()
    sys.exit(verdict(found) if found else 0)
