"""aiosqlitepool: its pool over aiosqlite, with the settings of its README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aiosqlite
from aiosqlitepool import SQLiteConnectionPool

from benchmarks.harness import HEAVY, INSERT, READ, ROWS, UPDATE, Scenario, single_sql


class Pool:
    async def open(self, path: str, scenario: Scenario) -> None:
        self._single = single_sql(scenario.name == "mixed")

        async def connect() -> Any:
            db = await aiosqlite.connect(path, timeout=5.0, isolation_level=None)
            await db.execute("PRAGMA journal_mode = WAL")
            await db.execute(f"PRAGMA synchronous = {'FULL' if scenario.full else 'NORMAL'}")
            return db

        self._pool = SQLiteConnectionPool(connect)

    async def close(self) -> None:
        await self._pool.close()

    async def read(self, key: int) -> Any:
        async with self._pool.connection() as db, db.execute(READ, (key,)) as cursor:
            return await cursor.fetchone()

    async def rows(self, key: int, number: int) -> Sequence[Any]:
        async with self._pool.connection() as db, db.execute(ROWS, (key, number)) as cursor:
            return list(await cursor.fetchall())

    async def heavy(self, key: int) -> Any:
        async with self._pool.connection() as db, db.execute(HEAVY, (key, key)) as cursor:
            return await cursor.fetchall()

    async def transaction(self, key: int) -> None:
        async with self._pool.connection() as db:
            await db.execute("BEGIN IMMEDIATE")
            try:
                await db.execute(INSERT, (key,))
                await db.execute(UPDATE, (key,))
            except BaseException:
                await db.rollback()
                raise
            await db.commit()

    write = transaction

    async def single(self, key: int) -> None:
        async with self._pool.connection() as db:
            await db.execute("BEGIN IMMEDIATE")
            await db.execute(self._single, (key,))
            await db.commit()


def make() -> Pool:
    return Pool()
