"""The standard library: a thread and a connection per worker, WAL, a busy timeout, BEGIN IMMEDIATE."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from benchmarks.harness import HEAVY, INSERT, READ, UPDATE, Scenario, single_sql
from benchmarks.peers.blocking import act_of, run_threads


class _Connection:
    def __init__(self, path: str, scenario: Scenario) -> None:
        self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None)
        self._db.execute(f"PRAGMA synchronous = {'FULL' if scenario.full else 'NORMAL'}")
        self._single = single_sql(scenario.name == "mixed")

    def read(self, key: int) -> object:
        return self._db.execute(READ, (key,)).fetchone()

    def heavy(self, key: int) -> object:
        return self._db.execute(HEAVY, (key, key)).fetchall()

    def write(self, key: int) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute(INSERT, (key,))
            self._db.execute(UPDATE, (key,))
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def single(self, key: int) -> None:
        self._db.execute(self._single, (key,))

    def close(self) -> None:
        self._db.close()


class Sqlite3:
    wrote = 0

    def run(self, path: str, scenario: Scenario, end_s: float) -> tuple[list[float], int]:
        def make() -> tuple[Callable[[int], int], Callable[[], None]]:
            connection = _Connection(path, scenario)
            return act_of(scenario, connection), connection.close

        latencies, errors, self.wrote = run_threads(make, scenario, end_s)
        return latencies, errors


def make() -> Sqlite3:
    return Sqlite3()
