"""What is told of whoever keeps others waiting: which process, since when, and how many wait."""

from __future__ import annotations

import asyncio
import time
from time import monotonic

import pytest

from millpond import Database, Settings, errors, events
from millpond.engine.sqlite import lock_watch, platform
from millpond.engine.sqlite.lock_watch import LockWatch

from .outside import lock_held

linux_only = pytest.mark.skipif(not platform.linux_facts, reason="who has a lock can be seen on Linux alone")


async def timed_out(db: Database, timeout: float) -> errors.LockTimeout:
    with pytest.raises(errors.LockTimeout) as caught:
        await db.execute("INSERT INTO t VALUES (1)", timeout=timeout)
    return caught.value


@linux_only
async def test_how_long_a_lock_is_held_goes_on_counting_between_calls(db_path: str) -> None:
    async with Database(db_path) as db:
        await db.execute("CREATE TABLE t(x)")
        with lock_held(db_path) as process:
            first = monotonic()
            seen: list[errors.Holder] = []
            for _ in range(30):
                error = await timed_out(db, 0.02)
                assert error.holder is not None
                seen.append(error.holder)
                assert "1 write waits behind it" in " ".join(error.__notes__)
            in_all = monotonic() - first
            assert {holder.pid for holder in seen} == {process.pid}
            held = [holder.held_s or -1.0 for holder in seen]
            assert held == sorted(held)
            assert 0 <= held[0] <= in_all
            assert in_all * 0.8 <= held[-1] <= in_all + 0.1
            since = {holder.since for holder in seen}
            assert len(since) == 1
            (told,) = since
            assert told is not None
            assert abs(time.time() - told - in_all) < 1
        await db.execute("INSERT INTO t VALUES (1)")
        with lock_held(db_path) as process:
            again = (await timed_out(db, 0.05)).holder
            assert again is not None
            assert again.pid == process.pid
            assert (again.held_s or 9.0) < in_all + 0.1
            assert (again.since or 0.0) > (seen[0].since or 0.0)


async def test_a_transaction_of_ones_own_is_told_with_its_beginning(db_path: str) -> None:
    async with Database(db_path) as db:
        await db.execute("CREATE TABLE t(x)")
        begun = time.time()
        started = asyncio.Event()
        over = asyncio.Event()

        async def hold() -> None:
            async with db.transaction() as tx:
                await tx.execute("INSERT INTO t VALUES (1)")
                started.set()
                await over.wait()

        task = asyncio.create_task(hold())
        await started.wait()
        results = await asyncio.gather(
            db.execute("INSERT INTO t VALUES (2)", timeout=10),
            timed_out(db, 0.2),
            asyncio.create_task(_after(over, 0.4)),
        )
        holder = results[1].holder
        assert holder is not None
        assert holder.since is not None
        assert abs(holder.since - begun) < 0.5
        assert holder.held_s is not None
        assert 0 <= holder.held_s < 5
        assert "2 writes wait behind it" in " ".join(results[1].__notes__)
        await task


async def _after(event: asyncio.Event, seconds: float) -> None:
    asyncio.get_running_loop().call_later(seconds, event.set)
    await event.wait()


@linux_only
async def test_a_long_wait_is_told_with_the_process_that_caused_it(db_path: str) -> None:
    seen: list[events.Event] = []
    async with Database(db_path, observers=[seen.append]) as db:
        await db.execute("CREATE TABLE t(x)")
        with lock_held(db_path) as process:
            write = asyncio.create_task(db.execute("INSERT INTO t VALUES (1)"))
            await asyncio.wait([write], timeout=0.4)
            assert not write.done()
        await write
    (waited,) = [event for event in seen if isinstance(event, events.LockWaited)]
    assert waited.pid == process.pid
    assert waited.program is not None
    assert "python" in waited.program
    assert waited.waited_s >= 0.3


async def test_closing_under_a_transaction_says_that_it_was_closed(db_path: str) -> None:
    db = Database(db_path, Settings(close_grace_s=0.2))
    await db.open()
    await db.execute("CREATE TABLE t(x)")
    begun, closed = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (1)")
            begun.set()
            await closed.wait()

    task = asyncio.create_task(hold())
    await begun.wait()
    await db.close()
    closed.set()
    with pytest.raises(errors.TransactionLost) as caught:
        await task
    error = caught.value
    assert "was closed" in str(error)
    assert "max_lease" not in str(error) + "".join(error.__notes__)
    assert "close_grace_s" in "".join(error.__notes__)
    assert error.applied == "no"
    assert not error.retryable


class Kernel:
    """Stands in for what the kernel lists, and for the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.pid: int | None = 7
        monkeypatch.setattr(lock_watch, "monotonic", lambda: self.now)
        monkeypatch.setattr(lock_watch, "time", lambda: self.now + 5000)
        monkeypatch.setattr(platform, "write_lock_holder", self.holder)

    def holder(self, _path: str) -> platform.LockHolder | None:
        return None if self.pid is None else platform.LockHolder(self.pid, "other", False)


def test_a_holder_is_remembered_until_another_comes_or_nobody_has_looked(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    watch = LockWatch("bot.db")
    first = watch.look(998.0)
    assert (first.pid, first.since, first.held_s) == (7, 5998.0, 2.0)
    kernel.now = 1000.5
    assert watch.look(1000.4).held_s == 2.5
    kernel.now = 1030.0
    assert watch.look(1000.6).held_s == 32.0
    kernel.pid = 8
    kernel.now = 1031.0
    assert watch.look(1000.6).held_s == 0.0
    kernel.now = 1060.0
    assert watch.look(1059.0).held_s == 1.0
    watch.forget()
    assert watch.look(1059.5).held_s == 0.5
    kernel.pid = None
    kernel.now = 1060.2
    assert watch.look(1059.5) == errors.Holder(since=6060.2, held_s=0.0)
