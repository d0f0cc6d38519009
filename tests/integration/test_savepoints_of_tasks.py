"""A savepoint undoes the work of those inside it, and of nobody else."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

import millpond
import millpond.sync
from millpond import Database, DeadlineExceeded, ProgrammingError, Settings


@pytest_asyncio.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db") as db:
        await db.execute("CREATE TABLE t(n)")
        yield db


async def numbers(db: Database) -> list[int]:
    return [row[0] for row in await db.fetch_all("SELECT n FROM t ORDER BY n")]


class Undone(Exception):
    pass


async def test_a_failing_part_leaves_the_one_beside_it_alone(db: Database) -> None:
    first_is_in = asyncio.Event()

    async with db.transaction() as tx:

        async def fails() -> None:
            async with tx.savepoint():
                await tx.execute("INSERT INTO t VALUES (1)")
                first_is_in.set()
                await asyncio.sleep(0.01)
                raise Undone

        async def ends_well() -> None:
            await first_is_in.wait()
            async with tx.savepoint():
                await tx.execute("INSERT INTO t VALUES (2)")

        async def plain() -> None:
            await first_is_in.wait()
            await tx.execute("INSERT INTO t VALUES (3)")
            await tx.execute_many("INSERT INTO t VALUES (?)", [(4,)])
            await tx.execute_script("INSERT INTO t VALUES (5)")

        found = await asyncio.gather(fails(), ends_well(), plain(), return_exceptions=True)
        assert [type(one) for one in found] == [Undone, type(None), type(None)]
    assert await numbers(db) == [2, 3, 4, 5]


async def test_what_is_started_inside_belongs_to_the_savepoint(db: Database) -> None:
    async def insert(tx: millpond.database.TransactionScope, n: int) -> None:
        await tx.execute("INSERT INTO t VALUES (?)", (n,))

    async def nested(tx: millpond.database.TransactionScope, n: int, *, fail: bool) -> None:
        async with tx.savepoint():
            await insert(tx, n)
            await asyncio.sleep(0)
            if fail:
                raise Undone

    async with db.transaction() as tx:
        async with tx.savepoint():
            await asyncio.gather(*(insert(tx, n) for n in range(3)))
            found = await asyncio.gather(
                nested(tx, 10, fail=True), nested(tx, 11, fail=False), insert(tx, 12), return_exceptions=True
            )
            assert isinstance(found[0], Undone)
        with pytest.raises(Undone):
            async with tx.savepoint():
                await asyncio.gather(insert(tx, 20), nested(tx, 21, fail=False))
                async with tx.savepoint():
                    await asyncio.wait_for(insert(tx, 22), 5)
                raise Undone
        assert tx._nest is None
    assert await numbers(db) == [0, 1, 2, 11, 12]


async def test_savepoints_take_turns(db: Database) -> None:
    order: list[str] = []

    async with db.transaction() as tx:

        async def greedy(name: str) -> None:
            for _ in range(3):
                async with tx.savepoint():
                    order.append(name)
                    await tx.execute("INSERT INTO t VALUES (1)")
                    await asyncio.sleep(0)

        await asyncio.gather(greedy("a"), greedy("b"), greedy("c"))
    assert order == ["a", "b", "c"] * 3


async def test_a_wait_that_cannot_end_is_told_of(tmp_path: Path) -> None:
    async with Database(tmp_path / "a.db", Settings(timeout_s=0.2)) as db:
        await db.execute("CREATE TABLE t(n)")
        async with db.transaction() as tx:
            task = asyncio.create_task(tx.execute("INSERT INTO t VALUES (1)"))
            async with tx.savepoint():
                with pytest.raises(
                    DeadlineExceeded, match=r"savepoint opened at test_savepoints_of_tasks\.py"
                ) as caught:
                    await task
                assert caught.value.applied == "no"
                await tx.execute("INSERT INTO t VALUES (2)")
        assert await numbers(db) == [2]


async def test_a_cancelled_waiter_passes_its_turn_on(db: Database) -> None:
    async with db.transaction() as tx:
        release = asyncio.Event()

        async def holder() -> None:
            async with tx.savepoint():
                await release.wait()

        async def insert(n: int) -> None:
            await tx.execute("INSERT INTO t VALUES (?)", (n,))

        async def part() -> None:
            async with tx.savepoint():
                await insert(3)

        tasks = [asyncio.create_task(one) for one in (holder(), insert(1), part(), insert(2))]
        await asyncio.sleep(0.01)
        tasks[1].cancel()
        release.set()
        await asyncio.sleep(0)
        tasks[2].cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert tx._nest is None
    assert 2 in await numbers(db)


async def test_the_end_of_the_block_ends_the_wait(db: Database) -> None:
    async with db.transaction() as tx:
        entered = asyncio.Event()

        async def outlives() -> None:
            async with tx.savepoint():
                entered.set()
                await asyncio.sleep(0.05)

        late = asyncio.create_task(outlives())
        await entered.wait()
        waits = asyncio.create_task(tx.execute("INSERT INTO t VALUES (1)"))
        await asyncio.sleep(0)
    for task in (waits, late):
        with pytest.raises(ProgrammingError, match="is over"):
            await asyncio.wait_for(task, 5)
    assert await numbers(db) == []


async def test_the_inner_ends_before_the_outer(db: Database) -> None:
    async with db.transaction() as tx:

        async def child(n: int) -> None:
            async with tx.savepoint():
                await asyncio.sleep(0.01)
                await tx.execute("INSERT INTO t VALUES (?)", (n,))

        with pytest.raises(Undone):
            async with tx.savepoint():
                task = asyncio.create_task(child(1))
                await asyncio.sleep(0)
                raise Undone
        await task
        async with tx.savepoint():
            task = asyncio.create_task(child(2))
            await asyncio.sleep(0)
        await task
    assert await numbers(db) == [2]


async def test_many_parts_at_random(db: Database) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    kept: set[int] = set()
    number = iter(range(100_000))

    async with db.transaction() as tx:

        async def part(depth: int) -> set[int]:
            """The numbers that stay, if those around it stay."""
            stay: set[int] = set()
            for _ in range(draw.randrange(1, 4)):
                await asyncio.sleep(draw.choice((0, 0, 0.001)))
                n = next(number)
                heavy = draw.random() < 0.2
                if heavy:
                    await tx.execute_script(f"INSERT INTO t VALUES ({n})")
                else:
                    await tx.execute("INSERT INTO t VALUES (?)", (n,))
                stay.add(n)
                if depth < 3 and draw.random() < 0.6:
                    fails = draw.random() < 0.5
                    try:
                        async with tx.savepoint():
                            parts = [part(depth + 1) for _ in range(draw.randrange(1, 4))]
                            found = set().union(*await asyncio.gather(*parts))
                            if fails:
                                raise Undone
                        stay |= found
                    except Undone:
                        pass
            return stay

        for found in await asyncio.gather(*(part(0) for _ in range(6))):
            kept |= found
    assert set(await numbers(db)) == kept


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[millpond.sync.Database]:
    with millpond.sync.Database(tmp_path / "b.db") as twin:
        twin.execute("CREATE TABLE t(n)")
        yield twin


def test_threads_wait_for_each_others_savepoints(twin: millpond.sync.Database) -> None:
    errors: list[BaseException] = []
    with twin.transaction() as tx:

        def part(i: int) -> None:
            try:
                for k in range(20):
                    try:
                        with tx.savepoint():
                            tx.execute("INSERT INTO t VALUES (?)", (i * 1000 + k,))
                            with tx.savepoint():
                                tx.execute("INSERT INTO t VALUES (?)", (100_000 + i * 1000 + k,))
                            if k % 2:
                                raise Undone
                    except Undone:
                        pass
                    tx.execute("INSERT INTO t VALUES (?)", (200_000 + i * 1000 + k,))
            except BaseException as exc:
                errors.append(exc)

        threads = [threading.Thread(target=part, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
    found = {row[0] for row in twin.fetch_all("SELECT n FROM t")}
    even = {i * 1000 + k for i in range(4) for k in range(0, 20, 2)}
    wanted = even | {100_000 + n for n in even} | {200_000 + i * 1000 + k for i in range(4) for k in range(20)}
    assert found == wanted


def test_a_thread_that_waits_in_vain_is_told(tmp_path: Path) -> None:
    with millpond.sync.Database(tmp_path / "a.db", Settings(timeout_s=0.2)) as db:
        db.execute("CREATE TABLE t(n)")
        caught: list[BaseException] = []
        with db.transaction() as tx, tx.savepoint():

            def insert() -> None:
                try:
                    tx.execute("INSERT INTO t VALUES (1)")
                except millpond.Error as exc:
                    caught.append(exc)

            thread = threading.Thread(target=insert)
            thread.start()
            thread.join()
        assert isinstance(caught[0], DeadlineExceeded)
        assert "savepoint opened at test_savepoints_of_tasks.py" in str(caught[0])
        assert db.fetch_value("SELECT count(*) FROM t") == 0
