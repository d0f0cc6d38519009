"""The next process after a kill: is the file sound, what is in it, can it be written at once?"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import asdict
from time import monotonic
from typing import Any

import apsw

from millpond import Settings, sync
from tests.torture.crash.ledger import CopySeen, Seen
from tests.torture.crash.plan import Orders
from tests.torture.crash.tokens import EACH, INSERT, READ, SCHEMA, row, sort_out
from tests.torture.workers.crash_log import Said, hear_warnings

__all__ = ["run"]

WHOLE_BYTES = 8 * 2**20
"""Larger files are looked through by quick_check, which compares no index with its table."""


def run(orders: Orders, said: Said) -> None:
    """Open it, write, look at all of it. Then close it, or wait for the own end."""
    hear_warnings(said)
    began = monotonic()
    with sync.Database(orders.path, Settings(**orders.settings)) as db:
        db.execute_script(SCHEMA)
        token = orders.process * EACH
        said("i", token, 1)
        db.execute(INSERT, row(token, 0, 1, 100))
        said("a", token)
        writable_ms = round((monotonic() - began) * 1000)
        with db.snapshot() as snapshot:
            counts, wrong = sort_out(snapshot.fetch_all(READ))
            tally: dict[int, int] = dict(snapshot.fetch_all("SELECT process, writes FROM tally"))
            balance = snapshot.fetch_value("SELECT sum(balance) FROM account")
        beside = apsw.Connection(orders.path, flags=apsw.SQLITE_OPEN_READONLY)
        beside.set_busy_timeout(5_000)
        seen = Seen(_integrity(beside), counts, wrong, tally, balance)
        beside.close()
        seen.copies = {target: look_at_copy(target) for target in orders.targets}
        said.at_length("r", json.dumps({"writable_ms": writable_ms, **asdict(seen)}))
        if not orders.leaves:
            users = [use_copy(target) for target in orders.targets if os.path.exists(target)]
            said("u", len(users))
            signal.pause()
    said("C")


def look_at_copy(target: str) -> CopySeen | None:
    """A backup, by SQLite alone."""
    if not os.path.exists(target):
        return None
    try:
        db = apsw.Connection(target, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            problem = _integrity(db)
            found: Any = db.execute(READ).fetchall() if problem == "ok" else []
        finally:
            db.close()
    except apsw.Error as exc:
        return CopySeen(f"{type(exc).__name__}: {exc}")
    counts, wrong = sort_out(found)
    return CopySeen(problem, counts, wrong)


def use_copy(target: str) -> apsw.Connection:
    """Be a user of the backup who is killed, and leaves a log beside it: the next one must not be read through that."""
    db = apsw.Connection(target, flags=apsw.SQLITE_OPEN_READWRITE)
    db.pragma("journal_mode", "wal")
    db.wal_autocheckpoint(0)
    db.execute("CREATE TABLE IF NOT EXISTS used (times INTEGER); INSERT INTO used VALUES (1)")
    return db


def _integrity(db: apsw.Connection) -> str:
    whole = db.pragma("page_count") * db.pragma("page_size") <= WHOLE_BYTES
    try:
        found = db.execute(f"PRAGMA {'integrity_check' if whole else 'quick_check'}(3)").fetchall()
    except apsw.CorruptError as exc:
        return f"CorruptError: {exc}"
    return "; ".join(str(line) for (line,) in found)
