"""Run hot paths between marks, what scripts/instructions.py counts under callgrind: hot_paths.py SHORT LONG NAME ...

A mark is a call of getppid, at which callgrind writes down what it has counted so far. Everything that depends on how
long something takes is taken away: clocks advance by a microsecond when they are looked at (which is about what they do
in real life: a read looks thrice), threads are not switched by time, the garbage collector is off.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence

time.perf_counter = time.monotonic = itertools.count(1.0, 1e-6).__next__  # before anybody takes the real ones

from millpond import Database, Transaction  # noqa: E402  # with these clocks
from millpond.sync import Database as SyncDatabase  # noqa: E402

READ = "SELECT id, name FROM item WHERE id = ?"
INSERT = "INSERT INTO log(item) VALUES (?)"
UPDATE = "UPDATE item SET n = n + 1 WHERE id = ?"
SCHEMA = """
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT NOT NULL, n INTEGER NOT NULL DEFAULT 0);
CREATE TABLE log(id INTEGER PRIMARY KEY, item INTEGER NOT NULL);
INSERT INTO item(id, name) VALUES (1, 'one'), (7, 'seven');
"""
WARM_UP = 300


def mark() -> None:
    os.getppid()


async def tasks_path(name: str, path: str, runs: Sequence[int]) -> None:
    async with Database(path) as db:
        await db.execute_script(SCHEMA)

        def both(tx: Transaction) -> None:
            tx.execute(INSERT, (1,))
            tx.execute(UPDATE, (1,))

        async def transaction() -> None:
            async with db.transaction() as tx:
                await tx.execute(INSERT, (1,))
                await tx.execute(UPDATE, (1,))

        acts: dict[str, Callable[[], Awaitable[object]]] = {
            "point read": lambda: db.fetch_one(READ, (7,), cache=False),
            "kept result": lambda: db.fetch_one(READ, (7,)),
            "execute": lambda: db.execute(INSERT, (1,)),
            "write(fn)": lambda: db.write(both),
            "transaction of two": transaction,
        }
        act = acts[name]
        for _ in range(WARM_UP):
            await act()
        for number in runs:
            gc.collect()
            mark()
            for _ in range(number):
                await act()
            mark()


def threads_path(name: str, path: str, runs: Sequence[int]) -> None:
    with SyncDatabase(path) as db:
        db.execute_script(SCHEMA)
        acts: dict[str, Callable[[], object]] = {
            "point read": lambda: db.fetch_one(READ, (7,), cache=False),
            "kept result": lambda: db.fetch_one(READ, (7,)),
            "execute": lambda: db.execute(INSERT, (1,)),
        }
        act = acts[name]
        for _ in range(WARM_UP):
            act()
        for number in runs:
            gc.collect()
            mark()
            for _ in range(number):
                act()
            mark()


def main() -> None:
    gc.disable()
    sys.setswitchinterval(1e6)
    runs, names = [int(number) for number in sys.argv[1:3]], sys.argv[3:]
    for name in names:
        with tempfile.TemporaryDirectory(prefix="millpond-count-") as folder:
            path = os.path.join(folder, "count.db")
            kind, threads, _ = name.partition(", threads")
            if threads:
                threads_path(kind, path, runs)
            else:
                asyncio.run(tasks_path(kind, path, runs))


if __name__ == "__main__":
    main()
