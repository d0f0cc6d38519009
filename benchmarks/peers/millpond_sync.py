"""Millpond's facade for threads: one Database, a thread per worker."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.harness import HEAVY, INSERT, READ, UPDATE, Scenario, single_sql
from benchmarks.peers.blocking import act_of, run_threads
from millpond import Settings, Transaction
from millpond.sync import Database


class _Worker:
    def __init__(self, db: Database, scenario: Scenario) -> None:
        self._db = db
        self._interactive = scenario.name == "transaction"
        self._cached = scenario.name == "repeat"
        self._single = single_sql(scenario.name == "mixed")

    def read(self, key: int) -> object:
        return self._db.fetch_one(READ, (key,), cache=self._cached)

    def heavy(self, key: int) -> object:
        return self._db.fetch_all(HEAVY, (key, key))

    def write(self, key: int) -> None:
        if self._interactive:
            with self._db.transaction() as scope:
                scope.execute(INSERT, (key,))
                scope.execute(UPDATE, (key,))
            return

        def both(tx: Transaction) -> None:
            tx.execute(INSERT, (key,))
            tx.execute(UPDATE, (key,))

        self._db.write(both)

    def single(self, key: int) -> None:
        self._db.execute(self._single, (key,))


class MillpondSync:
    wrote = 0

    def run(self, path: str, scenario: Scenario, end_s: float) -> tuple[list[float], int]:
        with Database(path, Settings(durability="full" if scenario.full else "normal")) as db:

            def make() -> tuple[Callable[[int], int], Callable[[], None]]:
                return act_of(scenario, _Worker(db, scenario)), lambda: None

            latencies, errors, self.wrote = run_threads(make, scenario, end_s)
        return latencies, errors


def make() -> MillpondSync:
    return MillpondSync()
