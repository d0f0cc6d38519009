"""A life of a file, drawn from a seed: how it begins, which processes write it, where they are killed."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, Literal

__all__ = ["FIRST", "POINTS", "RECOVERING", "Death", "Life", "Orders", "Point", "Start", "draw"]

Start = Literal["new", "rollback", "hot"]
"""What is there first: nothing; a file with a rollback journal; one whose writer was killed in a transaction."""
ROUNDS = 8
AT_ONCE_S = 0.25
"""A random kill comes within so long after the start: opening takes about a tenth of it."""


@dataclass(frozen=True)
class Point:
    """A place where a process kills itself. most: at which of its hits at most.

    Where it is, only `workers/crash_points.py` knows. processes: how many write the file, least and most. ends: who
    dies there was told to close. rests: it was told to stop writing. copies: to make backups. first: nobody else
    is started with it, who might be there before it. starts: how the file's life began, for places that are reached
    in its first moment alone.
    """

    name: str
    most: int
    processes: tuple[int, int] = (1, 3)
    ends: bool = False
    rests: bool = False
    copies: bool = False
    first: bool = False
    starts: tuple[Start, ...] = ()


POINTS: Final = (
    Point("before BEGIN", 40),
    Point("after BEGIN", 40),
    Point("in a statement", 80),
    Point("in a bulk write", 6),
    Point("in a write function", 12),
    Point("in an interactive transaction", 12),
    Point("before COMMIT", 40),
    Point("in COMMIT", 200),
    Point("after COMMIT", 40),
    Point("before the answers", 60),
    Point("while a lost batch is taken up again", 2),
    Point("in a checkpoint", 60),
    Point("before the log begins anew", 2),
    Point("after the log began anew", 2),
    Point("while the log is emptied", 2, (1, 1), rests=True),
    Point("before closing", 1, ends=True),
    Point("in the last close", 12, (1, 1), ends=True),
    Point("before leaving the gate", 1, ends=True),
    Point("after leaving the gate", 1, ends=True),
    Point("in a backup", 60, copies=True),
    Point("before a backup appears", 2, copies=True),
    Point("after a backup appeared", 2, copies=True),
    Point("creating the file", 8, starts=("new",)),
    Point("converting it to WAL", 8, starts=("rollback", "hot")),
    Point("making the gate", 3, first=True, starts=("new", "rollback", "hot")),
    Point("opening the readers", 1),
    Point("in a migration", 1, first=True),
    Point("holding the turn", 40, (2, 3)),
    Point("waiting for the turn", 40, (2, 3)),
    Point("before giving the turn back", 40, (2, 3)),
)
FIRST: Final = tuple(point for point in POINTS if point.starts)
RECOVERING: Final = Point("recovering the log", 100)
"""Reached only where a log is left over, so after all have died."""


@dataclass(frozen=True)
class Orders:
    """What a process is told. job: of `workers/crash.py`. process: its number. slot: its place among those that write.

    point, hit: where it kills itself. torn: halfway through the write that this is about.
    ends_after, rests_after: acknowledged writes after which it closes, or stops writing; 0: never.
    targets: backups that a checker looks at. whole: it uses integrity_check, not quick_check.
    """

    job: Literal["load", "rollback", "check"]
    path: str
    process: int
    seed: int
    threads: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    slot: int = 0
    point: str = ""
    hit: int = 1
    torn: bool = False
    ends_after: int = 0
    rests_after: int = 0
    copies: bool = False
    hot: bool = False
    page_size: int = 4096
    leaves: bool = False
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Death:
    """One round: somebody is killed, at a point, or after_s after its start. victims: one of them, or all.

    again: where nobody is left, the next ones are killed while they open it, so many times.
    leaves: the check afterwards closes the file; else it is killed too, and leaves its log behind.
    """

    point: Point | None
    hit: int
    torn: bool
    after_s: float
    everybody: bool
    again: int
    leaves: bool
    migrates: bool


@dataclass(frozen=True)
class Life:
    """One case."""

    start: Start
    processes: int
    threads: bool
    page_size: int
    settings: dict[str, Any]
    deaths: tuple[Death, ...]


def draw(number: int, random: Random) -> Life:
    """The life of this number. Kinds of lives take turns, so that a few in a row have them all."""
    start: Start = ("new", "rollback", "new", "hot")[number % 4]
    processes = 1 + number % 3
    first = [point for point in FIRST if start in point.starts]
    later = [point for point in POINTS if not point.starts and point.processes[0] <= processes <= point.processes[1]]
    random.shuffle(later)
    deaths: list[Death] = []
    for at in range(ROUNDS):
        point = later[at % len(later)] if random.random() < 0.7 else None
        if at == 0 and random.random() < 0.8:
            point = random.choice(first)
        deaths.append(
            Death(
                point=point,
                hit=random.randint(1, point.most) if point is not None else 0,
                torn=random.random() < 0.5,
                after_s=random.uniform(0, AT_ONCE_S),
                everybody=random.random() < 0.35,
                again=random.choice((0, 0, 1, 2)),
                leaves=random.random() < 0.4,
                migrates=(point is not None and point.name == "in a migration") or random.random() < 0.2,
            )
        )
    settings = {
        "durability": random.choice(("full", "normal")),
        "checkpoint_pages": random.choice((10, 30, 100)),
        "wal_limit_bytes": random.choice((2**16, 2**18)),
        "log_hold_s": random.choice((0, 0.2)),
        "quiet_s": 0.05,
        "busy_slice_ms": 2,
        "inline": random.choice(("auto", "auto", "off")),
        "page_cache_kib": random.choice((16, 2_000)),
    }
    return Life(start, processes, number % 5 in (1, 3), random.choice((1024, 4096, 16384)), settings, tuple(deaths))
