"""Counts: what the engine did, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Check", "Health", "Stats"]


@dataclass(frozen=True, slots=True)
class Stats:
    """A snapshot of counters since opening and of present states; cheap to take.

    reads_*: finished reads by route; reads_kept: answered by results that were kept, results_kept of which take
    results_bytes now. writes: acknowledged jobs; batches: their commits; reruns: jobs that
    ran again because a neighbour's fault ended their transaction. errors: failed calls of any kind.
    *_waiting: in queues now. lanes: open readers that have a thread; busy_lanes: at work now.
    wal_pages: length of the write-ahead log at the last commit. commit_s, gate_s: sums. watchers: loops over `watch`
    now; watch_queries: how often their statements were asked.
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
