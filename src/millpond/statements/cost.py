"""What a statement costs, learnt from its runs: where may it run next time?"""

from __future__ import annotations

import enum

from millpond.statements.demand import Demand

__all__ = ["MOST_ROWS", "Cost", "Costs", "Lane"]

CHEAP_S = 0.0003
"""A run below this is cheap: some dozens of them fit into one turn of the loop."""
SLOW_S = 0.001
"""A run above this on the loop is a stall that others feel."""
STALL_S = 0.005
"""One run above this on the loop is enough."""
LONG_S = 0.002
"""What always takes longer than this keeps others waiting in the quick lane."""
SAMPLE = 8
"""Of quick runs where each microsecond counts one in so many is learnt from."""
MOST_ROWS = 1_000
"""So many rows take half a millisecond to make: with more a run is none for the loop."""
FIRST_PROOF = 2
MOST_PROOF = 64
FORGIVEN_AFTER = 10_000
STRIKES = 3.0
STRIKE_FADES = 0.25
BEST_FADES = 1.02
ROWS_WEIGH = 0.3
"""Many rows are a sample in themselves, and what a row takes grows with its table."""


class Lane(enum.IntEnum):
    """Cheapest place first."""

    INLINE = 0
    QUICK = 1
    HEAVY = 2


class Cost:
    """Learn a statement's place from the length of its runs.

        QUICK --cheap, `proof` times--> INLINE --over its steps, or slow again and again--> QUICK
        QUICK --over its steps, or never short--> HEAVY --cheap, `proof` times--> QUICK

    Threads that want the interpreter at the same time make any run look long, and none look short: so the
    fading minimum of the lengths says what the statement itself costs, and the budget of VM steps, which
    no neighbour changes, says at once when a run is not what the others were. Each demotion doubles the
    proof that is wanted, up to MOST_PROOF; long good conduct halves it.

    demand: what it uses in a heavy lane, from its first run there on.
    """

    __slots__ = (
        "_cheap",
        "_lane",
        "_passed_over",
        "_strikes",
        "best_s",
        "demand",
        "inline",
        "mean_s",
        "proof",
        "row_s",
    )

    def __init__(self) -> None:
        self.lane = Lane.QUICK
        self.proof = FIRST_PROOF
        self.mean_s = 0.0
        self.best_s = float("inf")
        self.demand: Demand | None = None
        self.row_s = 0.0
        self._cheap = 0
        self._passed_over = 0
        self._strikes = 0.0

    @property
    def lane(self) -> Lane:
        """Where it may run now; `inline` is the same question's short answer."""
        return self._lane

    @lane.setter
    def lane(self, lane: Lane) -> None:
        self._lane = lane
        self.inline = lane is Lane.INLINE

    def ran(self, seconds: float, runs: int = 1) -> None:
        """Take in the length of one run, wherever it was. runs: so many quick ones does it stand for."""
        self.mean_s += (seconds - self.mean_s) * 0.1 if self.mean_s else seconds
        best = self.best_s * BEST_FADES
        self.best_s = best = seconds if seconds < best else best
        if seconds > SLOW_S:
            self._strikes += 1.0
            if self.inline:
                if self._strikes >= STRIKES or seconds > STALL_S:
                    self.over_budget()
                return
        elif self._strikes:
            self._strikes = max(0.0, self._strikes - STRIKE_FADES * runs)
        if best <= CHEAP_S:
            self._was_cheap(runs)
        elif best > LONG_S and self.lane is Lane.QUICK:
            self.over_budget()

    def ran_large(self, seconds: float) -> None:
        """Take in a run in a lane that had more steps, or more rows, than a run on the loop may have.

        No neighbour changes that. However quick the others are, the proof begins anew.
        """
        self._cheap = -1
        self.ran(seconds)
        self._cheap = 0

    def ran_again(self, seconds: float) -> bool:
        """Take in a run where each microsecond counts: of quick inline ones, one in SAMPLE for all of them.

        True: it was slow, whosoever fault that is.
        """
        if seconds > SLOW_S or not self.inline:
            self.ran(seconds)
            return seconds > SLOW_S
        if self._passed_over:
            self._passed_over -= 1
        else:
            self._passed_over = SAMPLE - 1
            self.ran(seconds, SAMPLE)
        return False

    @property
    def least_s(self) -> float:
        """What a run takes at best; 0 where none was seen."""
        return self.best_s if self.best_s != float("inf") else 0.0

    def ran_many(self, seconds: float, rows: int) -> None:
        """Take in a run over many rows of parameters: what one of them takes is all that is learnt from it."""
        seconds /= rows
        self.row_s += (seconds - self.row_s) * ROWS_WEIGH if self.row_s else seconds

    def over_budget(self) -> None:
        """It was interrupted, or is too slow for where it runs: one place down."""
        self._cheap = 0
        self._strikes = 0.0
        if self.inline:
            self.proof = min(MOST_PROOF, self.proof * 2)
        if self.lane is not Lane.HEAVY:
            self.lane = Lane(self.lane + 1)

    def _was_cheap(self, runs: int) -> None:
        self._cheap += runs
        if self.inline:
            if self._cheap >= FORGIVEN_AFTER:
                self._cheap = 0
                self.proof = max(FIRST_PROOF, self.proof // 2)
        elif self._cheap >= self.proof:
            self._cheap = 0
            self.lane = Lane(self.lane - 1)


class Costs:
    """Costs of a caller's functions, by their code; bounded, the oldest goes."""

    __slots__ = ("_by_code", "_limit")

    def __init__(self, limit: int = 1_000) -> None:
        self._limit = limit
        self._by_code: dict[object, Cost] = {}

    def of(self, function: object) -> Cost | None:
        """None for what has no code of its own: it may be anything."""
        code = getattr(function, "__code__", None)
        if code is None:
            return None
        cost = self._by_code.get(code)
        if cost is None:
            if len(self._by_code) >= self._limit:
                self._by_code.pop(next(iter(self._by_code)))
            cost = self._by_code[code] = Cost()
        return cost
