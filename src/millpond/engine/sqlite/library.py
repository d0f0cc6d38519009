"""Which SQLite this is."""

from __future__ import annotations

import apsw

__all__ = ["sqlite_version"]


def sqlite_version() -> str:
    """Of the library that apsw brings; no database is opened for it."""
    return apsw.sqlite_lib_version()
