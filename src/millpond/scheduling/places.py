"""What is known of the lines of code that open interactive transactions."""

from __future__ import annotations

__all__ = ["Place", "Places"]

QUICK_S = 0.002
"""A lease below this awaited nothing but the database: some statements, no network."""
ENOUGH = 3
MOST = 16
SLOW_COSTS = 4
LEAST = -64
LIMIT = 1_000
UNKNOWN_S = 0.0002
COST_FADES = 1.02
"""What a lease takes is the fading minimum of what was seen: a busy machine makes any of them look long."""


class Place:
    """One line that opens leases, and how long it holds them.

    Each quick lease earns one point, up to MOST; a slow one costs SLOW_COSTS, down to LEAST. With ENOUGH
    points it may share a batch; unknown and slow ones get a transaction of their own. So one hiccup of the
    machine is forgiven, and a line that awaits the network is found out within a few leases.
    """

    __slots__ = ("_points", "cost_s")

    def __init__(self) -> None:
        self.cost_s = UNKNOWN_S
        self._points: float = 0

    @property
    def shares(self) -> bool:
        return self._points >= ENOUGH

    def never_shares(self) -> None:
        """It runs what can end the whole transaction (ON CONFLICT ROLLBACK): from now on in one of its own."""
        self._points = float("-inf")

    def ended(self, held_s: float, *, awaited: bool = True) -> None:
        """A lease of this line was held for `held_s` seconds. awaited: something else ran in between."""
        faded = self.cost_s * COST_FADES
        self.cost_s = held_s if held_s < faded else faded
        if held_s <= QUICK_S or not awaited:
            self._points = min(MOST, self._points + 1)
        else:
            self._points = max(min(LEAST, self._points), self._points - SLOW_COSTS)


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
