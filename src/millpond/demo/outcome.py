"""What the demonstration found: figures of each side, what was verified, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import Any

__all__ = ["Outcome", "SideOutcome", "Verified", "percentile", "summarise"]

SCENARIO = "chat service"


@dataclass(frozen=True, slots=True)
class Verified:
    """What an independent process saw in the file afterwards.

    acknowledged: events that the workers were told are done; found: those of them in the file; lost: the
    others; failed_but_stored: events that raised an error and are in the file all the same; messages, xp: the
    file's own sums; uneven_rows: users, guilds and scores that do not match their messages.
    """

    acknowledged: int
    found: int
    lost: int
    failed_but_stored: int
    messages: int
    xp: int
    sums_agree: bool
    uneven_rows: int
    integrity_check: str

    @property
    def consistent(self) -> bool:
        return self.sums_agree and self.uneven_rows == 0

    @property
    def good(self) -> bool:
        return self.lost == 0 and self.failed_but_stored == 0 and self.consistent and self.integrity_check == "ok"


@dataclass(frozen=True, slots=True)
class SideOutcome:
    """One side's figures.

    ops: events acknowledged within `seconds`; latencies are of whole events, those that ended a little later
    included and those that failed left out; locked: the errors that say "database is locked".
    late_p99_ms: of a 10 ms ticker on the event loop; None without one.
    """

    system: str
    workers: int
    processes: int
    ops: int
    seconds: float
    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    max_ms: float | None
    late_p99_ms: float | None
    errors: int
    locked: int
    reasons: dict[str, int]
    verified: Verified

    @property
    def ops_per_s(self) -> float:
        return self.ops / self.seconds if self.seconds > 0 else 0.0

    @property
    def attempts(self) -> int:
        return self.verified.acknowledged + self.errors

    @property
    def good(self) -> bool:
        return self.errors == 0 and self.verified.acknowledged > 0 and self.verified.good

    def row(self) -> dict[str, Any]:
        """As a row of the benchmark object."""
        return {
            "system": self.system, "scenario": SCENARIO, "workers": self.workers, "processes": self.processes,
            "ops": self.ops, "seconds": round(self.seconds, 3), "ops_per_s": round(self.ops_per_s, 1),
            "mean_ms": _rounded(self.mean_ms),
            "p50_ms": _rounded(self.p50_ms), "p95_ms": _rounded(self.p95_ms), "p99_ms": _rounded(self.p99_ms),
            "max_ms": _rounded(self.max_ms), "late_p99_ms": _rounded(self.late_p99_ms),
            "errors": self.errors, "lost": self.verified.lost, "locked": self.locked, "reasons": self.reasons,
            "verified": {
                "acknowledged": self.verified.acknowledged, "found": self.verified.found,
                "failed_but_stored": self.verified.failed_but_stored, "messages": self.verified.messages,
                "xp": self.verified.xp, "sums_agree": self.verified.sums_agree,
                "uneven_rows": self.verified.uneven_rows, "integrity_check": self.verified.integrity_check,
            },
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Outcome:
    """Both sides, as far as they came.

    before: sqlite3; after: Millpond; folder: where the files were kept; data: the log, as it was named.
    """

    settings: dict[str, Any]
    machine: dict[str, Any]
    before: SideOutcome | None = None
    after: SideOutcome | None = None
    interrupted: bool = False
    folder: str | None = None
    data: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def good(self) -> bool:
        """Millpond did its part without an error and without a loss. How sqlite3 fared is not judged."""
        return self.after is not None and self.after.good

    def ratios(self) -> dict[str, float]:
        """How many times better Millpond was; only what both sides have."""
        if self.before is None or self.after is None:
            return {}
        pairs = {
            "ops_per_s": (self.after.ops_per_s, self.before.ops_per_s),
            "mean": (self.before.mean_ms, self.after.mean_ms),
            "p50": (self.before.p50_ms, self.after.p50_ms),
            "p95": (self.before.p95_ms, self.after.p95_ms),
            "p99": (self.before.p99_ms, self.after.p99_ms),
            "max": (self.before.max_ms, self.after.max_ms),
        }
        return {name: round(over / under, 3) for name, (over, under) in pairs.items() if over and under}

    def document(self) -> dict[str, Any]:
        """The benchmark object."""
        return {
            "schema": "millpond/demo/1",
            "benchmark": "demo",
            "machine": self.machine,
            "settings": self.settings,
            "rows": [side.row() for side in (self.before, self.after) if side is not None],
            "ratios": self.ratios(),
            "good": self.good,
            "interrupted": self.interrupted,
        }


def summarise(
    system: str,
    workers: int,
    parts: Sequence[dict[str, Any]],
    finished: Sequence[tuple[float, float]],
    verified: Verified,
) -> SideOutcome:
    """One side's figures from what its processes said when done, and their acknowledged events.

    finished: (seconds since the start, latency in seconds) of each.
    """
    seconds = max(part["seconds"] for part in parts)
    latencies = sorted(latency for _, latency in finished)
    reasons: dict[str, int] = {}
    for part in parts:
        for text, times in part["reasons"].items():
            reasons[text] = reasons.get(text, 0) + times
    late = [part["late_p99_ms"] for part in parts if part["late_p99_ms"] is not None]
    return SideOutcome(
        system=system,
        workers=workers,
        processes=len(parts),
        ops=sum(at <= seconds for at, _ in finished),
        seconds=seconds,
        mean_ms=1000 * fsum(latencies) / len(latencies) if latencies else None,
        p50_ms=1000 * percentile(latencies, 50) if latencies else None,
        p95_ms=1000 * percentile(latencies, 95) if latencies else None,
        p99_ms=1000 * percentile(latencies, 99) if latencies else None,
        max_ms=1000 * latencies[-1] if latencies else None,
        late_p99_ms=max(late) if late else None,
        errors=sum(part["errors"] for part in parts),
        locked=sum(part["locked"] for part in parts),
        reasons=dict(sorted(reasons.items(), key=lambda item: -item[1])),
        verified=verified,
    )


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of the ordered values do not exceed (nearest rank)."""
    if not ordered:
        raise ValueError("no values, no percentile")
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
