"""How long a batch waits for company before it begins."""

from __future__ import annotations

__all__ = ["Company"]

FADING = 0.2
"""What the newest commit's time weighs."""

LONGEST_S = 0.001
"""However long commits take, nobody waits longer than that for others."""


class Company:
    """Expects as many jobs as the last batch had, for as long as a commit takes.

    Callers in a loop come back after each commit, one after the other. Who begins with the first of them pays a
    commit for few; who waits for them at most as long as a commit takes never loses more than that one commit
    (the break-even rule of ski rental: Karlin et al., Competitive randomized algorithms, 1990). Alone, nobody
    waits: the last batch had one job.
    """

    __slots__ = ("_commit_s", "_last")

    def __init__(self) -> None:
        self._last = 1
        self._commit_s = 0.0

    def committed(self, jobs: int, commit_s: float) -> None:
        """A batch of so many jobs is committed, which took so long."""
        self._last = jobs
        self._commit_s += FADING * (commit_s - self._commit_s)

    def missing(self, waiting: int) -> int:
        """So many more jobs are worth waiting for, `wait_s` at most. waiting: jobs there are."""
        return max(0, self._last - waiting)

    @property
    def wait_s(self) -> float:
        """Seconds."""
        return min(self._commit_s, LONGEST_S)
