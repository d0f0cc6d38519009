"""Is a file open in this process by other means than Millpond's engine? Looked at before it is opened here."""

from __future__ import annotations

import os
import sys

import apsw

from millpond.engine.sqlite import platform

__all__ = ["other_library_has_open"]


def other_library_has_open(path: str) -> bool:
    """Has the standard library's sqlite3, if it is loaded, opened this file before?

    The process's descriptors tell of it, where they can be seen. If one of apsw's own connections may have
    the file, they tell nothing, and the answer is False.
    """
    if not platform.linux_facts or "_sqlite3" not in sys.modules:
        return False
    try:
        wanted = _identity(path)
        if any(db.filename and _identity(db.filename) == wanted for db in apsw.connections()):
            return False
        names = os.listdir("/proc/self/fd")
    except (OSError, apsw.Error):
        return False
    return any(_is_open(f"/proc/self/fd/{name}", wanted) for name in names)


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _is_open(link: str, wanted: tuple[int, int]) -> bool:
    try:
        return _identity(link) == wanted
    except OSError:
        return False  # closed meanwhile
