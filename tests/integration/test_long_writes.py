"""A write that is known to be long runs in a batch of its own: the small ones queued with it neither wait nor rerun."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import millpond.sync
from millpond import Database, Settings, Transaction, errors, events

SMALL = "INSERT INTO t(a) VALUES (?)"
SLOW = (
    "UPDATE t SET b = (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < ?) "
    "SELECT max(x) FROM c) WHERE a = -1"
)
STEPS = 100_000
"""Of SLOW, so many take some milliseconds, and never less than one."""
BIG = [(a,) for a in range(20_000)]


class Told:
    """How many jobs each commit had."""

    def __init__(self) -> None:
        self.jobs: list[int] = []
        self.arrived = threading.Condition()

    def __call__(self, event: events.Event) -> None:
        if isinstance(event, events.BatchCommitted):
            with self.arrived:
                self.jobs.append(event.jobs)
                self.arrived.notify_all()

    def wait_for(self, jobs: int) -> list[int]:
        """All commits, once there are so many jobs in them."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: sum(self.jobs) >= jobs, 10)
            return list(self.jobs)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
async def db(db_path: str, told: Told) -> AsyncIterator[Database]:
    async with Database(db_path, Settings(batch_budget_ms=4.0), observers=[told]) as db:
        await db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        await db.execute("INSERT INTO t VALUES (-1, 0)")
        yield db


async def queued_together(db: Database, told: Told, *calls: Callable[[], Any]) -> tuple[list[int], list[Any]]:
    """Queue calls in their order while somebody holds the writer. Returns the sizes of their commits, and answers."""
    outside = contextvars.copy_context()  # who queues belongs to no transaction
    tasks: list[asyncio.Task[Any]] = []
    async with db.transaction() as tx:
        await tx.execute("UPDATE t SET b = 0 WHERE a = -1")
        for number, call in enumerate(calls, 1):
            tasks.append(asyncio.create_task(call(), context=outside.copy()))
            async with asyncio.timeout(10):
                while db.stats().writes_waiting < number:  # noqa: ASYNC110  # counted elsewhere
                    await asyncio.sleep(0)
        before = db.stats().writes
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    sizes = await asyncio.to_thread(told.wait_for, db.stats().writes)
    while sum(sizes) > db.stats().writes - before - 1:
        sizes.pop(0)
    return sizes, answers


def small(db: Database, a: int) -> Callable[[], Any]:
    return lambda: db.execute(SMALL, (a,))


def smalls(db: Database, start: int) -> list[Callable[[], Any]]:
    return [small(db, a) for a in range(start, start + 5)]


async def test_many_rows_at_once_are_a_batch_of_their_own(db: Database, told: Told) -> None:
    big = lambda: db.execute_many("INSERT INTO t(a) VALUES (?)", BIG)  # noqa: E731  # as its neighbours are
    sizes, answers = await queued_together(db, told, *smalls(db, 30_000), big, *smalls(db, 40_000))
    assert sizes == [10, 1], "the small ones first, those that came after it too"
    assert answers[5].rowcount == len(BIG)
    assert await db.fetch_value("SELECT count(*) FROM t") == len(BIG) + 11


async def test_many_rows_that_fail_cost_their_neighbours_nothing(db: Database, told: Told) -> None:
    wrong = [*BIG, (0,)]
    big = lambda: db.execute_many("INSERT OR ROLLBACK INTO t(a) VALUES (?)", wrong)  # noqa: E731  # as its neighbours are
    whole = lambda: db.execute_many("INSERT INTO t(a) VALUES (?)", wrong)  # noqa: E731  # as its neighbours are
    sizes, answers = await queued_together(db, told, *smalls(db, 30_000), big, whole, *smalls(db, 40_000))
    assert sum(sizes) == 10
    assert [type(one) for one in answers[5:7]] == [errors.UniqueViolation] * 2
    assert db.stats().reruns == 0, "nobody ran twice"
    assert await db.fetch_value("SELECT count(*) FROM t") == 11


@pytest.mark.parametrize("kind", ["statement", "function", "script"])
async def test_what_has_shown_to_be_long_is_a_batch_of_its_own(db: Database, told: Told, kind: str) -> None:
    def slow(tx: Transaction) -> None:
        tx.execute(SLOW, (STEPS,))

    long: Callable[[], Any]
    match kind:
        case "statement":
            long = lambda: db.execute(SLOW, (STEPS,))  # noqa: E731  # as its neighbours are
        case "function":
            long = lambda: db.write(slow)  # noqa: E731  # as its neighbours are
        case _:
            script = "".join(f"INSERT INTO t(a) VALUES ({a}); DELETE FROM t WHERE a = {a};" for a in range(300))
            long = lambda: db.execute_script(script)  # noqa: E731  # as its neighbours are
    await long()
    sizes, answers = await queued_together(db, told, long, *smalls(db, 30_000))
    assert sizes == [5, 1], "what came later goes first, and waits for no more than its like"
    assert not [one for one in answers if isinstance(one, BaseException)]


async def test_a_long_write_lets_others_pass_a_few_times_and_then_goes(db: Database, told: Told) -> None:
    """However many come: each batch of small ones is answered before the next are queued."""
    await db.execute(SLOW, (STEPS,))
    passed = 0
    done = asyncio.Event()

    async def long() -> None:
        await db.execute(SLOW, (STEPS,))
        done.set()

    async def again(a: int) -> None:
        nonlocal passed
        while not done.is_set():
            await db.execute("UPDATE t SET b = b WHERE a = ?", (a,))
            passed += 1

    async with asyncio.timeout(20):
        await queued_together(db, told, long, *[lambda a=a: again(a) for a in range(5)])
    assert passed >= 5
    assert done.is_set()


def test_threads_share_the_same_order(db_path: str, told: Told) -> None:
    with millpond.sync.Database(db_path, observers=[told]) as db:
        db.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        threads: list[threading.Thread] = []
        with db.transaction() as tx:
            tx.execute("INSERT INTO t VALUES (-1, 0)")
            calls: list[Callable[[], Any]] = [lambda: db.execute_many(SMALL, BIG)]
            calls += [lambda a=a: db.execute(SMALL, (a,)) for a in range(30_000, 30_005)]  # type: ignore[misc]  # bound now
            for number, call in enumerate(calls, 1):
                threads.append(threading.Thread(target=call))
                threads[-1].start()
                while db.stats().writes_waiting < number:
                    threading.Event().wait(0.001)
        for thread in threads:
            thread.join()
        assert told.wait_for(8)[-2:] == [5, 1]
