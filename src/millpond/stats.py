"""Counts: what the engine did, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Health", "LogPin", "Stats"]


@dataclass(frozen=True, slots=True)
class LogPin:
    """A reader of an old commit, which keeps the log from being begun anew.

    what: snapshot, stream, backup, read or reader. place: "bot.py:42 in report()"; sql: what it runs, without
    values. since: Unix seconds, of a foreign reader when it was first seen; held_s: seconds. pid, program: None
    where they cannot be seen. pages: committed to the log since.
    """

    what: str
    place: str | None = None
    sql: str | None = None
    since: float | None = None
    held_s: float = 0.0
    pid: int | None = None
    program: str | None = None
    ours: bool = False
    pages: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of counters since opening and of present states; cheap to take.

    reads_*: finished reads by route; reads_kept: answered by results that were kept, results_kept of which take
    results_bytes now. writes: acknowledged jobs; batches: their commits; reruns: jobs that
    ran again because a neighbour's fault ended their transaction. errors: failed calls of any kind.
    *_waiting: in queues now. lanes: open readers that have a thread; busy_lanes: at work now.
    wal_pages: length of the write-ahead log at the last commit. commit_s, gate_s: sums. watchers: loops over `watch`
    now; watch_queries: how often their statements were asked.

    checkpoints: copies beside the writer, checkpoint_finishes: of the rest by the writer; checkpoint_pages,
    checkpoint_s: what all of them moved, and how long they took, the longest checkpoint_longest_s. log_pin: who
    kept the log from being begun anew when that was last tried; None if nobody did. log_holds: how often new long
    reads were held back for it, for log_held_s altogether; log_paced_s: what batches waited.
    upkeep_*: jobs of quiet times: finished, given up because a write came, seconds. log_emptied: how often the
    log's file was cut at such a time.
    """

    open_s: float
    reads_inline: int
    reads_quick: int
    reads_heavy: int
    reads_kept: int
    results_kept: int
    results_bytes: int
    writes: int
    batches: int
    reruns: int
    leases: int
    leases_expired: int
    errors: int
    refused: int
    cancelled: int
    deadlines_missed: int
    leaks: int
    reads_waiting: int
    writes_waiting: int
    lanes: int
    busy_lanes: int
    connections: int
    lanes_replaced: int
    writer_replaced: int
    profiles: int
    wal_pages: int
    checkpoints: int
    commit_s: float
    gate_s: float
    work_s: float
    observer_errors: int
    observer_dropped: int
    checkpoint_finishes: int
    checkpoint_pages: int
    checkpoint_s: float
    checkpoint_longest_s: float
    log_pin: LogPin | None
    log_holds: int
    log_held_s: float
    log_paced_s: float
    log_emptied: int
    upkeep_done: int
    upkeep_stopped: int
    upkeep_s: float
    watchers: int
    watch_queries: int

    @property
    def reads(self) -> int:
        """Finished reads, all routes."""
        return self.reads_inline + self.reads_quick + self.reads_heavy + self.reads_kept


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Health:
    """ok: all checks passed. degraded: it works, but look. failing: reads or writes cannot be served."""

    status: Literal["ok", "degraded", "failing"]
    checks: tuple[Check, ...]
