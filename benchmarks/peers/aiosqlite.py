"""aiosqlite: one connection for all, WAL; a lock around transactions, as its users must."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiosqlite

from benchmarks.harness import HEAVY, INSERT, READ, ROWS, UPDATE, Scenario, single_sql


class Aiosqlite:
    async def open(self, path: str, scenario: Scenario) -> None:
        self._single = single_sql(scenario.name == "mixed")
        self._db = await aiosqlite.connect(path, timeout=5.0, isolation_level=None)
        await self._db.execute(f"PRAGMA synchronous = {'FULL' if scenario.full else 'NORMAL'}")
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        await self._db.close()

    async def read(self, key: int) -> Any:
        async with self._db.execute(READ, (key,)) as cursor:
            return await cursor.fetchone()

    async def rows(self, key: int, number: int) -> Sequence[Any]:
        async with self._db.execute(ROWS, (key, number)) as cursor:
            return list(await cursor.fetchall())

    async def heavy(self, key: int) -> Any:
        async with self._db.execute(HEAVY, (key, key)) as cursor:
            return await cursor.fetchall()

    async def transaction(self, key: int) -> None:
        async with self._lock:
            await self._db.execute("BEGIN IMMEDIATE")
            try:
                await self._db.execute(INSERT, (key,))
                await self._db.execute(UPDATE, (key,))
            except BaseException:
                await self._db.rollback()
                raise
            await self._db.commit()

    write = transaction

    async def single(self, key: int) -> None:
        async with self._lock:
            await self._db.execute("BEGIN IMMEDIATE")
            await self._db.execute(self._single, (key,))
            await self._db.commit()


def make() -> Aiosqlite:
    return Aiosqlite()
