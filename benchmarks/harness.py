"""Run systems side by side: a closed loop of workers each, interleaved over rounds, each run checked afterwards.

Each run is a process of its own with a fresh file, so that no two SQLite libraries ever meet on one file and
memory is clean. What it wrote is counted by another process: `lost` is what was acknowledged and is not there,
a wrong sum counts as lost too.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate, cycle
from pathlib import Path
from random import Random, random
from typing import Any, Protocol

KEYS = 10_000
REPEAT_WRITES = 0.01
TICK_S = 0.01
SYSTEMS = (
    "raw",
    "raw-grouped",
    "sqlite3",
    "aiosqlite",
    "aiosqlitepool",
    "asqlite",
    "sqlalchemy",
    "millpond",
    "millpond-sync",
)


class System(Protocol):
    """A way to use SQLite, as the benchmarks drive it. Two statements make one write: INSERT and UPDATE."""

    async def open(self, path: str, full: bool, workers: int) -> None: ...
    async def close(self) -> None: ...
    async def read(self, key: int) -> Any: ...
    async def write(self, key: int) -> None: ...
    async def transaction(self, key: int) -> None: ...
    async def single(self, key: int) -> None: ...
    async def heavy(self, key: int) -> Any: ...


class Blocking(Protocol):
    """A way without an event loop: it runs the whole loop itself and gives back latencies (s) and errors."""

    def run(self, path: str, scenario: Scenario, end_s: float) -> tuple[list[float], int]: ...


@dataclass(frozen=True, slots=True)
class Scenario:
    """name: read, repeat, write, transaction, single or mixed. full: synchronous=FULL.

    read: each key as likely as the other, nothing kept; repeat: Zipf's keys, and 1 % writes to another table.
    """

    name: str
    full: bool = True
    workers: int = 25
    processes: int = 1

    @property
    def title(self) -> str:
        durability = "" if self.name in ("read", "repeat") else (" FULL" if self.full else " NORMAL")
        crowd = f" {self.processes} processes" if self.processes > 1 else ""
        return f"{self.name}{durability}{crowd}"


@dataclass(slots=True)
class Row:
    """One line of a result."""

    system: str
    scenario: str
    workers: int
    ops: int
    seconds: float
    ops_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    late_p99_ms: float | None
    errors: int
    lost: int
    spread: float = 0.0
    missing: str | None = None


@dataclass(slots=True)
class Question:
    """A benchmark: its name, scenarios and systems. ratios: (label, scenario title, system, beside)."""

    name: str
    scenarios: Sequence[Scenario]
    systems: Sequence[str] = SYSTEMS
    ratios: Sequence[tuple[str, str, str]] = field(default_factory=tuple)
    """(scenario title, system, the system that it is divided by)"""


def answer(question: Question, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run a benchmark from its command line; print it; return the result object."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{question.name}")
    parser.add_argument("--systems", default=",".join(question.systems), help="comma-separated")
    parser.add_argument("--workers", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="per system and round")
    parser.add_argument("--json", default=None, metavar="FILE", help="write the result object ('-': to stdout, alone)")
    args = parser.parse_args(argv)
    chosen = args.systems.split(",")
    unknown = set(chosen) - set(SYSTEMS)
    if unknown:
        parser.error(f"unknown system {', '.join(sorted(unknown))}; there are: {', '.join(SYSTEMS)}")
    scenarios = [Scenario(s.name, s.full, args.workers, s.processes) for s in question.scenarios]
    rows = measure(scenarios, chosen, args.rounds, args.seconds)
    result = {
        "benchmark": question.name,
        "machine": machine(),
        "settings": {"workers": args.workers, "rounds": args.rounds, "seconds": args.seconds, "keys": KEYS},
        "rows": [asdict(row) for row in rows],
        "ratios": ratios(question, rows),
    }
    if args.json == "-":
        print(json.dumps(result))
    else:
        show(result, rows)
        if args.json:
            Path(args.json).parent.mkdir(parents=True, exist_ok=True)
            Path(args.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def measure(scenarios: Sequence[Scenario], systems: Sequence[str], rounds: int, seconds: float) -> list[Row]:
    """Interleaved rounds; of each system and scenario the median round, with the spread of its rates."""
    found: dict[tuple[str, str], list[Row]] = {}
    for number in range(rounds):
        for scenario in scenarios:
            order = list(systems) if number % 2 == 0 else list(reversed(systems))
            for system in order:
                row = one(system, scenario, seconds)
                found.setdefault((scenario.title, system), []).append(row)
                note = row.missing or f"{row.ops_per_s:,.0f}/s"
                print(f"round {number + 1}: {scenario.title}: {system} {note}", file=sys.stderr)
    rows: list[Row] = []
    for scenario in scenarios:
        for system in systems:
            runs = sorted(found[scenario.title, system], key=lambda row: row.ops_per_s)
            middle = runs[len(runs) // 2]
            middle.errors = sum(row.errors for row in runs)
            middle.lost = sum(row.lost for row in runs)
            rates = [row.ops_per_s for row in runs]
            lates = sorted(row.late_p99_ms for row in runs if row.late_p99_ms is not None)
            middle.late_p99_ms = lates[len(lates) // 2] if lates else None
            middle.spread = (max(rates) - min(rates)) / middle.ops_per_s if middle.ops_per_s else 0.0
            rows.append(middle)
    return rows


def one(system: str, scenario: Scenario, seconds: float) -> Row:
    """One run of one system in fresh processes on a fresh file, and the count of what it left."""
    folder = tempfile.mkdtemp(prefix="millpond-bench-")
    path = os.path.join(folder, "bench.db")
    try:
        prepare(path)
        start = time.time() + 0.4 + 0.1 * scenario.processes
        children = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.harness", system, path, scenario.name, str(int(scenario.full)),
                 str(scenario.workers), str(seconds), str(start)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for _ in range(scenario.processes)
        ]  # fmt: skip
        parts: list[dict[str, Any]] = []
        for child in children:
            out, err = child.communicate(timeout=seconds * 10 + 60)
            if child.returncode:
                raise RuntimeError(f"{system} {scenario.title} failed:\n{err[-2000:]}")
            parts.append(json.loads(out.splitlines()[-1]))
        missing = next((part["missing"] for part in parts if "missing" in part), None)
        if missing is not None:
            return Row(system, scenario.title, scenario.workers, 0, 0, 0, 0, 0, 0, 0, None, 0, 0, 0, missing)
        return combine(system, scenario, parts, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def combine(system: str, scenario: Scenario, parts: list[dict[str, Any]], path: str) -> Row:
    latencies = sorted(x for part in parts for x in part["latencies"])
    ops = len(latencies)
    seconds = max(part["seconds"] for part in parts)
    late = [part["late_p99_ms"] for part in parts if part["late_p99_ms"] is not None]
    acknowledged = sum(part["wrote"] for part in parts)
    return Row(
        system=system,
        scenario=scenario.title,
        workers=scenario.workers * scenario.processes,
        ops=ops,
        seconds=round(seconds, 3),
        ops_per_s=round(ops / seconds, 1) if seconds else 0.0,
        p50_ms=ms(latencies, 0.50),
        p95_ms=ms(latencies, 0.95),
        p99_ms=ms(latencies, 0.99),
        max_ms=ms(latencies, 1.0),
        late_p99_ms=max(late) if late else None,
        errors=sum(part["errors"] for part in parts),
        lost=verify(path, acknowledged, scenario),
    )


def ms(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 4) if ordered else 0.0


PREPARE = """
import sys, apsw
db = apsw.Connection(sys.argv[1])
db.pragma("journal_mode", "wal")
db.execute("BEGIN; CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT NOT NULL, n INTEGER NOT NULL DEFAULT 0);"
           "CREATE TABLE log(id INTEGER PRIMARY KEY, item INTEGER NOT NULL)")
