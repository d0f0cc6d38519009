"""The load: callers that write in every way there is, and say so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NoReturn

from millpond import Database, Settings, errors, sync
from tests.torture.crash.plan import Orders
from tests.torture.crash.tokens import ACCOUNTS, EACH, INSERT, SCHEMA, body, row, rows
from tests.torture.workers.crash_log import Said, hear_warnings
from tests.torture.workers.crash_points import Places

__all__ = ["MIGRATIONS", "run"]

MIGRATIONS = "migrations"
"""The folder beside the file."""
TASKS = 6
THREADS = 3
HALVES = "SELECT token FROM entry WHERE parts > 0 GROUP BY token HAVING count(*) <> max(parts) LIMIT 1"
Failure = type[Exception] | None


class RollBackPlease(Exception):
    """What a transaction is rolled back with on purpose."""


class Stepwise:
    """The sync facade in the async one's clothes: who awaits it is never suspended, so a thread runs it in one step."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._target, name)

        async def call(*args: Any, **named: Any) -> Any:
            return method(*args, **named)

        return call

    @asynccontextmanager
    async def transaction(self, **named: Any) -> AsyncIterator[Stepwise]:
        with self._target.transaction(**named) as tx:
            yield Stepwise(tx)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[Stepwise]:
        with self._target.savepoint():
            yield self


def run(orders: Orders, said: Said) -> None:
    hear_warnings(said)
    places = Places(orders, said)
    if orders.threads:
        _in_threads(orders, said, places)
    else:
        asyncio.run(_in_tasks(orders, said, places))


async def _in_tasks(orders: Orders, said: Said, places: Places) -> None:
    db = Database(orders.path, Settings(**orders.settings))
    await db.open()
    load = Load(orders, said, places, db)
    await load.prepare()
    tasks = [asyncio.create_task(load.call(caller)) for caller in range(TASKS)]
    if orders.copies:
        tasks.append(asyncio.create_task(load.copy()))
    await asyncio.to_thread(load.enough.wait)
    said("c")
    await db.close()
    said("C")
    await asyncio.gather(*tasks)


def _in_threads(orders: Orders, said: Said, places: Places) -> None:
    db = sync.Database(orders.path, Settings(**orders.settings))
    db.open()
    load = Load(orders, said, places, Stepwise(db))
    _step(load.prepare())
    todo = [load.call(caller) for caller in range(THREADS)]
    if orders.copies:
        todo.append(load.copy())
    threads = [threading.Thread(target=_step, args=(one,), daemon=True) for one in todo]
    for thread in threads:
        thread.start()
    load.enough.wait()
    said("c")
    db.close()
    said("C")
    for thread in threads:
        thread.join()


def _step(work: Any) -> None:
    try:
        work.send(None)
    except StopIteration:
        return
    raise RuntimeError("the sync facade has suspended")


