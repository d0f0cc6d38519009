"""What a statement costs, learnt from its runs: where may it run next time?"""

from __future__ import annotations

import enum

__all__ = ["Cost", "Lane"]

CHEAP_S = 0.0003
"""A run below this is cheap: some dozens of them fit into one turn of the loop."""
SLOW_S = 0.001
"""A run above this on the loop is a stall that others feel."""
FIRST_PROOF = 2
MOST_PROOF = 64
FORGIVEN_AFTER = 10_000


class Lane(enum.IntEnum):
    """Cheapest place first."""

    INLINE = 0
    QUICK = 1
    HEAVY = 2


class Cost:
    """Learn a statement's place from the length of its runs.

        QUICK --cheap, `proof` times--> INLINE
          ^  `--slow, over budget--> HEAVY --cheap, `proof` times--> QUICK
          `------slow, over budget---- INLINE

    Each demotion doubles the proof wanted, up to MOST_PROOF; long good conduct halves it.
    """

    __slots__ = ("_cheap", "lane", "mean_s", "proof")

    def __init__(self) -> None:
        self.lane = Lane.QUICK
        self.proof = FIRST_PROOF
        self.mean_s = 0.0
        self._cheap = 0

    def ran(self, seconds: float) -> None:
        """Take in the length of one run, wherever it was."""
        self.mean_s += (seconds - self.mean_s) * 0.1 if self.mean_s else seconds
        if seconds <= CHEAP_S:
            self._cheap += 1
            if self.lane is Lane.INLINE:
                if self._cheap >= FORGIVEN_AFTER:
                    self._cheap = 0
                    self.proof = max(FIRST_PROOF, self.proof // 2)
            elif self._cheap >= self.proof:
                self._cheap = 0
                self.lane = Lane(self.lane - 1)
        elif seconds > SLOW_S:
            self.over_budget()

    def over_budget(self) -> None:
        """It was interrupted, or took too long: one place down."""
        self._cheap = 0
        if self.lane is Lane.INLINE:
            self.proof = min(MOST_PROOF, self.proof * 2)
        if self.lane is not Lane.HEAVY:
            self.lane = Lane(self.lane + 1)