db.executemany("INSERT INTO item(id, name) VALUES (?, ?)", ((i, f"item {i}") for i in range(1, int(sys.argv[2]) + 1)))
db.execute("COMMIT")
"""
COUNT = """
import json, sys, apsw
db = apsw.Connection(sys.argv[1])
print(json.dumps(db.execute("SELECT (SELECT count(*) FROM log), (SELECT total(n) FROM item), "
                 "(SELECT integrity_check FROM pragma_integrity_check)").fetchall()[0]))
"""


def prepare(path: str) -> None:
    subprocess.run([sys.executable, "-c", PREPARE, path, str(KEYS)], check=True)


def verify(path: str, acknowledged: int, scenario: Scenario) -> int:
    """Ask another process what is in the file: acknowledged writes that are missing, or half there."""
    out = subprocess.run([sys.executable, "-c", COUNT, path], check=True, capture_output=True, text=True).stdout
    logged, total, verdict = json.loads(out)
    if verdict != "ok":
        raise RuntimeError(f"integrity_check: {verdict}")
    if scenario.name == "read":
        return 0
    halves = abs(int(total) - int(logged)) if scenario.name in ("write", "transaction") else 0
    present = int(total) if scenario.name == "mixed" else int(logged)
    return max(0, acknowledged - present) + halves


def child(argv: Sequence[str]) -> None:
    """In a process of its own: one system, one scenario."""
    system, path, name, full, workers, seconds, start = argv
    scenario = Scenario(name, bool(int(full)), int(workers))
    try:
        module = importlib.import_module(f"benchmarks.peers.{system.replace('-', '_')}")
    except ImportError as exc:
        print(json.dumps({"missing": f"not installed: {exc.name}"}))
        return
    peer: Any = module.make()
    peer.mixed = name == "mixed"
    peer.cached = name == "repeat"
    if hasattr(peer, "run"):
        time.sleep(max(0.0, float(start) - time.time()))  # noqa: TID251  # all processes begin at one time
        began = time.perf_counter()
        latencies, errors = peer.run(path, scenario, float(seconds))
        report(latencies, time.perf_counter() - began, None, errors, peer.wrote)
        return
    asyncio.run(closed_loop(peer, path, scenario, float(seconds), float(start)))


async def closed_loop(peer: System, path: str, scenario: Scenario, seconds: float, start: float) -> None:
    await peer.open(path, scenario.full, scenario.workers)
    act = ACTS[scenario.name]
    drawn = [keys(number, zipf=scenario.name == "repeat") for number in range(scenario.workers)]
    for key in range(1, 6):
        await peer.read(key)  # each system may warm up its caches and its plans
    await asyncio.sleep(max(0.0, start - time.time()))
    latencies: list[float] = []
    late: list[float] = []
    errors = wrote = 0
    began = time.perf_counter()
    end = began + seconds
    running = True

    async def ticker() -> None:
        loop = asyncio.get_running_loop()
        while running:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            late.append(loop.time() - due)

    async def worker(number: int) -> None:
        nonlocal errors, wrote
        mine = drawn[number]
        while (then := time.perf_counter()) < end:
            try:
                wrote += await act(peer, next(mine))
            except Exception as exc:
                if not errors:
                    print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
                errors += 1
            else:
                latencies.append(time.perf_counter() - then)

    tick = asyncio.create_task(ticker())
    await asyncio.gather(*(worker(i) for i in range(scenario.workers)))
    took = time.perf_counter() - began
    running = False
    await tick
    await peer.close()
    late.sort()
    report(latencies, took, ms(late, 0.99), errors, wrote)


def report(latencies: list[float], seconds: float, late: float | None, errors: int, wrote: int) -> None:
    print(
        json.dumps({"latencies": latencies, "seconds": seconds, "late_p99_ms": late, "errors": errors, "wrote": wrote})
    )


Act = Callable[[System, int], Awaitable[int]]


async def _read(peer: System, key: int) -> int:
    row = await peer.read(key)
    assert row[0] == key
    return 0


async def _write(peer: System, key: int) -> int:
    await peer.write(key)
    return 1


async def _transaction(peer: System, key: int) -> int:
    await peer.transaction(key)
    return 1


async def _single(peer: System, key: int) -> int:
    await peer.single(key)
    return 1


async def _repeat(peer: System, key: int) -> int:
    if random() < REPEAT_WRITES:
        return await _single(peer, key)
    return await _read(peer, key)


async def _mixed(peer: System, key: int) -> int:
    """70 % point reads, 25 % writes, 5 % aggregates over 2,000 rows."""
    dice = key % 20
    if dice < 14:
        return await _read(peer, key)
    if dice < 19:
        await peer.single(key)
        return 1
    await peer.heavy(key)
    return 0


ACTS: dict[str, Act] = {
    "read": _read, "repeat": _repeat, "write": _write, "transaction": _transaction, "single": _single, "mixed": _mixed,
}  # fmt: skip

READ = "SELECT id, name, n FROM item WHERE id = ?"
INSERT = "INSERT INTO log(item) VALUES (?)"
UPDATE = "UPDATE item SET n = n + 1 WHERE id = ?"
HEAVY = "SELECT count(*), sum(n), max(name) FROM item WHERE id BETWEEN ? AND ? + 2000"


def single_sql(scenario_mixed: bool) -> str:
    """A single write is an INSERT, in the mix an UPDATE."""
    return UPDATE if scenario_mixed else INSERT


def keys(worker: int, *, zipf: bool = False) -> Iterator[int]:
    """A worker's keys, the same in each run: drawn evenly, or by Zipf's law with exponent 1."""
    chance = Random(worker)
    if not zipf:
        return cycle(chance.choices(range(1, KEYS + 1), k=4_001))
    ranked = Random(0).sample(range(1, KEYS + 1), KEYS)
    return cycle(chance.choices(ranked, cum_weights=list(accumulate(1 / rank for rank in range(1, KEYS + 1))), k=4_001))


def machine() -> dict[str, Any]:
    import apsw

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "cores": os.cpu_count(),
        "sqlite_apsw": apsw.sqlite_lib_version(),
    }


def ratios(question: Question, rows: Sequence[Row]) -> dict[str, float]:
    rate = {(row.scenario, row.system): row.ops_per_s for row in rows}
    found: dict[str, float] = {}
    for scenario, system, beside in question.ratios:
        over, under = rate.get((scenario, system)), rate.get((scenario, beside))
        if over and under:
            found[f"{scenario}: {system}/{beside}"] = round(over / under, 2)
    return found


def show(result: dict[str, Any], rows: Sequence[Row]) -> None:
    print(f"\n{result['benchmark']}: {rows[0].workers} workers, {result['settings']['rounds']} rounds, median")
    print(f"{'scenario':26} {'system':14} {'ops/s':>10} {'+-':>5} {'p50 ms':>8} {'p95':>8} {'p99':>8} {'max':>8} "
          f"{'late p99':>8} {'errors':>6} {'lost':>5}")  # fmt: skip
    for row in rows:
        if row.missing:
            print(f"{row.scenario:26} {row.system:14} missing: {row.missing}")
            continue
        late = f"{row.late_p99_ms:8.2f}" if row.late_p99_ms is not None else " " * 8
        print(f"{row.scenario:26} {row.system:14} {row.ops_per_s:10,.0f} {row.spread:5.0%} {row.p50_ms:8.3f} "
              f"{row.p95_ms:8.3f} {row.p99_ms:8.3f} {row.max_ms:8.2f} {late} {row.errors:6} {row.lost:5}")  # fmt: skip
    for name, ratio in result["ratios"].items():
        print(f"  {name} = {ratio:g}")


if __name__ == "__main__":
    child(sys.argv[1:])
