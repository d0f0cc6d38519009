"""How much memory does an idle service with 20 connections take, and how much each of 10,000 callers that wait?

Resident memory, in a process of its own each. The callers' part is what it grows by from just before they call until
all of them wait, divided by their number; `peak_kib_each` is the most until all are answered. The task that each caller
is, asyncio's share, is a row for comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar, figure
from benchmarks.files import prepare, verify
from benchmarks.harness import HEAVY, INSERT, UPDATE, machine
from benchmarks.output import write

CALLERS = 10_000
CONNECTIONS = 20
KINDS = ("task alone", "execute", "write(fn)", "transaction", "fetch_all")
BARS = [
    Bar("idle memory, 20 connections (MiB)", figure("idle", "resident_mib"), "<=", 60),
    *(
        Bar(f"memory per waiting caller, {kind} (KiB)", figure(f"10,000 waiting, {kind}", "kib_each"), "<=", 10)
        for kind in KINDS[1:]
    ),
]
HOLD = """
import sys, apsw
db = apsw.Connection(sys.argv[1])
db.set_busy_timeout(5000)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
db.execute("ROLLBACK")
"""


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure each in a process of its own, and count again what the callers wrote when they could."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--quick", action="store_true", help="only one kind of caller")
    parser.add_argument("--json", default=None, metavar="FILE")
    args = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    for kind in ("idle", "execute") if args.quick else ("idle", *KINDS):
        with tempfile.TemporaryDirectory(prefix="millpond-bench-") as folder:
            path = os.path.join(folder, "bench.db")
            prepare(path)
            command = [sys.executable, "-m", "benchmarks.memory", kind, path]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            row = {"system": "millpond" if kind != "task alone" else "empty", **json.loads(out)}
            row["lost"] = verify(path, row.pop("wrote"), "single", exact=True)
        print("memory: " + ", ".join(f"{key} {value}" for key, value in row.items() if key != "system"))
        rows.append(row)
    result: dict[str, Any] = {
        "benchmark": "memory",
        "machine": machine(),
        "settings": {"connections": CONNECTIONS, "callers": CALLERS},
        "rows": rows,
        "ratios": {},
    }
    write(result, args.json)
    return result


def resident_kib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def most_resident_kib() -> float:
    """Since the start of this process; getrusage would tell of its parent too."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return float(status.partition("VmHWM:")[2].split()[0])


async def idle(path: str) -> dict[str, Any]:
    from millpond import Database, Settings

    async with Database(path, Settings(min_connections=CONNECTIONS)) as db:
        for _ in range(CONNECTIONS):
            await db.fetch_all("SELECT count(*), max(name) FROM item")
        await asyncio.gather(*(db.write(lambda tx: tx.execute(INSERT, (1,))) for _ in range(100)))
        return {"scenario": "idle", "connections": db.stats().connections,
                "resident_mib": round(resident_kib() / 1024, 1), "wrote": 100}  # fmt: skip


async def waiting(kind: str, path: str) -> dict[str, Any]:
    """The writes wait for a lock that another process holds; the reads, aggregates, for those before them."""
    from millpond import Database

    async with Database(path) as db:

        async def transaction(key: int) -> None:
            async with db.transaction() as tx:
                await tx.execute(INSERT, (key,))

        go = asyncio.Event()
        calls: dict[str, Callable[[int], Awaitable[Any]]] = {
            "task alone": lambda key: go.wait(),
            "execute": lambda key: db.execute(INSERT, (key,)),
            "write(fn)": lambda key: db.write(lambda tx: tx.execute(INSERT, (key,))),
            "transaction": transaction,
            "fetch_all": lambda key: db.fetch_all(HEAVY, (1, 2_000), cache=False),
        }
        call = calls[kind]

        async def caller(key: int) -> None:
            await call(key)

        for _ in range(3):
            await db.execute(UPDATE, (1,))
        writes = kind in ("execute", "write(fn)", "transaction")
        hold = [sys.executable, "-c", HOLD, path]
        holder = await asyncio.create_subprocess_exec(*hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert holder.stdin is not None
        assert holder.stdout is not None
        await holder.stdout.readline()
        before = resident_kib()
        tasks = [asyncio.create_task(caller(key)) for key in range(CALLERS)]
        await asyncio.sleep(0)  # each task runs to where it waits
        await asyncio.sleep(0)
        grown = resident_kib() - before
        still = sum(not task.done() for task in tasks)
        go.set()
        await holder.communicate(b"\n")
        await asyncio.gather(*tasks)
        peak = most_resident_kib() - before
    return {"scenario": f"{CALLERS:,} waiting, {kind}", "workers": CALLERS, "waiting": still, "errors": 0,
            "kib_each": round(grown / CALLERS, 2), "peak_kib_each": round(peak / CALLERS, 2),
            "wrote": CALLERS if writes else 0}  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] in ("idle", *KINDS):
        print(json.dumps(asyncio.run(idle(sys.argv[2]) if sys.argv[1] == "idle" else waiting(*sys.argv[1:]))))
    else:
        main()
