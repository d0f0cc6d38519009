"""Millpond's facade for threads: one Database, a thread per worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness import HEAVY, INSERT, READ, ROWS, UPDATE, Scenario, single_sql
from millpond import Settings, Transaction
from millpond.sync import Database


class _Calls:
    def __init__(self, db: Database, scenario: Scenario) -> None:
        self._db = db
        self._cached = scenario.name == "repeat"
        self._single = single_sql(scenario.name == "mixed")

    def read(self, key: int) -> Any:
        return self._db.fetch_one(READ, (key,), cache=self._cached)

    def rows(self, key: int, number: int) -> Sequence[Any]:
        return self._db.fetch_all(ROWS, (key, number), cache=False)

    def heavy(self, key: int) -> Any:
        return self._db.fetch_all(HEAVY, (key, key))

    def write(self, key: int) -> None:
        def both(tx: Transaction) -> None:
            tx.execute(INSERT, (key,))
            tx.execute(UPDATE, (key,))

        self._db.write(both)

    def transaction(self, key: int) -> None:
        with self._db.transaction() as tx:
            tx.execute(INSERT, (key,))
            tx.execute(UPDATE, (key,))

    def single(self, key: int) -> None:
        self._db.execute(self._single, (key,))

    def close(self) -> None:
        pass


class MillpondSync:
    alone = False

    def open(self, path: str, scenario: Scenario) -> None:
        self._scenario = scenario
        self._db = Database(path, Settings(durability="full" if scenario.full else "normal"))
        self._db.open()

    def worker(self) -> _Calls:
        return _Calls(self._db, self._scenario)

    def close(self) -> None:
        self._db.close()


def make() -> MillpondSync:
    return MillpondSync()
