"""aiosqlite: one connection for all, WAL; a lock around transactions, as its users must."""

from __future__ import annotations

import asyncio
from typing import Any

import aiosqlite

from benchmarks.harness import HEAVY, INSERT, READ, UPDATE


class Aiosqlite:
    async def open(self, path: str, full: bool, workers: int) -> None:
        self._db = await aiosqlite.connect(path, timeout=5.0, isolation_level=None)
        await self._db.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        await self._db.close()

    async def read(self, key: int) -> Any:
        async with self._db.execute(READ, (key,)) as cursor:
            return await cursor.fetchone()

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
            await self._db.execute(UPDATE if self.mixed else INSERT, (key,))
            await self._db.commit()

    mixed = False


def make() -> Aiosqlite:
    return Aiosqlite()
