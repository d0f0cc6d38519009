"""How much inline work one turn of an event loop may do, and how callers share it."""

from __future__ import annotations

__all__ = ["TurnBudget"]


MOST_SHARERS = 32
"""More callers in one turn would have slices too short for one read, and each read would cost a change of tasks."""


class TurnBudget:
    """The loop's budget for inline work, cut into slices for the callers that were seen in the last turn.

    Without slices the first caller would use up each turn and the others get one read each. With thousands of
    callers only some come in each turn, the others in later ones: so a turn is short however many there are.

        idle --begin--> armed --(work until `slice_ends`)--> spent --yield, resume--> armed, next slice
          ^---------------- reset, at the end of the turn -----------'

    Times are seconds on the shell's clock.
    """

    __slots__ = ("_budget_s", "_sharers", "_yields", "armed", "slice_ends")

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s
        self._sharers = 1
        self._yields = 0
        self.armed = False
        self.slice_ends = 0.0

    def begin(self, now: float) -> None:
        """First inline work of a turn."""
        self.armed = True
        self._sharers = max(1, self._yields)
        self._yields = 0
        self.slice_ends = now + self._budget_s / self._sharers

    @property
    def is_full(self) -> bool:
        """Have so many callers a slice in the next turn that one more should wait for a later one?"""
        return self._yields >= MOST_SHARERS

    def yields(self) -> None:
        """A caller has used its slice and lets the others go first, or one that waited comes in the next turn."""
        self._yields += 1

    def resumes(self, now: float) -> None:
        """A caller that had let others go first comes back, in a later turn."""
        if self.armed:
            self.slice_ends = now + self._budget_s / self._sharers

    def reset(self) -> None:
        """The turn is over."""
        self.armed = False
