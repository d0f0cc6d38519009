"""Run systems side by side: a closed loop of workers each, interleaved over rounds, each run checked afterwards.

Each run is a process of its own (loops.py) with a file of its own, so that no two SQLite libraries ever meet on one
file and memory is clean. What it wrote is counted by another process: `lost` is what was acknowledged and is not
there, or is there twice; a wrong sum counts as lost too. Reads are checked where they arrive.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import accumulate, cycle, islice
from random import Random
from typing import Any

from benchmarks import files
from benchmarks.files import BIG_KEYS, KEYS
from benchmarks.output import publish

WORKERS = 25
REPEAT_WRITES = 0.01
TICK_S = 0.01
SCATTERED_OPS = 5_000
FILLING_S = 1.5
"""Systems that keep results read for so long before repeated reads are counted; that time is a row of its own."""
PATIENCE_S = 5.0
"""So long after the end calls may finish; then they are cut off, and have waited at least that long."""
CROWDED = 5_000
"""So many workers get twice the time: each shall have its turn several times."""

BUSY = 0.05
"""Where others used more of the processors than this, figures say little."""

ENGINES = ("raw", "raw-grouped")
PEERS = ("sqlite3", "aiosqlite", "aiosqlitepool", "asqlite", "sqlalchemy")
KEEPING = ("millpond", "millpond-sync")
SYSTEMS = (*ENGINES, *PEERS, *KEEPING)
UNGROUPED = tuple(system for system in SYSTEMS if system != "raw-grouped")
QUICK = ("raw", "aiosqlite", "millpond")

READ = "SELECT id, name, n FROM item WHERE id = ?"
ROWS = "SELECT id, name, n FROM item WHERE id >= ? LIMIT ?"
INSERT = "INSERT INTO log(item) VALUES (?)"
UPDATE = "UPDATE item SET n = n + 1 WHERE id = ?"
HEAVY = "SELECT count(*), sum(n), max(name) FROM item WHERE id BETWEEN ? AND ? + 2000"
prepare = files.prepare


@dataclass(frozen=True, slots=True)
class Scenario:
    """name: read, repeat, rows, scattered, write, transaction, single or mixed. full: synchronous=FULL.

    read: each key as likely as the other, nothing kept; repeat: Zipf's keys, and 1 % writes to another table;
    rows: so many rows per result; scattered: few reads of a large file, which is in the page cache or (cold) not.
    """

    name: str
    full: bool = True
    workers: int = WORKERS
    processes: int = 1
    rows: int = 1
    cold: bool = False
    systems: tuple[str, ...] | None = None
    """Those that are measured; None: all of the question."""
    rounds: int = 3
    """At most so many; a point of a curve that no bar hangs on needs fewer."""
    quick: bool = True
    """Is it measured for a first look too?"""

    @property
    def writes(self) -> bool:
        return self.name in ("write", "transaction", "single", "mixed")

    @property
    def act(self) -> str:
        """What a worker does, whatever the crowd."""
        durability = (" FULL" if self.full else " NORMAL") if self.writes else ""
        rows = f" {self.rows:,}" if self.name == "rows" else ""
        state = (" cold" if self.cold else " hot") if self.name == "scattered" else ""
        return f"{self.name}{durability}{rows}{state}"

    @property
    def title(self) -> str:
        crowd = f" {self.workers:,} worker{'s' * (self.workers > 1)}" if self.workers != WORKERS else ""
        processes = f" {self.processes} processes" if self.processes > 1 else ""
        return f"{self.act}{crowd}{processes}"


@dataclass(slots=True)
class Row:
    """One line of a result."""

    system: str
    scenario: str
    act: str
    workers: int
    processes: int = 1
    per_result: int = 1
    ops: int = 0
    seconds: float = 0.0
    ops_per_s: float = 0.0
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0
    first_ms: float = 0.0
    """From opening to the first row."""
    late_p99_ms: float | None = None
    errors: int = 0
    lost: int = 0
    unfinished: int = 0
    """Calls that were cut off when patience ended; percentiles count how long they had waited until then."""
    evenness: float | None = None
    """Operations of the slowest process by those of the fastest."""
    spread: float = 0.0
    """The range of the rounds' rates by the median."""
    rates: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    missing: str | None = None


