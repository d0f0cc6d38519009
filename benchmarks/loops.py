"""The measuring process: one system, one scenario, the same closed loop for each; started by harness.py.

A system of the event loop is driven by tasks, one with threads by threads; what a worker does and how its time is
taken is the same. What this loop itself costs shows with the systems `empty` and `empty-threads`.
"""

from __future__ import annotations

import array
import asyncio
import importlib
import json
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import random
from typing import Any, Protocol

from benchmarks.files import KEYS
from benchmarks.harness import REPEAT_WRITES, TICK_S, Scenario, keys, ms, scattered_keys


class System(Protocol):
    """A way to use SQLite from an event loop. Two statements make one write: INSERT and UPDATE."""

    async def open(self, path: str, scenario: Scenario) -> None: ...
    async def close(self) -> None: ...
    async def read(self, key: int) -> Any: ...
    async def rows(self, key: int, number: int) -> Sequence[Any]: ...
    async def write(self, key: int) -> None: ...
    async def transaction(self, key: int) -> None: ...
    async def single(self, key: int) -> None: ...
    async def heavy(self, key: int) -> Any: ...


class Calls(Protocol):
    """What one thread calls."""

    def close(self) -> None: ...
    def read(self, key: int) -> Any: ...
    def rows(self, key: int, number: int) -> Sequence[Any]: ...
    def write(self, key: int) -> None: ...
    def transaction(self, key: int) -> None: ...
    def single(self, key: int) -> None: ...
    def heavy(self, key: int) -> Any: ...


class Threaded(Protocol):
    """A way to use SQLite from threads. alone: one thread, however many workers the scenario has."""

    alone: bool

    def open(self, path: str, scenario: Scenario) -> None: ...
    def worker(self) -> Calls: ...
    def close(self) -> None: ...


@dataclass(slots=True)
class Phase:
    """What a stretch of time brought: latencies of finished calls (s), waiting of those that were cut off."""

    seconds: float
    began: float = 0.0
    end: float = 0.0
    took: float = 0.0
    latencies: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    errors: int = 0
    wrote: int = 0

    def begin(self) -> None:
        self.began = time.perf_counter()
        self.end = self.began + self.seconds

    def failed(self, exc: Exception) -> None:
        if not self.errors:
            print(f"{type(exc).__name__}: {exc}", file=sys.stderr)
        self.errors += 1

    def report(self, path: str) -> dict[str, Any]:
        with open(path, "wb") as file:
            array.array("d", self.latencies + self.waited).tofile(file)
        late = ms(sorted(self.late), 0.99) if self.late else None
        return {"latencies": path, "ops": len(self.latencies), "seconds": self.took, "late_p99_ms": late,
                "errors": self.errors, "wrote": self.wrote, "unfinished": len(self.waited)}  # fmt: skip


def main(argv: Sequence[str]) -> None:
    job = json.loads(argv[0])
    scenario = Scenario(**job["scenario"])
    try:
        peer: Any = importlib.import_module(f"benchmarks.peers.{job['system'].replace('-', '_')}").make()
    except ImportError as exc:
        print(json.dumps({"missing": f"not installed: {exc.name}"}))
        return
    phases = [Phase(seconds) for seconds in job["phases"]]
    if hasattr(peer, "worker"):
        first = run_threads(peer, job["path"], scenario, phases)
        report(job, first, phases)
    else:
        asyncio.run(run_tasks(peer, job, scenario, phases))


def report(job: dict[str, Any], first: float, phases: Sequence[Phase]) -> None:
    done = [phase.report(f"{job['out']}-{number}") for number, phase in enumerate(phases)]
    print(json.dumps({"first_s": first, "phases": done}), flush=True)


def all_begin_together() -> None:
    print("ready", flush=True)
    sys.stdin.readline()


def drawn(scenario: Scenario, workers: int) -> list[Iterator[int]]:
    if scenario.name == "scattered":
        return [scattered_keys(number, workers) for number in range(workers)]
    return [keys(number, zipf=scenario.name == "repeat", crowd=workers) for number in range(workers)]


def warm_up(scenario: Scenario) -> range:
    """Each system may warm up its caches and its plans; not for a cold file."""
    return range(2, 2) if scenario.name == "scattered" else range(2, 7)


async def run_tasks(peer: System, job: dict[str, Any], scenario: Scenario, phases: Sequence[Phase]) -> None:
    began = time.perf_counter()
    await peer.open(job["path"], scenario)
    await peer.read(1)
    first = time.perf_counter() - began
    for key in warm_up(scenario):
        await peer.read(key)
    workers = drawn(scenario, scenario.workers)
    act = async_act(peer, scenario)
    all_begin_together()
    for phase in phases:
        await run_phase(act, workers, phase, job["patience"])
    if not any(phase.waited for phase in phases):
        await peer.close()
        report(job, first, phases)
    else:  # closing would first work off what was cut off
        report(job, first, phases)
        os._exit(0)


