"""What a killed user of a file left beside it: a log, or a journal."""

from __future__ import annotations

import os
from contextlib import suppress

import apsw

__all__ = ["work_in"]


def work_in(path: str) -> None:
    """Before a file is replaced: work what lies beside it into the old file, if it has to do with that.

    SQLite finds a log by the file's name alone, and would read the new file through it. Deleted, it would take
    commits of the old file with it, which is still there if we are killed before it is replaced.
    Raises: apsw.BusyError, apsw.LockedError while somebody has the old file open; OSError.
    """
    left = [name for name in (path + "-wal", path + "-journal") if os.path.exists(name)]
    if not left:
        return
    try:
        old = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            old.pragma("schema_version")  # rolls a journal back
            old.pragma("journal_mode", "delete")
        finally:
            old.close(True)
    except (apsw.BusyError, apsw.LockedError):
        raise
    except apsw.Error:  # there is no such file, or it is no database: then this belongs to nothing
        for name in left:
            with suppress(FileNotFoundError):
                os.unlink(name)
