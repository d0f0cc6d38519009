"""LeaseExpired and LockTimeout say how many statements a transaction ran: each once, the first time too."""

from __future__ import annotations

import asyncio

import pytest

import millpond
import millpond.sync
from millpond import Database


async def test_a_statement_counts_once_also_when_it_is_new(db_path: str) -> None:
    async with Database(db_path, {"max_lease": 0.2}) as db:
        await db.execute("CREATE TABLE x(a)")
        with pytest.raises(millpond.LeaseExpired) as caught:
            async with db.transaction() as tx:
                await tx.execute("INSERT INTO x VALUES (1)")
                async with tx.savepoint():
                    await tx.execute("INSERT INTO x VALUES (?)", (2,))
                await tx.execute_script("INSERT INTO x VALUES (3)")
                await asyncio.sleep(0.6)  # the slow call that a transaction must not wait for
                await tx.execute("INSERT INTO x VALUES (4)")
        assert (caught.value.detail or "").startswith("3 statements undone")


def test_the_same_in_threads(db_path: str) -> None:
    with millpond.sync.Database(db_path) as db:
        db.execute("CREATE TABLE x(a)")
        with db.transaction() as tx:
            tx.execute("INSERT INTO x VALUES (1)")
            tx.fetch_all("SELECT a FROM x")
            assert tx._lease is not None
            assert tx._lease.statements == 2
