"""Does memory grow? A chat service's work for some minutes, its resident memory sampled all the while."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import HEAVY, INSERT, READ, UPDATE, keys, machine, prepare
from benchmarks.output import write
from millpond import Database, UniqueViolation

WARM_UP_S = 30.0
GROWTH_LIMIT_MIB = 4.0


def resident_mib() -> float:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmRSS"].split()[0]) / 1024


async def soak(path: str, seconds: float) -> list[tuple[float, float, int]]:
    """Samples of (seconds, resident MiB, operations)."""
    operations = 0
    samples: list[tuple[float, float, int]] = []
    began = time.monotonic()
    end = began + seconds
    async with Database(path) as db:

        async def worker(number: int) -> None:
            nonlocal operations
            drawn = keys(number)
            while time.monotonic() < end:
                key = next(drawn)
                await db.fetch_one(READ, (key,))
                async with db.transaction() as tx:
                    await tx.execute(UPDATE, (key,))
                    await tx.execute("DELETE FROM log WHERE id IN (SELECT id FROM log ORDER BY id LIMIT 1)")
                await db.execute(INSERT, (key,))
                if key % 50 == 0:
                    await db.fetch_all(HEAVY, (key, key))
                    async for _ in db.iterate("SELECT * FROM item WHERE id > ?", (key,)):
                        break
                    async with db.snapshot() as snap:
                        await snap.fetch_value("SELECT count(*) FROM log")
                if key % 100 == 0:
                    await db.fetch_value(f"SELECT {key} + {operations}")
                    try:
                        await db.execute("INSERT INTO item(id, name) VALUES (1, 'twice')")
                    except UniqueViolation:
                        operations += 1
                    task = asyncio.create_task(db.execute(UPDATE, (key,)))
                    await asyncio.sleep(0)
                    task.cancel()
                operations += 3

        async def sample() -> None:
            while time.monotonic() < end:
                await asyncio.sleep(min(5.0, seconds / 10))
                samples.append((round(time.monotonic() - began, 1), round(resident_mib(), 2), operations))

        await asyncio.gather(sample(), *(worker(i) for i in range(25)))
    return samples


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--seconds", type=float, default=630.0)
    parser.add_argument("--json", default=None)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "soak.db")
        prepare(path)
        samples = asyncio.run(soak(path, args.seconds))
    settled = [s for s in samples if s[0] >= min(WARM_UP_S, args.seconds / 4)]
    third = max(1, len(settled) // 3)
    first = sum(s[1] for s in settled[:third]) / third
    last = sum(s[1] for s in settled[-third:]) / third
    result = {
        "benchmark": "soak",
        "machine": machine(),
        "settings": {"seconds": args.seconds, "workers": 25},
        "rows": [{"system": "millpond", "scenario": "soak", "ops": samples[-1][2], "first_mib": round(first, 2),
                  "last_mib": round(last, 2), "samples": samples}],
        "ratios": {"last/first": round(last / first, 3)},
    }  # fmt: skip
    write(result, args.json)
    print(f"soak: {samples[-1][2]:,} operations in {args.seconds:.0f} s; resident {first:.1f} MiB in the first third, "
          f"{last:.1f} MiB in the last (growth allowed: {GROWTH_LIMIT_MIB} MiB)")  # fmt: skip
    return int(last - first > GROWTH_LIMIT_MIB)


if __name__ == "__main__":
    sys.exit(main())
