"""How many rows the next slice of a bulk write has."""

from __future__ import annotations

__all__ = ["SlicePlan"]

FIRST = 16
"""Rows of a first slice, where nothing is known of the statement: harmless even at a millisecond each."""
MOST = 20_000
"""Rows are kept in memory for a slice and the one after it."""
FASTER = 4
"""A slice has at most so many times the rows of the one before: its costs may be unlike."""
QUIET = 4
"""While nobody else waits, slices get longer up to this: each has costs of its own, its commit above all."""
QUIET_GROWS = 1.25
CROWD = 4
"""From so many waiting on, a slice is half as long: each of them waits for all of it."""


class SlicePlan:
    """Slices that run for about `target_s` each, by the measured time of those before.

    More than that while nobody else waits (up to QUIET times, growing slowly, given up at once when somebody
    comes), less when many do (down to half, by the root of their number: the sum of their waiting against the
    costs of a slice). rows: of the next slice.
    """

    __slots__ = ("_long", "_target_s", "rows")

    def __init__(self, target_s: float, row_s: float = 0.0) -> None:
        """row_s: seconds that a row took in earlier calls, 0 where that is not known."""
        self._target_s = target_s
        self._long = 1.0
        self.rows = _as_many(target_s, row_s, MOST) if row_s else FIRST

    def ran(self, rows: int, seconds: float, waiting: int) -> None:
        """A slice of so many rows has run for so long. waiting: other writes that wait now."""
        self._long = min(QUIET, self._long * QUIET_GROWS) if not waiting else 1.0
        wanted_s = self._target_s * self._long / min(CROWD, max(1, waiting)) ** 0.5
        self.rows = _as_many(wanted_s, seconds / rows, min(MOST, FASTER * rows))


def _as_many(wanted_s: float, row_s: float, most: int) -> int:
    """As many rows as take so long together, from 1 to `most`."""
    return most if wanted_s >= most * row_s else max(1, int(wanted_s / row_s))
