"""What is known of the lines of code that open interactive transactions."""

from __future__ import annotations

__all__ = ["Place", "Places"]

QUICK_S = 0.002
"""A lease below this awaited nothing but the database: some statements, no network."""
PROOF = 3
LIMIT = 1_000


class Place:
    """One line that opens leases, and how long it holds them.

    Unknown and slow ones get a transaction of their own. After PROOF quick ones in a row it may
    share a batch; one slow one takes that away and wants twice the proof.
    """

    __slots__ = ("_proof", "_quick", "mean_s", "shares")

    def __init__(self) -> None:
        self.shares = False
        self.mean_s = QUICK_S
        self._quick = 0
        self._proof = PROOF

    def ended(self, held_s: float) -> None:
        """A lease of this line was held for `held_s` seconds."""
        self.mean_s += (held_s - self.mean_s) * 0.2
        if held_s <= QUICK_S:
            self._quick += 1
            if self._quick >= self._proof:
                self.shares = True
        else:
            self._quick = 0
            if self.shares:
                self._proof = min(64, self._proof * 2)
            self.shares = False


class Places:
    """Places by code object and line; bounded, the oldest goes."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: dict[tuple[object, int], Place] = {}

    def at(self, code: object, line: int) -> Place:
        key = (code, line)
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= LIMIT:
                self._places.pop(next(iter(self._places)))
            place = self._places[key] = Place()
        return place
