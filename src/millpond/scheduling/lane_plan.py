"""May one more heavy read run now, and on which lane?"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["LanePlan", "LaneView", "Move"]


class Move(enum.Enum):
    """What to do for the read at the head of the queue."""

    USE = "use an idle lane"
    OPEN = "open a lane"
    HOLD = "let it wait"


@dataclass(frozen=True, slots=True)
class LaneView:
    """A lane as the plan sees it.

    busy_s: how long its statement runs, None while idle. cpu_s: CPU time of that statement, waiting for
    a CPU included; None where it cannot be measured. held: it belongs to a snapshot or an iterator, which
    uses it now and then.
    """

    busy_s: float | None = None
    cpu_s: float | None = None
    held: bool = False


@dataclass(slots=True)
class LanePlan:
    """Lanes for work that uses the CPU: as many as there are cores; more only while lanes wait for storage.

    More threads than cores make everything slower, the event loop first: beyond the cores throughput is
    flat and the loop's lateness grows with each lane. A lane that waits for storage costs neither.

    Promises: never more than `limit` lanes; work is held only while the CPU share of the running reads
    is at least `cores`; an idle lane is used before one is opened.
    """

    cores: int
    limit: int
    look_after_s: float = 0.01

    def next(self, lanes: Sequence[LaneView]) -> Move:
        """Where the next read goes."""
        idle = any(lane.busy_s is None and not lane.held for lane in lanes)
        if not idle and len(lanes) >= self.limit:
            return Move.HOLD
        if self._load(lanes) >= self.cores:
            return Move.HOLD
        return Move.USE if idle else Move.OPEN

    def _load(self, lanes: Sequence[LaneView]) -> float:
        load = 0.0
        for lane in lanes:
            if lane.busy_s is None:
                continue
            if lane.cpu_s is None or lane.busy_s < self.look_after_s:
                load += 1.0
            else:
                load += min(1.0, lane.cpu_s / lane.busy_s)
        # A lane that is nearly idle must not keep a whole core from the next one.
        return load + 0.25 if load > self.cores - 0.5 else load
