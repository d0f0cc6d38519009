"""aiosqlitepool: its pool over aiosqlite, with the settings of its README."""

from __future__ import annotations

from typing import Any

import aiosqlite
from aiosqlitepool import SQLiteConnectionPool

from benchmarks.harness import HEAVY, INSERT, READ, UPDATE


class Pool:
    mixed = False

    async def open(self, path: str, full: bool, workers: int) -> None:
        async def connect() -> Any:
            db = await aiosqlite.connect(path, timeout=5.0, isolation_level=None)
            await db.execute("PRAGMA journal_mode = WAL")
            await db.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            return db

        self._pool = SQLiteConnectionPool(connect)

    async def close(self) -> None:
        await self._pool.close()

    async def read(self, key: int) -> Any:
        async with self._pool.connection() as db, db.execute(READ, (key,)) as cursor:
            return await cursor.fetchone()

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
            await db.execute(UPDATE if self.mixed else INSERT, (key,))
            await db.commit()


def make() -> Pool:
    return Pool()
