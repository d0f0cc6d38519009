"""apsw in a plain loop, one call after another, no event loop: the ceiling."""

from __future__ import annotations

import time
from dataclasses import replace

import apsw

from benchmarks.harness import HEAVY, INSERT, READ, UPDATE, Scenario, keys, single_sql
from benchmarks.peers.blocking import act_of


class Raw:
    """One connection; with `group` above 1 that many writes share a COMMIT."""

    def __init__(self, group: int = 1) -> None:
        self._group = group
        self._open = 0
        self._mixed = False
        self.wrote = 0

    def run(self, path: str, scenario: Scenario, end_s: float) -> tuple[list[float], int]:
        self._db = apsw.Connection(path)
        self._db.set_busy_timeout(5000)
        self._db.execute(f"PRAGMA synchronous = {'FULL' if scenario.full else 'NORMAL'}")
        self._mixed = scenario.name == "mixed"
        repeats = scenario.name == "repeat"  # where the others write now and then it only reads
        act = act_of(replace(scenario, name="read") if repeats else scenario, self)
        latencies: list[float] = []
        drawn = keys(0, zipf=repeats)
        end = time.perf_counter() + end_s
        while (then := time.perf_counter()) < end:
            self.wrote += act(next(drawn))
            latencies.append(time.perf_counter() - then)
        self._commit()
        self._db.close()
        return latencies, 0

    def read(self, key: int) -> object:
        return self._db.execute(READ, (key,)).fetchall()[0]

    def heavy(self, key: int) -> object:
        return self._db.execute(HEAVY, (key, key)).fetchall()

    def write(self, key: int) -> None:
        self._begin()
        self._db.execute(INSERT, (key,))
        self._db.execute(UPDATE, (key,))
        self._end()

    def single(self, key: int) -> None:
        self._begin()
        self._db.execute(single_sql(self._mixed), (key,))
        self._end()

    def _begin(self) -> None:
        if not self._open:
            self._db.execute("BEGIN IMMEDIATE")

    def _end(self) -> None:
        self._open += 1
        if self._open >= self._group:
            self._commit()

    def _commit(self) -> None:
        if self._open:
            self._db.execute("COMMIT")
            self._open = 0


def make() -> Raw:
    return Raw()
