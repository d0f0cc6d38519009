"""A file as another program would leave it: with a rollback journal, maybe in the middle of a transaction."""

from __future__ import annotations

import os
import signal

import apsw

from tests.torture.crash.plan import Orders
from tests.torture.crash.tokens import EACH, INSERT, SCHEMA, rows
from tests.torture.workers.crash_log import Said

__all__ = ["run"]

WRITES = 20


def run(orders: Orders, said: Said) -> None:
    db = apsw.Connection(orders.path)
    db.execute(f"PRAGMA page_size = {orders.page_size}; PRAGMA journal_mode = DELETE").fetchall()
    db.execute(SCHEMA)
    first = orders.process * EACH
    for token in range(first, first + WRITES):
        said("i", token, 3)
        with db:
            db.executemany(INSERT, rows(token, 3, 500))
        said("a", token)
    if orders.hot:
        token = first + WRITES
        said("i", token, 200)
        db.execute("PRAGMA cache_size = 5; BEGIN IMMEDIATE; UPDATE entry SET size = size")
        db.executemany(INSERT, rows(token, 200, 5_000))  # more than the cache takes: pages of it are in the file
        said("h", "a hot journal")
        os.kill(os.getpid(), signal.SIGKILL)
    db.close()
    said("C")
