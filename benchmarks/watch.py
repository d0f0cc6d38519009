"""How soon does a watcher have the next result, and what do watchers cost those who write?"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

from benchmarks.bars import Bar
from benchmarks.harness import INSERT, UPDATE, keys, machine, ms, prepare
from benchmarks.output import write
from millpond import Database, Transaction

WORKERS = 25
CROWD = 100
ELSEWHERE = "SELECT count(*) FROM quiet"
HERE = "SELECT n FROM item WHERE id = ?"
CASES = ("nobody watches", "1 watches another table", "100 watch another table", "100 watch this table")

BARS: Sequence[Bar] = ()

OTHER = """
import sys, time, apsw
db = apsw.Connection(sys.argv[1])
db.set_busy_timeout(5000)
for _ in sys.stdin:
    db.execute("UPDATE item SET n = n + 1 WHERE id = 1")
    print(time.monotonic(), flush=True)
"""


async def own(db: Database, times: int) -> tuple[list[float], list[float]]:
    """Seconds from the call of a write to its acknowledgement, and to the watcher's next result."""
    acknowledged, seen = [], []
    feed = db.watch(HERE, (1,))
    await anext(feed)

    async def following() -> float:
        await anext(feed)
        return time.monotonic()

    for _ in range(times):
        watching = asyncio.create_task(following())
        await asyncio.sleep(0.001)
        began = time.monotonic()
        await db.execute(UPDATE, (1,))
        acknowledged.append(time.monotonic() - began)
        seen.append(await watching - began)
    return acknowledged, seen


async def foreign(db: Database, path: str, times: int) -> list[float]:
    """Seconds from the end of another process's commit to the watcher's next result."""
    chance = Random(0)
    feed = db.watch(HERE, (1,))
    await anext(feed)
    seen = []
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OTHER, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdin is not None
    assert other.stdout is not None
    for _ in range(times):
        await asyncio.sleep(chance.random() * 0.04)
        other.stdin.write(b"\n")
        await anext(feed)
        now = time.monotonic()
        seen.append(now - float(await other.stdout.readline()))
    other.stdin.close()
    await other.wait()
    return seen


async def writes(db: Database, seconds: float) -> float:
    """write(fn) of two statements by 25 workers, per second."""
    end = time.perf_counter() + seconds

    async def worker(number: int) -> int:
        mine = keys(number)
        done = 0
        while time.perf_counter() < end:
            key = next(mine)

            def both(tx: Transaction, key: int = key) -> None:
                tx.execute(INSERT, (key,))
                tx.execute(UPDATE, (key,))

            await db.write(both)
            done += 1
        return done

    began = time.perf_counter()
    done = sum(await asyncio.gather(*map(worker, range(WORKERS))))
    return done / (time.perf_counter() - began)


async def beside(db: Database, case: str, seconds: float) -> tuple[float, float]:
    """Writes per second beside those who watch, and the watchers' queries per second."""

    async def watch(sql: str, params: Sequence[Any], has_begun: asyncio.Event) -> None:
        async for _ in db.watch(sql, params):
            has_begun.set()

    here = case == CASES[3]
    number = {CASES[0]: 0, CASES[1]: 1}.get(case, CROWD)
    begun = [asyncio.Event() for _ in range(number)]
    tasks = [
        asyncio.create_task(watch(HERE if here else ELSEWHERE, (i + 1,) if here else (), has_begun))
        for i, has_begun in enumerate(begun)
    ]
    await asyncio.gather(*(one.wait() for one in begun))
    asked = db.stats().watch_queries
    rate = await writes(db, seconds)
    asked = db.stats().watch_queries - asked
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return rate, asked / seconds


async def idle(db: Database, seconds: float) -> float:
    """The share of a core that one watcher takes while nothing happens."""
    feed = db.watch(ELSEWHERE)
    await anext(feed)
    before = time.process_time()
    await asyncio.sleep(seconds)
    return (time.process_time() - before) / seconds


async def measure(path: str, rounds: int, seconds: float) -> tuple[list[dict[str, Any]], dict[str, float]]:
    rows: list[dict[str, Any]] = []

    def latency(scenario: str, found: list[float]) -> None:
        found.sort()
        rows.append({"system": "millpond", "scenario": scenario, "ops": len(found), "p50_ms": ms(found, 0.5),
                     "p95_ms": ms(found, 0.95), "p99_ms": ms(found, 0.99), "max_ms": ms(found, 1.0)})  # fmt: skip

    async with Database(path) as db:
        await db.execute("CREATE TABLE quiet(n)")
        times = int(100 * rounds * seconds)
        acknowledged, seen = await own(db, times)
        latency("own commit, acknowledged", acknowledged)
        latency("own commit, next result", seen)
        latency("foreign commit, next result", await foreign(db, path, times // 2))
        rows.append({"system": "millpond", "scenario": "idle", "core_share": round(await idle(db, seconds), 5)})
        rates: dict[str, list[tuple[float, float]]] = {case: [] for case in CASES}
        for number in range(rounds):
            for case in CASES if number % 2 == 0 else reversed(CASES):
                rates[case].append(await beside(db, case, seconds))
        for case, found in rates.items():
            rate, asked = sorted(found)[len(found) // 2]
            spread = (max(found)[0] - min(found)[0]) / rate
            rows.append({"system": "millpond", "scenario": f"write FULL, {case}", "workers": WORKERS,
                         "ops_per_s": round(rate), "queries_per_s": round(asked),
                         "spread": round(spread, 2)})  # fmt: skip
        logged, total = (await db.fetch_all("SELECT (SELECT count(*) FROM log), (SELECT sum(n) FROM item)"))[0]
        if total - logged != times + times // 2:
            raise RuntimeError(f"{logged} rows and a sum of {total} do not fit together")
    shares = {
        case: sorted(rate / nobody for (rate, _), (nobody, _) in zip(rates[case], rates[CASES[0]], strict=True))
        for case in CASES[1:]
    }
    return rows, {f"write FULL: {case}/nobody": round(found[rounds // 2], 2) for case, found in shares.items()}


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.7, help="per case and round")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--json", default=None, metavar="FILE")
    args = parser.parse_args(argv)
    rounds, seconds = (1, 0.4) if args.quick else (args.rounds, args.seconds)
    with tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder:
        path = os.path.join(folder, "bench.db")
        prepare(path)
        rows, ratios = asyncio.run(measure(path, rounds, seconds))
    result: dict[str, Any] = {
        "benchmark": "watch",
        "machine": machine(),
        "settings": {"workers": WORKERS, "rounds": rounds, "seconds": seconds},
        "rows": rows,
        "ratios": ratios,
    }
    print(f"watch: {rounds} rounds, median")
    for row in rows:
        found = ", ".join(f"{name} {value:,}" for name, value in row.items() if name not in ("system", "scenario"))
        print(f"  {row['scenario']:38} {found}")
    for name, ratio in ratios.items():
        print(f"  {name} = {ratio:g}")
    write(result, args.json)
    return result


if __name__ == "__main__":
    main()
