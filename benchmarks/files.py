"""The files that are measured on: made, copied, dropped from the page cache, and counted again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from atexit import register
from functools import cache
from pathlib import Path
from typing import Any

KEYS = 10_000
BIG_KEYS = 100_000
WARM_SHARE = 0.05
"""More of a file than this in the page cache is not cold."""

PREPARE = """
import sys, apsw
db = apsw.Connection(sys.argv[1])
db.pragma("journal_mode", "wal")
db.execute("BEGIN; CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT NOT NULL, n INTEGER NOT NULL DEFAULT 0);"
           "CREATE TABLE log(id INTEGER PRIMARY KEY, item INTEGER NOT NULL)")
pad = " " * int(sys.argv[3])
db.executemany("INSERT INTO item(id, name) VALUES (?, ?)",
               ((i, f"item {i}{pad}") for i in range(1, int(sys.argv[2]) + 1)))
db.execute("COMMIT")
"""
DROP = """
import ctypes, mmap, os, sys
file = os.open(sys.argv[1], os.O_RDWR)
os.fsync(file)
os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
view = mmap.mmap(file, 0)
pages = -(-len(view) // mmap.PAGESIZE)
there = (ctypes.c_ubyte * pages)()
start = ctypes.addressof(ctypes.c_char.from_buffer(view))
if ctypes.CDLL(None, use_errno=True).mincore(ctypes.c_void_p(start), ctypes.c_size_t(len(view)), there):
    raise OSError(ctypes.get_errno(), "mincore")
print(sum(page & 1 for page in there) / pages)
"""


class NotCold(Exception):
    """This file system keeps its pages."""


def prepare(path: str, keys: int = KEYS, padding: int = 0) -> None:
    """Make the file in a process of its own."""
    subprocess.run([sys.executable, "-c", PREPARE, path, str(keys), str(padding)], check=True)


def for_run(folder: str, *, large: bool, cold: bool) -> str:
    """A copy of the small file, or the large one itself, which is only read: in the page cache or out of it."""
    if not large:
        return shutil.copyfile(template(KEYS, 0), os.path.join(folder, "bench.db"))
    path = template(BIG_KEYS, 900)
    if cold:
        out = subprocess.run([sys.executable, "-c", DROP, path], check=True, capture_output=True, text=True).stdout
        if float(out) > WARM_SHARE:
            raise NotCold(f"{float(out):.0%} of the file stays in the page cache here")
    else:
        subprocess.run(["cat", path], check=True, stdout=subprocess.DEVNULL)
    return path


@cache
def template(keys: int, padding: int) -> str:
    folder = tempfile.mkdtemp(prefix="millpond-bench-")
    register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, "template.db")
    prepare(path, keys, padding)
    return path


def verify(path: str, acknowledged: int, name: str, *, exact: bool) -> int:
    """What was acknowledged and is missing, or half there; with `exact` also what is there and nobody knows of.

    Asked from a process that does not have the file open otherwise.
    """
    import apsw

    db = apsw.Connection(path)
    counted: list[Any] = db.execute(
        "SELECT (SELECT count(*) FROM log), (SELECT total(n) FROM item),"
        " (SELECT integrity_check FROM pragma_integrity_check)"
    ).fetchall()
    db.close()
    logged, total, verdict = counted[0]
    if verdict != "ok":
        raise RuntimeError(f"integrity_check: {verdict}")
    halves = abs(int(total) - int(logged)) if name in ("write", "transaction") else 0
    present = int(total) if name == "mixed" else int(logged)
    return halves + (abs(acknowledged - present) if exact else max(0, acknowledged - present))


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def processor_times() -> tuple[list[float], float]:
    """Seconds since the start: of all cores by state; in user mode of this process and the children it waited for."""
    ticks = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()[1:9]
    own = os.times()
    return [int(number) / os.sysconf("SC_CLK_TCK") for number in ticks], own.user + own.children_user


def elsewhere(before: tuple[list[float], float]) -> dict[str, float]:
    """Shares of the processors' time since then: taken by the host; used here in user mode by programs not ours.

    What the kernel does is left out: it works for us too.
    """
    states, own = processor_times()
    spent = [now - then for now, then in zip(states, before[0], strict=True)]
    user, nice, *_, stolen = spent
    others = max(0.0, user + nice - (own - before[1]))
    return {"stolen": round(stolen / sum(spent), 4), "others": round(others / sum(spent), 4)}
