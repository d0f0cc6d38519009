"""How much memory does an idle service with 20 connections take?"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT_MIB = 60

CHILD = """
import asyncio, sys
from millpond import Database, Settings
async def main():
    async with Database(sys.argv[1], Settings(min_connections=20)) as db:
        for _ in range(20):
            await db.fetch_all("SELECT count(*), max(name) FROM item")
        add = lambda tx: tx.execute("UPDATE item SET n = n + 1 WHERE id = 1")
        await asyncio.gather(*(db.write(add) for _ in range(100)))
        status = dict(line.split(":", 1) for line in open("/proc/self/status"))
        print(db.stats().connections, int(status["VmRSS"].split()[0]) / 1024)
asyncio.run(main())
"""


def main(argv: list[str] | None = None) -> dict[str, object]:
    """Open 20 connections in a process of its own, use each, and read its resident memory (MiB)."""
    from benchmarks.harness import machine, prepare

    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory")
    parser.add_argument("--json", default=None)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.db")
        prepare(path)
        out = subprocess.run([sys.executable, "-c", CHILD, path], check=True, capture_output=True, text=True).stdout
    connections, resident = out.split()
    result: dict[str, object] = {
        "benchmark": "memory",
        "machine": machine(),
        "settings": {"connections": int(connections)},
        "rows": [{"system": "millpond", "scenario": "idle", "resident_mib": round(float(resident), 1)}],
        "ratios": {"resident/limit": round(float(resident) / LIMIT_MIB, 2)},
    }
    print(f"memory: {connections} connections, {float(resident):.1f} MiB resident (limit {LIMIT_MIB})")
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    main()
