"""Online backup: one consistent copy of a database that goes on being written."""

from __future__ import annotations

import os
from collections.abc import Callable

import apsw

from millpond import errors
from millpond.engine.sqlite.connection import Connection

__all__ = ["copy_database"]

STEP_PAGES = 1_000


def copy_database(
    source: Connection, target: str, progress: Callable[[int, int], None] | None, go_on: Callable[[], bool]
) -> int:
    """Copy what one snapshot of `source` sees to the file `target`, in steps; returns the pages copied.

    The source holds a read transaction for the whole copy: without it each commit of another connection
    starts the backup anew, and under load it never ends. The copy appears under its name only when whole.
    progress: called with pages done and pages in all. go_on: False stops it (the part is removed).
    Raises: apsw's errors; ProgrammingError if `target` is the database itself.
    """
    name = source.db.db_filename("main")
    if name and os.path.exists(target) and os.path.samefile(name, target):
        raise errors.ProgrammingError("a database cannot be backed up onto itself", path=target)
    part = target + ".part"
    if os.path.exists(part):
        os.unlink(part)
    pinned = bool(name)
    if pinned:
        source.run("BEGIN")
        source.db.pragma("schema_version")
    copy = apsw.Connection(part)
    try:
        with copy.backup("main", source.db, "main") as backup:
            while not backup.done and go_on():
                backup.step(STEP_PAGES)
                if progress is not None:
                    progress(backup.page_count - backup.remaining, backup.page_count)
            done, pages = backup.done, backup.page_count
        if done:
            copy.execute("PRAGMA journal_mode = DELETE").fetchall()
        copy.close()
        if not done:
            raise errors.OperationalError("the backup was stopped", path=target)
        os.replace(part, target)
    finally:
        copy.close(True)
        if os.path.exists(part):
            os.unlink(part)
        if pinned and source.db.in_transaction:
            source.run("ROLLBACK")
    return pages
