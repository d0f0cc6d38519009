"""Commits that wait for the readers of an attached file: outside of WAL mode reads and commits exclude each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from time import monotonic, time

import apsw

from millpond import errors, messages
from millpond.engine.sqlite import platform
from millpond.engine.sqlite.calls import WriteCall
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.grant import Lease

__all__ = ["commit_again"]


def commit_again(
    connection: Connection, failure: apsw.Error, calls: Sequence[WriteCall], is_over: Callable[[], bool]
) -> BaseException | None:
    """A COMMIT failed: if for a lock, it is tried again until the first deadline of its calls. None: it is done.

    Whoever has the write lock of the main file waits for nothing there, so it is an attached one that is
    locked; SQLite keeps the transaction as it is. Returns the last error, the transaction rolled back.
    """
    db = connection.db
    began = monotonic()
    seen = time()
    until = min((_deadline(call, began) for call in calls), default=began)
    error: apsw.Error = failure
    while isinstance(error, apsw.BusyError) and db.in_transaction and monotonic() < until and not is_over():
        try:
            connection.run("COMMIT")  # waits a slice by itself
        except apsw.Error as exc:
            error = exc
        else:
            return None
    if db.in_transaction:
        connection.run("ROLLBACK")
    if not isinstance(error, apsw.BusyError):
        return error
    told = _told(connection, calls, monotonic() - began, seen)
    told.__cause__ = error
    return told


def _deadline(call: WriteCall, now: float) -> float:
    """A transaction's own deadline was for its beginning."""
    if isinstance(call, Lease) or call.deadline is None:
        return now + call.timeout_s
    return call.deadline


def _told(connection: Connection, calls: Sequence[WriteCall], busy_s: float, seen: float) -> errors.Error:
    others = [str(row[2]) for row in connection.db.execute("PRAGMA database_list") if row[1] != "main" and row[2]]
    path, found = "", None
    for path in others:
        found = platform.file_lock_holder(path)
        if found is not None:
            break
    holder = errors.Holder(found.pid, found.program, seen, busy_s, None, found.ours) if found is not None else None
    named = os.path.basename(path) if len(others) == 1 or found is not None else "an attached file"
    call = calls[0] if len(calls) == 1 else None
    waited = monotonic() - call.submitted if call is not None else busy_s
    return messages.attached_locked(
        named, sql=call.sql if call is not None else None, waited_s=waited, holder=holder, path=path or None
    )
