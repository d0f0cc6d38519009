"""The standard library: a thread and a connection per worker, WAL, a busy timeout, BEGIN IMMEDIATE."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from benchmarks.harness import HEAVY, INSERT, READ, ROWS, UPDATE, Scenario, single_sql


class _Calls:
    def __init__(self, path: str, scenario: Scenario) -> None:
        self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None)
        self._db.execute(f"PRAGMA synchronous = {'FULL' if scenario.full else 'NORMAL'}")
        self._single = single_sql(scenario.name == "mixed")

    def read(self, key: int) -> Any:
        return self._db.execute(READ, (key,)).fetchone()

    def rows(self, key: int, number: int) -> Sequence[Any]:
        return self._db.execute(ROWS, (key, number)).fetchall()

    def heavy(self, key: int) -> Any:
        return self._db.execute(HEAVY, (key, key)).fetchall()

    def transaction(self, key: int) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute(INSERT, (key,))
            self._db.execute(UPDATE, (key,))
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    write = transaction

    def single(self, key: int) -> None:
        self._db.execute(self._single, (key,))

    def close(self) -> None:
        self._db.close()


class Sqlite3:
    alone = False

    def open(self, path: str, scenario: Scenario) -> None:
        self._path, self._scenario = path, scenario

    def worker(self) -> _Calls:
        return _Calls(self._path, self._scenario)

    def close(self) -> None:
        pass


def make() -> Sqlite3:
    return Sqlite3()
