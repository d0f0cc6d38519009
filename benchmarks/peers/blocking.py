"""The closed loop of systems without an event loop: threads over a connection each, or one loop alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from random import random
from typing import Any

from benchmarks.harness import REPEAT_WRITES, Scenario, keys

Act = Callable[[int], int]


def run_threads(
    make: Callable[[], tuple[Act, Callable[[], None]]], scenario: Scenario, seconds: float
) -> tuple[list[float], int, int]:
    """Each worker is a thread with an act of its own; gives latencies (s), errors, writes done."""
    latencies: list[float] = []
    errors: list[BaseException] = []
    wrote: list[int] = []
    drawn = [keys(number, zipf=scenario.name == "repeat") for number in range(scenario.workers)]
    end = time.perf_counter() + seconds

    def worker(number: int) -> None:
        act, close = make()
        mine: list[float] = []
        done = 0
        while (then := time.perf_counter()) < end:
            try:
                done += act(next(drawn[number]))
            except Exception as exc:
                errors.append(exc)
            else:
                mine.append(time.perf_counter() - then)
        latencies.extend(mine)
        wrote.append(done)
        close()

    threads = [threading.Thread(target=worker, args=(i,)) for i in range(scenario.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return latencies, len(errors), sum(wrote)


def act_of(scenario: Scenario, peer: Any) -> Act:
    """The scenario's act on an object with read, write, single and heavy."""

    def repeat(key: int) -> int:
        if random() < REPEAT_WRITES:
            peer.single(key)
            return 1
        peer.read(key)
        return 0

    def mixed(key: int) -> int:
        dice = key % 20
        if dice < 14:
            peer.read(key)
            return 0
        if dice < 19:
            peer.single(key)
            return 1
        peer.heavy(key)
        return 0

    def counted(method: Callable[[int], Any], number: int) -> Act:
        def act(key: int) -> int:
            method(key)
            return number

        return act

    return {
        "read": counted(peer.read, 0),
        "repeat": repeat,
        "write": counted(peer.write, 1),
        "transaction": counted(peer.write, 1),
        "single": counted(peer.single, 1),
        "mixed": mixed,
    }[scenario.name]
