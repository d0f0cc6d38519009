"""Millpond with its defaults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness import HEAVY, INSERT, READ, ROWS, UPDATE, Scenario, single_sql
from millpond import Database, Settings, Transaction


class Millpond:
    async def open(self, path: str, scenario: Scenario) -> None:
        self._single = single_sql(scenario.name == "mixed")
        self._cached = scenario.name == "repeat"
        self._db = Database(path, Settings(durability="full" if scenario.full else "normal"))
        await self._db.open()

    async def close(self) -> None:
        await self._db.close()

    async def read(self, key: int) -> Any:
        return await self._db.fetch_one(READ, (key,), cache=self._cached)

    async def rows(self, key: int, number: int) -> Sequence[Any]:
        return await self._db.fetch_all(ROWS, (key, number), cache=False)

    async def heavy(self, key: int) -> Any:
        return await self._db.fetch_all(HEAVY, (key, key))

    async def write(self, key: int) -> None:
        def both(tx: Transaction) -> None:
            tx.execute(INSERT, (key,))
            tx.execute(UPDATE, (key,))

        await self._db.write(both)

    async def transaction(self, key: int) -> None:
        async with self._db.transaction() as tx:
            await tx.execute(INSERT, (key,))
            await tx.execute(UPDATE, (key,))

    async def single(self, key: int) -> None:
        await self._db.execute(self._single, (key,))


def make() -> Millpond:
    return Millpond()
