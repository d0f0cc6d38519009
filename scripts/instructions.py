"""How many instructions does each hot path take? Noise of the machine does not show in it: `make instructions`.

Counts the paths of hot_paths.py under valgrind's callgrind, and compares them with tests/slow/instructions.json, as the
slow tests do; --record writes them there, under a key of Python, apsw and machine: counts of another build differ. The
difference between a long and a short run is taken, so that starting and stopping cancel out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import apsw

ROOT = Path(__file__).resolve().parents[1]
BASELINE = ROOT / "tests" / "slow" / "instructions.json"
WORKLOAD = ROOT / "scripts" / "hot_paths.py"
INLINE, HANDED_OVER = 0.03, 0.05
"""How much may change: ten times what differed between runs (0.3 %), four times where threads hand over (1.2 %)."""
PATHS = {
    "point read": INLINE,
    "kept result": INLINE,
    "execute": HANDED_OVER,
    "write(fn)": HANDED_OVER,
    "transaction of two": HANDED_OVER,
    "point read, threads": INLINE,
    "kept result, threads": INLINE,
    "execute, threads": HANDED_OVER,
}
SHORT, LONG = 100, 300
TOTALS = re.compile(r"^totals: (\d+)$", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python scripts/instructions.py", description=__doc__)
    parser.add_argument("--record", action="store_true", help="keep what is counted now as the baseline")
    args = parser.parse_args()
    if reason := unable():
        print(reason, file=sys.stderr)
        return 3
    counted, known = count(), recorded()
    for name, number in counted.items():
        change = f"{number / known[name] - 1:+8.2%}" if name in known else "     new"
        print(f"{name:24} {number:10,} {change}")
    if args.record:
        kept = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
        kept[key()] = counted
        BASELINE.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"kept in {BASELINE.relative_to(ROOT)} for {key()}")
    elif not known:
        print(f"nothing is recorded for {key()}: --record keeps these")
    return 0


def unable() -> str | None:
    """Why nothing can be counted here, if so."""
    if shutil.which("valgrind") is None:
        return "valgrind is not installed (apt-get install valgrind): instructions cannot be counted"
    return None


def key() -> str:
    """Counts are compared only with those of the same builds."""
    python = f"{platform.python_implementation()} {platform.python_version()} ({platform.python_compiler()})"
    return f"{python}, apsw {apsw.apsw_version()}, {platform.machine()}"


def recorded() -> dict[str, int]:
    """The baseline for these builds; empty if there is none."""
    kept: Mapping[str, dict[str, int]] = json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}
    return kept.get(key(), {})


def count() -> dict[str, int]:
    """Instructions of the whole process per operation, of each path."""
    with tempfile.TemporaryDirectory(prefix="millpond-count-") as folder:
        out = Path(folder) / "out"
        valgrind = ["valgrind", "--quiet", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}"]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT / "src")}
        workload = [sys.executable, str(WORKLOAD), str(SHORT), str(LONG), *PATHS]
        subprocess.run([*valgrind, *workload], env=environment, check=True)
        parts = [int(TOTALS.findall((out.parent / f"out.{n}").read_text())[0]) for n in range(1, 4 * len(PATHS) + 1)]
    # Of each path: what came before, the short run, what came between, the long run.
    runs = [(parts[at + 1], parts[at + 3]) for at in range(0, len(parts), 4)]
    return {name: (long - short) // (LONG - SHORT) for name, (short, long) in zip(PATHS, runs, strict=True)}


if __name__ == "__main__":
    sys.exit(main())
