"""All benchmarks, and the bars that they are held to: python -m benchmarks [--quick] [NAME ...]."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from benchmarks import bars, bulk, cold, heavy, memory, mixed, overhead, processes, reads, rows, wal, watch, writes
from benchmarks.bars import Bar, Rows, total
from benchmarks.harness import machine

OUT = Path(__file__).parent / "out"


class Benchmark(Protocol):
    """A module: its bars, and main() that takes --json FILE and --quick and returns the result object."""

    __name__: str

    @property
    def BARS(self) -> Sequence[Bar]: ...  # noqa: N802  # a module's constant

    def main(self, argv: Sequence[str] | None = None, /) -> dict[str, Any]: ...


BENCHMARKS: Sequence[Benchmark] = (
    overhead,
    reads,
    writes,
    mixed,
    processes,
    rows,
    cold,
    memory,
    heavy,
    watch,
    bulk,
    wal,
)
PROMISES = [Bar("errors", total("errors"), "<=", 0), Bar("lost", total("lost"), "<=", 0)]


def main() -> int:
    named = {benchmark.__name__.rpartition(".")[2]: benchmark for benchmark in BENCHMARKS}
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(named)}")
    parser.add_argument(
        "--quick", action="store_true", help="one short round of the systems that matter most, into out/quick"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bar was missed, not only if a run failed")
    args = parser.parse_args()
    chosen = args.names or list(named)
    if unknown := set(chosen) - set(named):
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; there are: {', '.join(named)}")
    out = OUT / "quick" if args.quick else OUT
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    results: list[dict[str, Any]] = []
    for name in chosen:
        then = time.monotonic()
        results.append(named[name].main(["--json", str(out / f"{name}.json"), *(["--quick"] if args.quick else [])]))
        print(f"{name} took {time.monotonic() - then:.0f} s")
    lines = [
        line
        for name, result in zip(chosen, results, strict=True)
        for line in bars.judge(named[name].BARS, Rows([result]))
    ]
    lines += bars.judge(PROMISES, Rows(results))
    bars.show(lines)
    took = round(time.monotonic() - began)
    print(f"\nall of it took {took} s")
    judged = {"benchmark": "bars", "machine": machine(), "settings": {"seconds": took}, "rows": lines, "ratios": {}}
    if not args.names:
        (out / "bars.json").write_text(json.dumps(judged, indent=1) + "\n", encoding="utf-8")
    broken = [line for line in lines[-len(PROMISES) :] if not line["ok"]]
    missed = [line for line in lines if line["found"] is not None and not line["ok"]]
    return 1 if broken or (args.strict and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
