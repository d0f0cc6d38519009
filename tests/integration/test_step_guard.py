"""A write on the loop that is suddenly long is stopped there, and runs again where it may take its time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from millpond import Database, Settings, Transaction, errors
from millpond.engine.sqlite import step_guard

SMALL = "INSERT INTO small(a) VALUES (?)"
DELETE = "DELETE FROM t WHERE u = ?"
MANY = 5_000
ENOUGH = 12
"""So often a statement is run to be known as cheap."""


@pytest.fixture
async def db(db_path: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(step_guard, "STEPS", 1_000)
    monkeypatch.setattr(step_guard, "STALL_S", 0.0)  # what comes to two looks at the clock is too long
    async with Database(db_path, Settings(cache_bytes=0, batch_budget_ms=1_000)) as db:
        await db.execute_script("CREATE TABLE t(u); CREATE INDEX t_u ON t(u); CREATE TABLE small(a)")
        await db.execute_many("INSERT INTO t VALUES (?)", [(1,)] * MANY)
        for _ in range(ENOUGH):
            await db.execute(SMALL, (-1,))
            await db.execute(DELETE, (2,))
        yield db


async def small(db: Database) -> list[Any]:
    return [row[0] for row in await db.fetch_all("SELECT a FROM small WHERE a >= 0 ORDER BY rowid")]


def runs_on_the_loop(db: Database) -> bool:
    assert db._engine is not None
    profile = db._engine.profiles.get(DELETE)
    return profile is not None and profile.cost.inline


async def test_it_is_done_once_and_so_are_those_of_its_turn(db: Database) -> None:
    assert runs_on_the_loop(db)
    before = db.stats().reruns
    calls = [db.execute(SMALL, (0,)), db.execute(SMALL, (1,)), db.execute(DELETE, (1,)), db.execute(SMALL, (2,))]
    results = await asyncio.gather(*calls)
    assert results[2].rowcount == MANY
    assert await db.fetch_value("SELECT count(*) FROM t") == 0
    assert sorted(await small(db)) == [0, 1, 2]
    assert db.stats().reruns == before + 3, "it, and those that had run before it in the turn"
    assert not runs_on_the_loop(db)
    await db.execute_many("INSERT INTO t VALUES (?)", [(1,)] * MANY)
    assert (await db.execute(DELETE, (1,))).rowcount == MANY
    assert db.stats().reruns == before + 3, "once is enough"


async def test_in_the_writer_nothing_is_stopped(db: Database) -> None:
    before = db.stats().reruns
    assert (await db.execute("DELETE FROM t WHERE u + 0 = ?", (1,))).rowcount == MANY
    assert db.stats().reruns == before


@pytest.mark.parametrize("catches", [False, True])
@pytest.mark.parametrize("sql", [DELETE, "SELECT count(*) FROM t WHERE u + 0 = ?"])
async def test_a_function_runs_again_in_the_writer_whatever_it_makes_of_the_stop(
    db: Database, sql: str, catches: bool
) -> None:
    where: list[int] = []

    def work(tx: Transaction, u: int = 2) -> None:
        where.append(threading.get_ident())
        tx.execute(SMALL, (u,))
        if not catches:
            tx.execute(sql, (u,))
            return
        try:
            tx.execute(sql, (u,))
        except errors.Error:
            tx.execute(SMALL, (100,))

    def with_many(tx: Transaction) -> None:
        work(tx, u)

    u = 2
    for _ in range(ENOUGH):
        if sql != DELETE:
            await db.execute("DELETE FROM t")  # that the read is cheap, too
        await db.write(with_many)
    await db.execute_many("INSERT INTO t VALUES (?)", [(1,)] * MANY)
    await db.execute("DELETE FROM small")
    where.clear()
    u = 1
    await asyncio.gather(db.write(with_many), db.execute(SMALL, (7,)))
    assert sorted(await small(db)) == [1, 7]
    assert len(where) == 2
    assert where[0] == threading.get_ident()
    assert where[1] != threading.get_ident()


async def test_an_interactive_transaction_of_its_turn_is_not_lost(db: Database) -> None:
    """What is interactive cannot run again: beside it nothing is stopped."""

    async def short(a: int) -> None:
        async with db.transaction() as tx:
            await tx.execute(SMALL, (a,))

    for _ in range(ENOUGH):
        await short(-1)
    before = db.stats().reruns
    results = await asyncio.gather(short(0), db.execute(DELETE, (1,)), short(1), return_exceptions=True)
    assert not [one for one in results if isinstance(one, BaseException)]
    assert await small(db) == [0, 1]
    assert db.stats().reruns == before
    assert await db.fetch_value("SELECT count(*) FROM t") == 0


async def test_a_long_statement_of_a_transaction_is_not_stopped(db: Database) -> None:
    async with db.transaction() as tx:
        assert (await tx.execute(DELETE, (1,))).rowcount == MANY
    assert await db.fetch_value("SELECT count(*) FROM t") == 0