class Load:
    """What the callers share. enough: the process is to close now; they go on until they are refused."""

    def __init__(self, orders: Orders, said: Said, places: Places, db: Any) -> None:
        self._orders = orders
        self._said = said
        self._places = places
        self._db = db
        self._tokens: Iterator[int] = count(orders.process * EACH)
        self._mine: list[int] = []
        self._answered = 0
        self._lock = threading.Lock()
        self.enough = threading.Event()

    async def prepare(self) -> None:
        await self._db.execute_script(SCHEMA)
        folder = Path(self._orders.path).parent / MIGRATIONS
        numbers = [int(path.name[:4]) for path in folder.iterdir()]
        await self._db.migrate(folder)
        self._said("m", max(numbers, default=0))
        self._said("o")

    async def call(self, caller: int) -> None:
        """One caller: a write after the other, until the database is closed or rests."""
        random = Random(f"{self._orders.seed}.{caller}")
        kinds: list[Callable[[Random], Awaitable[None]]] = [
            self._one, self._one, self._several, self._function, self._transaction, self._many, self._slices,
            self._script, self._fails, self._delete, self._delete, self._look,
        ]  # fmt: skip
        while not self._rests():
            kind = random.choice(kinds)
            try:
                await kind(random)
            except errors.DatabaseClosed as exc:
                if not self.enough.is_set():
                    self._wrong(exc)
                return
            except Exception as exc:
                self._wrong(exc)

    async def copy(self) -> None:
        """Backups, one after the other, over the last one's file."""
        target = f"{self._orders.path}.copy{self._orders.slot}"
        while not self.enough.is_set():
            self._said("b", target)
            try:
                await self._db.backup(target)
            except errors.DatabaseClosed:
                return
            except errors.Error as exc:
                if not self.enough.is_set():
                    self._wrong(exc)
                return
            self._said("B", target)

    def _rests(self) -> bool:
        return bool(self._orders.rests_after) and self._answered >= self._orders.rests_after

    def _wrong(self, exc: Exception) -> None:
        self._said("e", type(exc).__name__, exc, *getattr(exc, "__notes__", ()))

    async def _acknowledged(self, kind: str, token: int, write: Awaitable[Any], fails: Failure) -> None:
        """Wait for a write, and say what became of it. fails: how it is to fail."""
        try:
            await write
        except Exception as exc:
            if fails is not None and isinstance(exc, fails):
                self._said("n", token)
                return
            if isinstance(exc, errors.DatabaseClosed) and exc.applied == "no" and kind == "a":
                self._said("n", token)
            raise
        if fails is not None:
            raise RuntimeError(f"token {token} was to fail")
        self._said(kind, token)
        with self._lock:
            self._answered += 1
            if kind == "a":
                self._mine.append(token)
        if 0 < self._orders.ends_after <= self._answered:
            self.enough.set()

    async def _write(
        self, token: int, parts: int, write: Awaitable[Any], *, sliced: bool = False, fails: Failure = None
    ) -> None:
        self._said("i", token, parts, *("s" * sliced))
        await self._acknowledged("a", token, write, fails)

    def _terms(self, random: Random) -> dict[str, Any]:
        return {"durability": random.choice(("full", "normal"))} if random.random() < 0.3 else {}

    def _drawn(self, random: Random, least: int = 2, most: int = 6) -> tuple[int, int, int]:
        """token, rows, characters of each: one write in so many is large, and spills over pages."""
        size = random.randint(2_000, 40_000) if random.random() < 0.05 else random.randint(10, 300)
        return next(self._tokens), random.randint(least, most), size

    async def _one(self, random: Random) -> None:
        token, _, size = self._drawn(random)
        await self._write(token, 1, self._db.execute(INSERT, row(token, 0, 1, size), **self._terms(random)))

    async def _several(self, random: Random) -> None:
        token, parts, size = self._drawn(random)
        values = [value for part in range(parts) for value in row(token, part, parts, size)]
        sql = INSERT + ", (?, ?, ?, ?, ?)" * (parts - 1)
        await self._write(token, parts, self._db.execute(sql, values, **self._terms(random)))

    async def _function(self, random: Random) -> None:
        token, parts, size = self._drawn(random)
        debtor, creditor = random.sample(range(ACCOUNTS), 2)

        def write(tx: Any) -> None:
            for one in rows(token, parts, size):
                tx.execute(INSERT, one)
                self._places.reached("in a write function")
            tx.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (token, debtor))
            tx.execute("UPDATE account SET balance = balance + ? WHERE id = ?", (token, creditor))

        await self._write(token, parts, self._db.write(write, **self._terms(random)))

    async def _transaction(self, random: Random) -> None:
        token, parts, size = self._drawn(random)
        await self._write(token, parts, self._interactive(token, parts, size, self._terms(random)))

    async def _interactive(
        self, token: int, parts: int, size: int, terms: dict[str, Any], *, undo: bool = False
    ) -> None:
        async with self._db.transaction(**terms) as tx:
            for one in rows(token, parts, size):
                async with tx.savepoint():
                    await tx.execute(INSERT, one)
                self._places.reached("in an interactive transaction")
            if undo:
                raise RollBackPlease

    async def _many(self, random: Random) -> None:
        token, parts, size = self._drawn(random, 5, 60)
        await self._write(
            token, parts, self._db.execute_many(INSERT, rows(token, parts, size % 2_000 + 1), **self._terms(random))
        )

    async def _slices(self, random: Random) -> None:
        token, parts, size = self._drawn(random, 100, 600)
        write = self._db.execute_many(INSERT, iter(rows(token, parts, size % 500 + 1, sliced=True)), atomic=False)
        await self._write(token, parts, write, sliced=True)

    async def _script(self, random: Random) -> None:
        token, parts, size = self._drawn(random)
        texts = (
            "INSERT INTO entry (token, part, parts, size, body) "
            f"VALUES ({token}, {part}, {parts}, {size}, '{body(token, part, size)}');"
            for part in range(parts)
        )
        await self._write(token, parts, self._db.execute_script("\n".join(texts)))

    async def _fails(self, random: Random) -> None:
        """What leaves nothing behind; half of it takes its whole batch with it, whose others run again."""
        token, parts, size = self._drawn(random)
        rolls_back = INSERT.replace("INSERT", "INSERT OR ROLLBACK") + ", (?, 1, ?, NULL, NULL)"
        poison = (*row(token, 0, parts, size), token, parts)
        match random.randrange(4):
            case 0:

                def write(tx: Any) -> NoReturn:
                    tx.execute(INSERT, row(token, 0, parts, size))
                    raise RollBackPlease

                await self._write(token, parts, self._db.write(write), fails=RollBackPlease)
            case 1:
                doomed = self._interactive(token, parts, size, {}, undo=True)
                await self._write(token, parts, doomed, fails=RollBackPlease)
            case 2:
                await self._write(token, parts, self._db.execute(rolls_back, poison), fails=errors.IntegrityError)
            case _:
                doomed = self._db.write(lambda tx: tx.execute(rolls_back, poison))
                await self._write(token, parts, doomed, fails=errors.IntegrityError)

    async def _delete(self, random: Random) -> None:
        with self._lock:
            if not self._mine:
                return
            token = self._mine.pop(random.randrange(len(self._mine)))
        self._said("d", token)
        await self._acknowledged("D", token, self._db.execute("DELETE FROM entry WHERE token = ?", (token,)), None)

    async def _look(self, _: Random) -> None:
        half = await self._db.fetch_value(HALVES)
        if half is not None:
            self._said("e", f"half of the write {half} was read")
