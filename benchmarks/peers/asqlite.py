"""asqlite: its own pool of connections, WAL by default."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

import asqlite

from benchmarks.harness import HEAVY, INSERT, READ, ROWS, UPDATE, Scenario, single_sql


class Asqlite:
    async def open(self, path: str, scenario: Scenario) -> None:
        self._single = single_sql(scenario.name == "mixed")

        def init(db: sqlite3.Connection) -> None:
            db.execute(f"PRAGMA synchronous = {'FULL' if scenario.full else 'NORMAL'}")

        self._pool = await asqlite.create_pool(path, init=init, timeout=5.0)

    async def close(self) -> None:
        await self._pool.close()

    async def read(self, key: int) -> Any:
        async with self._pool.acquire() as db:
            return await db.fetchone(READ, (key,))

    async def rows(self, key: int, number: int) -> Sequence[Any]:
        async with self._pool.acquire() as db:
            return await db.fetchall(ROWS, (key, number))

    async def heavy(self, key: int) -> Any:
        async with self._pool.acquire() as db:
            return await db.fetchall(HEAVY, (key, key))

    async def transaction(self, key: int) -> None:
        async with self._pool.acquire() as db:
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
        async with self._pool.acquire() as db:
            await db.execute(self._single, (key,))


def make() -> Asqlite:
    return Asqlite()
