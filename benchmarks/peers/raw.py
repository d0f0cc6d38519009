"""apsw in a plain loop, one call after another, no event loop, no other thread: the ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from benchmarks.harness import HEAVY, INSERT, READ, ROWS, UPDATE, Scenario, single_sql


class _Calls:
    """One connection; with `group` above 1 that many writes share a COMMIT."""

    def __init__(self, path: str, scenario: Scenario, group: int) -> None:
        self._group = group
        self._open = 0
        self._single = single_sql(scenario.name == "mixed")
        self._db = apsw.Connection(path)
        self._db.set_busy_timeout(5000)
        self._db.execute(f"PRAGMA synchronous = {'FULL' if scenario.full else 'NORMAL'}")

    def read(self, key: int) -> Any:
        return self._db.execute(READ, (key,)).fetchall()[0]

    def rows(self, key: int, number: int) -> Sequence[Any]:
        return self._db.execute(ROWS, (key, number)).fetchall()

    def heavy(self, key: int) -> Any:
        return self._db.execute(HEAVY, (key, key)).fetchall()

    def transaction(self, key: int) -> None:
        self._begin()
        self._db.execute(INSERT, (key,))
        self._db.execute(UPDATE, (key,))
        self._end()

    write = transaction

    def single(self, key: int) -> None:
        self._begin()
        self._db.execute(self._single, (key,))
        self._end()

    def close(self) -> None:
        self._commit()
        self._db.close()

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


class Raw:
    alone = True

    def __init__(self, group: int = 1) -> None:
        self._group = group

    def open(self, path: str, scenario: Scenario) -> None:
        self._path, self._scenario = path, scenario

    def worker(self) -> _Calls:
        return _Calls(self._path, self._scenario, self._group)

    def close(self) -> None:
        pass


def make() -> Raw:
    return Raw()