async def run_phase(act: AsyncAct, workers: Sequence[Iterator[int]], phase: Phase, patience: float) -> None:
    clock = time.perf_counter
    latencies = phase.latencies

    async def ticker() -> None:
        loop = asyncio.get_running_loop()
        while not over.is_set():
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            phase.late.append(loop.time() - due)

    async def worker(mine: Iterator[int]) -> None:
        end = phase.end
        for key in mine:
            then = clock()
            if then >= end:
                return
            try:
                wrote = await act(key)
            except Exception as exc:
                phase.failed(exc)
            except asyncio.CancelledError:
                phase.waited.append(clock() - then)
                return
            else:
                latencies.append(clock() - then)
                phase.wrote += wrote

    over = asyncio.Event()
    tick = asyncio.create_task(ticker())
    phase.begin()
    tasks = [asyncio.create_task(worker(mine)) for mine in workers]
    _, pending = await asyncio.wait(tasks, timeout=phase.seconds + patience)
    phase.took = clock() - phase.began
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks)
    over.set()
    await tick


def run_threads(peer: Threaded, path: str, scenario: Scenario, phases: Sequence[Phase]) -> float:
    number = 1 if peer.alone else scenario.workers
    repeats_alone = peer.alone and scenario.name == "repeat"  # where the others write now and then it only reads
    began = time.perf_counter()
    peer.open(path, scenario)
    opened = peer.worker()
    opened.read(1)
    first = time.perf_counter() - began
    for key in warm_up(scenario):
        opened.read(key)
    opened.close()
    starting = iter(phases)
    ready = threading.Barrier(number + 1)
    begin = threading.Barrier(number + 1, action=lambda: next(starting).begin())
    done = threading.Barrier(number + 1)

    def worker(mine: Iterator[int]) -> None:
        calls = peer.worker()
        act = threads_act(calls, replace(scenario, name="read") if repeats_alone else scenario)
        ready.wait()
        for phase in phases:
            begin.wait()
            loop(act, mine, phase)
            done.wait()
        calls.close()

    threads = [threading.Thread(target=worker, args=(mine,)) for mine in drawn(scenario, number)]
    for thread in threads:
        thread.start()
    ready.wait()
    all_begin_together()
    for phase in phases:
        begin.wait()
        done.wait()
        phase.took = time.perf_counter() - phase.began
    for thread in threads:
        thread.join()
    peer.close()
    return first


def loop(act: Act, mine: Iterator[int], phase: Phase) -> None:
    clock = time.perf_counter
    end = phase.end
    latencies: list[float] = []
    done = 0
    for key in mine:
        then = clock()
        if then >= end:
            break
        try:
            wrote = act(key)
        except Exception as exc:
            with adding:
                phase.failed(exc)
        else:
            latencies.append(clock() - then)
            done += wrote
    with adding:
        phase.latencies += latencies
        phase.wrote += done


adding = threading.Lock()
AsyncAct = Callable[[int], Awaitable[int]]
Act = Callable[[int], int]
READS_OF_20, SINGLES_OF_20 = 14, 19
"""The mix: 70 % point reads, 25 % writes, 5 % aggregates over 2,000 rows."""


def checked(row: Any, key: int) -> int:
    if row[0] != key:
        raise AssertionError(f"asked for {key}, got {row[0]}")
    return 0


def room_for(key: int, number: int) -> int:
    """The first of so many rows."""
    return 1 + key % (KEYS - number + 1)


def async_act(peer: System, scenario: Scenario) -> AsyncAct:
    """What a task does for a key; it tells how many writes that was."""

    async def read(key: int) -> int:
        return checked(await peer.read(key), key)

    async def rows(key: int) -> int:
        got = await peer.rows(room_for(key, scenario.rows), scenario.rows)
        return checked((len(got),), scenario.rows)

    async def write(key: int) -> int:
        await peer.write(key)
        return 1

    async def transaction(key: int) -> int:
        await peer.transaction(key)
        return 1

    async def single(key: int) -> int:
        await peer.single(key)
        return 1

    async def repeat(key: int) -> int:
        return await (single if random() < REPEAT_WRITES else read)(key)

    async def mixed(key: int) -> int:
        dice = key % 20
        if dice < READS_OF_20:
            return await read(key)
        if dice < SINGLES_OF_20:
            return await single(key)
        await peer.heavy(key)
        return 0

    acts = {"read": read, "scattered": read, "rows": rows, "repeat": repeat, "mixed": mixed}
    acts |= {"write": write, "transaction": transaction, "single": single}
    return acts[scenario.name]


def threads_act(calls: Calls, scenario: Scenario) -> Act:
    """The same for a thread."""

    def read(key: int) -> int:
        return checked(calls.read(key), key)

    def rows(key: int) -> int:
        got = calls.rows(room_for(key, scenario.rows), scenario.rows)
        return checked((len(got),), scenario.rows)

    def write(key: int) -> int:
        calls.write(key)
        return 1

    def transaction(key: int) -> int:
        calls.transaction(key)
        return 1

    def single(key: int) -> int:
        calls.single(key)
        return 1

    def repeat(key: int) -> int:
        return (single if random() < REPEAT_WRITES else read)(key)

    def mixed(key: int) -> int:
        dice = key % 20
        if dice < READS_OF_20:
            return read(key)
        if dice < SINGLES_OF_20:
            return single(key)
        calls.heavy(key)
        return 0

    acts = {"read": read, "scattered": read, "rows": rows, "repeat": repeat, "mixed": mixed}
    acts |= {"write": write, "transaction": transaction, "single": single}
    return acts[scenario.name]


if __name__ == "__main__":
    main(sys.argv[1:])
