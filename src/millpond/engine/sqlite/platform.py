"""What only Linux gives, behind plain functions that answer "unknown" elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "LockHolder", "cores", "file_lock_holder", "linux_facts", "log_readers", "program_of", "times_mapped",
    "write_lock_holder",
]  # fmt: skip

linux_facts = sys.platform.startswith("linux")
"""False takes all of it away, as on macOS and Windows: features go, the service stays."""

WRITE_LOCK_BYTE = 120
"""The byte of the -shm file that SQLite locks to write. Source: sqlite.org/walformat.html, "WAL locks"."""

READ_LOCK_BYTES = (123, 127)
"""Those of its five read marks. Source: as above."""

MAIN_LOCK_BYTES = (0x40000000, 0x40000000 + 511)
"""The file's own bytes that are locked outside of WAL mode: pending, reserved, shared. Source: SQLite's os.h."""

PROGRAM_LENGTH = 80


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A process that has the write lock."""

    pid: int
    program: str | None
    ours: bool


def write_lock_holder(path: str) -> LockHolder | None:
    """Who has the write lock of the database, as the kernel lists it.

    None: nobody, or it cannot be seen (another platform, another pid namespace). Costs about 40
    microseconds; never opens the database's files, which would drop this process's own locks.
    """
    return _holder(path + "-shm", WRITE_LOCK_BYTE, WRITE_LOCK_BYTE, ("WRITE",))


def file_lock_holder(path: str) -> LockHolder | None:
    """Who has the database locked in whatever mode it is: writes, or else reads where only one may be."""
    return write_lock_holder(path) or _holder(path, *MAIN_LOCK_BYTES, ("WRITE", "READ"))


def log_readers(path: str) -> dict[int, list[int]]:
    """The read marks of the database's log that are in use, each with the processes that use it, as far as seen."""
    first, last = READ_LOCK_BYTES
    found: dict[int, list[int]] = {}
    for kind, pid, start, end in _locks(path + "-shm"):
        if kind == "READ":
            for byte in range(max(start, first), min(end, last) + 1):
                found.setdefault(byte - first, []).append(pid)
    return found


def _holder(path: str, first: int, last: int, kinds: tuple[str, ...]) -> LockHolder | None:
    """Who has locked bytes of a file; the earlier kinds of lock go before the later."""
    found: dict[str, int] = {}
    for kind, pid, start, end in _locks(path):
        if kind in kinds and start <= last and end >= first:
            found.setdefault(kind, pid)
    held = [found[kind] for kind in kinds if kind in found]
    return LockHolder(held[0], program_of(held[0]), held[0] == os.getpid()) if held else None


def _locks(path: str) -> Iterator[tuple[str, int, int, int]]:
    """The POSIX locks on a file, as the kernel lists them: kind, process, first and last byte."""
    if not linux_facts:
        return
    try:
        inode = str(os.stat(path).st_ino)
        with open("/proc/locks", encoding="ascii") as locks:
            lines = locks.read().splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split()
        # 1: POSIX ADVISORY WRITE 4711 fe:00:12345 120 120 ("->" marks a waiter)
        if len(fields) < 8 or fields[1] != "POSIX" or fields[5].rsplit(":", 1)[-1] != inode:
            continue
        yield fields[3], int(fields[4]), int(fields[6]), sys.maxsize if fields[7] == "EOF" else int(fields[7])


def cores() -> int:
    """The cores that this process may use."""
    if linux_facts:
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def times_mapped(inode: int) -> int:
    """How many maps of a file this process has, by the file's inode; 0 if it cannot be seen."""
    if not linux_facts:
        return 0
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            fields = (line.split(None, 5) for line in maps)
            return sum(1 for field in fields if len(field) > 5 and field[4] == str(inode))
    except OSError:
        return 0


def program_of(pid: int) -> str | None:
    """What runs in a process: its command line, without what may be data."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
            words = cmdline.read().decode(errors="replace").split("\0")
    except OSError:
        return None
    words = [os.path.basename(word) if i == 0 else word for i, word in enumerate(words) if word]
    # Code given on a command line is no name, and may hold data.
    if "-c" in words:
        words = words[: words.index("-c") + 1]
    text = " ".join(words)
    return text[:PROGRAM_LENGTH] or None
