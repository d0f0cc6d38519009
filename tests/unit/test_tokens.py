"""Reads that wait are given tokens for what they use: by a simulated clock, over made-up load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from random import Random

import pytest

from millpond.scheduling.fair_queue import HEAD_START_S
from millpond.scheduling.tokens import PATIENCE_S, TokenQueue
from millpond.statements.demand import NOTHING, UNKNOWN, Use

SCAN = Use(0.98, 0.0)
ROWS = Use(0.9, 0.85)
HALF = Use(0.5, 0.0)
FEW_ROWS = Use(0.3, 0.45)
CORES = 2


@dataclass(eq=False)
class Read:
    wants: Use
    submitted: float = 0.0
    priority: int = 1
    caller: object = None
    takes_s: float = 0.02
    queued: bool = False
    line: int = 0

    def __repr__(self) -> str:
        return f"{self.wants} of {self.submitted:.3f}"


def queue_of(*reads: Read, cores: int = CORES) -> TokenQueue[Read]:
    queue: TokenQueue[Read] = TokenQueue(cores)
    for read in reads:
        queue.push(read)
    return queue


def admitted(queue: TokenQueue[Read], now: float, running: list[Use]) -> list[Read]:
    """All that may run at this moment, each with those before it."""
    found: list[Read] = []
    while (read := queue.next(now, [*running, *[one.wants for one in found]])) is not None:
        queue.take(read)
        found.append(read)
    return found


@pytest.mark.parametrize(
    ("wants", "running", "how_many"),
    [
        (SCAN, [], 2),
        (SCAN, [SCAN], 1),
        (SCAN, [SCAN, SCAN], 0),
        (SCAN, [HALF], 1),
        (HALF, [], 4),
        (ROWS, [], 1),
        (ROWS, [SCAN], 1),
        (SCAN, [ROWS], 1),
        (FEW_ROWS, [], 2),
        (NOTHING, [SCAN, SCAN], 10),
        (NOTHING, [UNKNOWN, SCAN], 10),
        (SCAN, [NOTHING] * 15, 2),
        (UNKNOWN, [], 1),
        (UNKNOWN, [ROWS], 0),
        (UNKNOWN, [SCAN], 1),
    ],
)
def test_what_may_run_at_once(wants: Use, running: list[Use], how_many: int) -> None:
    assert len(admitted(queue_of(*[Read(wants) for _ in range(10)]), 0.0, running)) == how_many


def test_one_core_serves_one_after_another_and_storage_beside_it() -> None:
    queue = queue_of(*[Read(SCAN) for _ in range(3)], *[Read(NOTHING) for _ in range(5)], cores=1)
    assert sorted(read.wants for read in admitted(queue, 0.0, [])) == sorted([SCAN, *[NOTHING] * 5])


def test_what_needs_other_tokens_goes_first_meanwhile() -> None:
    rows, scan = Read(ROWS, submitted=0.0), Read(SCAN, submitted=0.001)
    assert admitted(queue_of(rows, scan), 0.002, [ROWS]) == [scan]


def test_nobody_takes_the_tokens_of_one_that_has_waited() -> None:
    rows, half = Read(ROWS, submitted=0.0), Read(HALF, submitted=0.001)
    assert admitted(queue_of(rows, half), PATIENCE_S / 2, [SCAN, HALF]) == [half]
    assert admitted(queue_of(rows, half), PATIENCE_S, [SCAN, HALF]) == []


def test_in_its_own_line_nobody_is_passed() -> None:
    scan, half = Read(SCAN, submitted=0.0), Read(HALF, submitted=0.001)
    assert admitted(queue_of(scan, half), 0.002, [SCAN, HALF]) == []


def test_one_that_has_waited_for_the_interpreter_leaves_the_cores_to_others() -> None:
    rows, few, scan = Read(ROWS, submitted=0.0), Read(FEW_ROWS, submitted=0.001), Read(SCAN, submitted=0.002)
    assert admitted(queue_of(rows, few, scan), 1.0, [ROWS]) == [scan]


def test_a_higher_priority_is_asked_first() -> None:
    low, high = Read(ROWS, submitted=0.0, priority=3), Read(SCAN, submitted=0.001, priority=0)
    assert admitted(queue_of(low, high), 1.0, [SCAN]) == [high]
    assert admitted(queue_of(low, high), 20.0, [SCAN]) == [high], "as long as it is within its head start"
    later = Read(SCAN, submitted=10.002, priority=0)
    assert admitted(queue_of(low, later), 20.0, [SCAN]) == [low]


def test_sessions_that_run_unasked_leave_a_core_to_those_who_ask() -> None:
    queue = queue_of(Read(SCAN), Read(SCAN))
    first = queue.next(0.0, [], [Use(1.0, 1.0)] * 5)
    assert first is not None
    queue.take(first)
    assert queue.next(0.0, [SCAN], [Use(1.0, 1.0)]) is None
    assert queue.next(0.0, [SCAN], []) is not None


def test_who_is_taken_out_does_not_stand_in_the_way() -> None:
    first, second = Read(ROWS), Read(ROWS)
    queue = queue_of(first, second)
    assert queue.remove(first)
    assert not queue.remove(first)
    assert len(queue) == 1
    assert list(queue) == [second]
    assert queue.next(0.0, []) is second


@dataclass
class World:
    """A clock that jumps from event to event; reads run as long as they say."""

    chance: Random
    lanes: int = 18
    now: float = 0.0
    longest_wait: dict[str, float] = field(default_factory=dict)
    done: int = 0

    def __post_init__(self) -> None:
        self.queue: TokenQueue[Read] = TokenQueue(CORES)
        self.running: list[tuple[float, int, Read]] = []
        self.number = 0

    def arrivals(self, kinds: list[Use], callers: int, until: float) -> Iterator[None]:
        """A closed loop: each caller asks again as soon as it is answered."""
        for caller in range(callers):
            self.ask(kinds, caller)
        while self.running and self.now < until:
            self.now, _, read = heappop(self.running)
            self.done += 1
            self.ask(kinds, read.caller)
            yield

    def ask(self, kinds: list[Use], caller: object) -> None:
        read = Read(
            self.chance.choice(kinds), self.now, self.chance.randrange(4), caller, self.chance.uniform(0.001, 0.04)
        )
        self.queue.push(read)
        self.hand_out()

    def hand_out(self) -> None:
        while len(self.running) < self.lanes:
            read = self.queue.next(self.now, [one.wants for _, _, one in self.running])
            if read is None:
                return
            self.queue.take(read)
            self.look(read)
            self.number += 1
            heappush(self.running, (self.now + read.takes_s, self.number, read))

    def look(self, read: Read) -> None:
        """Who goes now: within the tokens, and past nobody who has waited for what it takes."""
        wants = read.wants
        cpu = CORES - sum(one.wants.cpu for _, _, one in self.running)
        gil = 1 - sum(one.wants.gil for _, _, one in self.running)
        assert not wants.cpu or wants.cpu <= cpu + 1e-6
        assert not wants.gil or wants.gil <= gil + 1e-6
        for other in filter(None, (line.peek() for line in self.queue._lines)):
            if other.line == read.line:
                continue  # there callers take turns
            before = other.submitted + HEAD_START_S[other.priority] < read.submitted + HEAD_START_S[read.priority]
            if before and self.now - other.submitted >= PATIENCE_S:
                assert not (other.wants.cpu > cpu + 1e-6 and (wants.cpu or wants.gil)), f"{read} passes {other}"
                assert not (other.wants.gil > gil + 1e-6 and wants.gil), f"{read} passes {other}"
        kind = str(wants)
        self.longest_wait[kind] = max(self.longest_wait.get(kind, 0.0), self.now - read.submitted)


@pytest.mark.parametrize("seed", range(20))
def test_the_tokens_are_never_overspent_and_nobody_waits_for_ever(seed: int) -> None:
    chance = Random(seed)
    kinds = [SCAN, HALF, ROWS, FEW_ROWS, NOTHING, UNKNOWN]
    chosen = chance.sample(kinds, chance.randint(1, len(kinds)))
    world = World(chance)
    for _ in world.arrivals(chosen, chance.randint(1, 25), 20.0):
        pass
    print(f"seed {seed}: {chosen}, {world.done} reads, longest waits {world.longest_wait}")
    assert world.done > 20.0 / 0.04 * 0.8, "at least one runs at any time"
    # 25 callers, 0.02 s each, one at a time, and ten seconds of head start for the highest class.
    assert max(world.longest_wait.values()) < 12.0