@dataclass(slots=True)
class Question:
    """A benchmark: its name, scenarios and systems. ratios: (scenario title, system, the one it is divided by)."""

    name: str
    scenarios: Sequence[Scenario]
    systems: Sequence[str] = SYSTEMS
    ratios: Sequence[tuple[str, str, str]] = field(default_factory=tuple)


def answer(question: Question, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run a benchmark from its command line; print it; return the result object."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{question.name}")
    parser.add_argument("--systems", default=",".join(question.systems), help="comma-separated")
    parser.add_argument("--workers", default="", help="only these crowds, comma-separated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="per system and round")
    parser.add_argument("--quick", action="store_true", help="one short round of the systems that matter most")
    parser.add_argument("--json", default=None, metavar="FILE", help="write the result object ('-': to stdout, alone)")
    args = parser.parse_args(argv)
    chosen = args.systems.split(",")
    unknown = set(chosen) - {*SYSTEMS, *question.systems}
    if unknown:
        parser.error(f"unknown system {', '.join(sorted(unknown))}; there are: {', '.join(question.systems)}")
    crowds = {int(number) for number in args.workers.split(",") if number}
    scenarios = [
        replace(s, systems=tuple(x for x in s.systems or question.systems if x in chosen))
        for s in question.scenarios
        if not crowds or s.workers in crowds
    ]
    if args.quick:
        scenarios, args.rounds, args.seconds = [quickly(s) for s in scenarios], 1, 0.4
    before = files.processor_times()
    rows = measure([s for s in scenarios if s.systems], args.rounds, args.seconds)
    settings = {"workers": WORKERS, "rounds": args.rounds, "seconds": args.seconds, "keys": KEYS}
    settings |= files.elsewhere(before)
    result = {
        "benchmark": question.name,
        "machine": machine(),
        "settings": settings,
        "rows": [asdict(row) for row in rows],
        "ratios": ratios(question, rows),
    }
    return publish(result, args.json, lambda: show(result, rows))


def quickly(scenario: Scenario) -> Scenario:
    """With the systems that a first look needs."""
    systems = [system for system in scenario.systems or () if system in QUICK or system.startswith("empty")]
    return replace(scenario, systems=tuple(systems) if scenario.quick else ())


def measure(scenarios: Sequence[Scenario], rounds: int, seconds: float) -> list[Row]:
    """Interleaved rounds; of each system and scenario the median round, with the spread of its rates."""
    found: dict[tuple[str, str], list[Row]] = {}
    for number in range(rounds):
        for scenario in scenarios:
            systems = scenario.systems or SYSTEMS
            if number >= scenario.rounds:
                continue
            for system in systems if number % 2 == 0 else reversed(systems):
                for row in one(system, scenario, seconds):
                    found.setdefault((row.scenario, system), []).append(row)
                    note = row.missing or f"{row.ops_per_s:,.0f}/s"
                    print(f"round {number + 1}: {row.scenario}: {system} {note}", file=sys.stderr)
    return [median(runs) for runs in found.values()]


def median(runs: list[Row]) -> Row:
    """The round of the middle rate, with what went wrong in any. Of an even number of rounds, the slower middle."""
    runs = sorted(runs, key=lambda row: row.ops_per_s)
    middle = runs[(len(runs) - 1) // 2]
    middle.errors = sum(row.errors for row in runs)
    middle.lost = sum(row.lost for row in runs)
    middle.unfinished = sum(row.unfinished for row in runs)
    middle.rates = [row.ops_per_s for row in runs]
    middle.p99s = sorted(row.p99_ms for row in runs)
    middle.first_ms = sorted(row.first_ms for row in runs)[(len(runs) - 1) // 2]
    lates = sorted(row.late_p99_ms for row in runs if row.late_p99_ms is not None)
    middle.late_p99_ms = lates[len(lates) // 2] if lates else None
    middle.spread = (middle.rates[-1] - middle.rates[0]) / middle.ops_per_s if middle.ops_per_s else 0.0
    return middle


def one(system: str, scenario: Scenario, seconds: float) -> list[Row]:
    """One run of one system in fresh processes, and the count of what it left: a row, and one of the filling."""
    blank = Row(system, scenario.title, scenario.act, scenario.workers * scenario.processes, scenario.processes)
    with tempfile.TemporaryDirectory(prefix="millpond-bench-", ignore_cleanup_errors=True) as folder:
        try:
            path = files.for_run(folder, large=scenario.name == "scattered", cold=scenario.cold)
        except files.NotCold as exc:
            return [replace(blank, missing=str(exc))]
        phases = [seconds * (2 if scenario.workers >= CROWDED else 1)]
        if scenario.name == "repeat" and system in KEEPING:
            phases.insert(0, FILLING_S)
        job = {"system": system, "path": path, "scenario": asdict(scenario), "phases": phases, "patience": PATIENCE_S}
        parts = start(job, folder, scenario.processes)
        missing = next((part["missing"] for part in parts if "missing" in part), None)
        if missing is not None:
            return [replace(blank, missing=missing)]
        rows = []
        for number in range(len(phases)):
            row = combine(blank, [part["phases"][number] for part in parts])
            row.first_ms = round(max(part["first_s"] for part in parts) * 1000, 3)
            row.per_result = scenario.rows
            if number < len(phases) - 1:
                row.scenario, row.act = f"{row.scenario} filling", f"{row.act} filling"
            rows.append(row)
        acknowledged = sum(phase["wrote"] for part in parts for phase in part["phases"])
        exact = not any(row.errors or row.unfinished for row in rows)
        rows[-1].lost = files.verify(path, acknowledged, scenario.name, exact=exact)
        return rows


def start(job: dict[str, Any], folder: str, processes: int) -> list[dict[str, Any]]:
    """Start the processes, let them begin together when all are open, and read what they found."""
    children: list[subprocess.Popen[str]] = []
    for number in range(processes):
        spec = json.dumps({**job, "out": os.path.join(folder, f"latencies-{number}")})
        command = [sys.executable, "-m", "benchmarks.loops", spec]
        children.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
    greetings = [child.stdout.readline() for child in children if child.stdout]
    parts: list[dict[str, Any]] = []
    for child in children:
        if child.stdin and child.poll() is None:
            child.stdin.write("go\n")
            child.stdin.flush()
    for child, greeting in zip(children, greetings, strict=True):
        out, err = child.communicate(timeout=sum(job["phases"]) * 10 + 60)
        if child.returncode:
            raise RuntimeError(f"{job['system']} {job['scenario']['name']} failed:\n{err[-2000:]}")
        parts.append(json.loads((greeting if "missing" in greeting else out).splitlines()[-1]))
    return parts


def combine(blank: Row, parts: list[dict[str, Any]]) -> Row:
    """A phase of all processes as one row."""
    latencies: list[float] = []
    for part in parts:
        taken = array.array("d")
        with open(part["latencies"], "rb") as file:
            taken.frombytes(file.read())
        latencies += taken
    latencies.sort()
    ops = [part["ops"] for part in parts]
    seconds = max(part["seconds"] for part in parts)
    late = [part["late_p99_ms"] for part in parts if part["late_p99_ms"] is not None]
    return replace(
        blank,
        ops=sum(ops),
        seconds=round(seconds, 3),
        ops_per_s=round(sum(ops) / seconds, 1) if seconds else 0.0,
        p50_ms=ms(latencies, 0.50),
        p95_ms=ms(latencies, 0.95),
        p99_ms=ms(latencies, 0.99),
        max_ms=ms(latencies, 1.0),
        late_p99_ms=max(late) if late else None,
        errors=sum(part["errors"] for part in parts),
        unfinished=sum(part["unfinished"] for part in parts),
        evenness=round(min(ops) / max(ops), 3) if len(ops) > 1 and max(ops) else None,
    )


def ms(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000, 4) if ordered else 0.0


def single_sql(scenario_mixed: bool) -> str:
    """A single write is an INSERT, in the mix an UPDATE."""
    return UPDATE if scenario_mixed else INSERT


def keys(worker: int, *, zipf: bool = False, crowd: int = WORKERS) -> Iterator[int]:
    """A worker's keys, the same in each run: drawn evenly, or by Zipf's law with exponent 1. Fewer each in a crowd."""
    chance = Random(worker)
    number = max(16, 4_001 * WORKERS // max(WORKERS, crowd))
    if not zipf:
        return cycle(chance.choices(range(1, KEYS + 1), k=number))
    ranked, weights = ranks()
    return cycle(chance.choices(ranked, cum_weights=weights, k=number))


@cache
def ranks() -> tuple[list[int], list[float]]:
    """The keys by rank, and Zipf's weights added up."""
    return Random(0).sample(range(1, KEYS + 1), KEYS), list(accumulate(1 / rank for rank in range(1, KEYS + 1)))


def scattered_keys(worker: int, workers: int) -> Iterator[int]:
    """A worker's share of keys of the large file, none twice."""
    drawn = Random(0).sample(range(1, BIG_KEYS + 1), SCATTERED_OPS)
    return islice(drawn, worker, None, workers)


def machine() -> dict[str, Any]:
    import apsw

    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": files.processor(),
        "cores": os.cpu_count(),
        "sqlite_apsw": apsw.sqlite_lib_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def ratios(question: Question, rows: Sequence[Row]) -> dict[str, float]:
    """The question's own, and how a crowd of Millpond's compares with 25 workers."""
    rate = {(row.scenario, row.system): row.ops_per_s for row in rows}
    found: dict[str, float] = {}
    for scenario, system, beside in question.ratios:
        over, under = rate.get((scenario, system)), rate.get((scenario, beside))
        if over and under:
            found[f"{scenario}: {system}/{beside}"] = round(over / under, 2)
    for row in rows:
        few = rate.get((row.act, row.system))
        if row.system == "millpond" and few and row.processes == 1 and row.workers != WORKERS:
            found[f"{row.act}: {row.workers:,}/{WORKERS} workers"] = round(row.ops_per_s / few, 2)
    return found


def show(result: dict[str, Any], rows: Sequence[Row]) -> None:
    print(f"\n{result['benchmark']}: {result['settings']['rounds']} rounds, median")
    print(f"{'scenario':30} {'system':14} {'ops/s':>10} {'+-':>5} {'p50 ms':>8} {'p95':>8} {'p99':>8} {'max':>8} "
          f"{'late p99':>8} {'errors':>6} {'lost':>5}")  # fmt: skip
    for row in rows:
        if row.missing:
            print(f"{row.scenario:30} {row.system:14} missing: {row.missing}")
            continue
        late = f"{row.late_p99_ms:8.2f}" if row.late_p99_ms is not None else " " * 8
        print(f"{row.scenario:30} {row.system:14} {row.ops_per_s:10,.0f} {row.spread:5.0%} {row.p50_ms:8.3f} "
              f"{row.p95_ms:8.3f} {row.p99_ms:8.3f} {row.max_ms:8.2f} {late} {row.errors:6} {row.lost:5}"
              + (f"  {row.unfinished:,} cut off after {PATIENCE_S:g} s" if row.unfinished else ""))  # fmt: skip
    for name, ratio in result["ratios"].items():
        print(f"  {name} = {ratio:g}")
    if result["settings"]["others"] > BUSY:
        print(f"other programs used {result['settings']['others']:.0%} of the processors meanwhile: do not trust this")
