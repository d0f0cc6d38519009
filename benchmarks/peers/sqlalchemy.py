"""SQLAlchemy's asyncio engine over aiosqlite: WAL, BEGIN IMMEDIATE by the events that its documentation shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.harness import HEAVY, INSERT, READ, ROWS, UPDATE, Scenario, single_sql


def named(sql: str) -> Any:
    return text(sql.replace("LIMIT ?", "LIMIT :number").replace("?", ":key"))


class SqlAlchemy:
    async def open(self, path: str, scenario: Scenario) -> None:
        self._single = single_sql(scenario.name == "mixed")
        self._engine = create_async_engine(f"sqlite+aiosqlite:///{path}", connect_args={"timeout": 5.0})
        engine = self._engine.sync_engine

        @event.listens_for(engine, "connect")
        def connected(connection: Any, _record: Any) -> None:
            connection.isolation_level = None
            cursor = connection.cursor()
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute(f"PRAGMA synchronous = {'FULL' if scenario.full else 'NORMAL'}")
            cursor.close()

        @event.listens_for(engine, "begin")
        def begun(connection: Any) -> None:
            if not connection.get_execution_options().get("reads"):
                connection.exec_driver_sql("BEGIN IMMEDIATE")

        self._reader = self._engine.execution_options(reads=True)
        self._read, self._rows, self._heavy = map(named, (READ, ROWS, HEAVY))
        self._insert, self._update, self._one = map(named, (INSERT, UPDATE, self._single))

    async def close(self) -> None:
        await self._engine.dispose()

    async def read(self, key: int) -> Any:
        async with self._reader.connect() as db:
            return (await db.execute(self._read, {"key": key})).fetchone()

    async def rows(self, key: int, number: int) -> Sequence[Any]:
        async with self._reader.connect() as db:
            return (await db.execute(self._rows, {"key": key, "number": number})).fetchall()

    async def heavy(self, key: int) -> Any:
        async with self._reader.connect() as db:
            return (await db.execute(self._heavy, {"key": key})).fetchall()

    async def transaction(self, key: int) -> None:
        async with self._engine.begin() as db:
            await db.execute(self._insert, {"key": key})
            await db.execute(self._update, {"key": key})

    write = transaction

    async def single(self, key: int) -> None:
        async with self._engine.begin() as db:
            await db.execute(self._one, {"key": key})


def make() -> SqlAlchemy:
    return SqlAlchemy()
