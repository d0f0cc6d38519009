"""What must not happen to a file that is open: watched for, and told."""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import apsw

from millpond import errors
from millpond.messages import engine_conflict, engine_conflict_before

__all__ = [
    "FileIdentity", "call_after_fork", "oldest_good_version", "refuse_private_databases", "warn_of_earlier",
    "watch_other_engines",
]  # fmt: skip

OLDEST_GOOD = (3, 51, 3)
"""Older ones have the WAL-reset race that can corrupt a database. Source: sqlite.org/wal.html."""


def oldest_good_version() -> None:
    """Raise NotSupportedError if the SQLite in use is one that can corrupt a database in WAL mode."""
    found = tuple(int(part) for part in apsw.sqlite_lib_version().split(".")[:3])
    if found < OLDEST_GOOD:
        raise errors.NotSupportedError(
            f"SQLite {apsw.sqlite_lib_version()} can corrupt a database under concurrent checkpoints",
            detail=f"apsw {apsw.apsw_version()} brought it; {'.'.join(map(str, OLDEST_GOOD))} or later is needed",
            hint="pip install --upgrade apsw",
        )


def refuse_private_databases(db: apsw.Connection, sql: str) -> None:
    """Raise NotSupportedError for an attached database without a file, which only this connection would see."""
    for _, name, file in db.execute("PRAGMA database_list").fetchall():
        if not file and name not in ("main", "temp"):
            quoted = str(name).replace('"', '""')
            db.execute(f'DETACH "{quoted}"')
            raise errors.NotSupportedError(
                "a database in memory cannot be attached: each connection would have one of its own",
                hint="Attach a file; or use a temporary table, or a Database of its own for what is in memory.",
                sql=sql,
                applied="no",
            )


class FileIdentity:
    """Are the files under these names still those that were opened?

    A file that was moved, replaced or deleted goes on taking writes without an error, and a connection
    opened then mixes two databases. Three stats before each batch, about 5 microseconds, rule that out.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._names = (path, path + "-wal", path + "-shm")
        self._seen: list[tuple[int, int] | None] = [None, None, None]

    def verify(self) -> errors.Error | None:
        """None while all is well; else what happened."""
        for i, name in enumerate(self._names):
            try:
                stat = os.stat(name)
                now: tuple[int, int] | None = (stat.st_dev, stat.st_ino)
            except FileNotFoundError:
                now = None
            except OSError as exc:
                return errors.StorageError(
                    f"{os.path.basename(self._path)} cannot be reached: {exc.strerror}", path=self._path, applied="no"
                )
            then = self._seen[i]
            if then is None:
                self._seen[i] = now
            elif now != then:
                return self._told(os.path.basename(name), "replaced by another file" if now else "moved or deleted", i)
        return None

    def _told(self, name: str, what: str, index: int) -> errors.Error:
        kind = errors.StorageError if index == 0 else errors.DatabaseCorrupt
        return kind(
            f"{name} was {what} while it was open; nothing is written until it is opened anew",
            detail="Connections that were open still see the old file; what is written there would be lost.",
            hint="Stop all users of the file, put the file and its -wal in place together, then open it again. "
            "Let programs that restore or rotate the file do so only while the service is down.",
            path=self._path,
            applied="no",
        )


_forked: weakref.WeakSet[Any] = weakref.WeakSet()
_kept: list[Any] = []


def call_after_fork(owner: Any) -> None:
    """Have `owner.forked()` called in a child of this process, which then keeps what it returns for ever.

    A child must neither use nor close its parent's connections: closing would end the parent's locks.
    """
    _forked.add(owner)


def _after_fork() -> None:
    _kept.extend(owner.forked() for owner in list(_forked))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def warn_of_earlier(name: str) -> None:
    """Warn EngineConflict: another library had the file open before."""
    theirs = getattr(sys.modules.get("sqlite3"), "sqlite_version", None)
    warnings.warn(engine_conflict_before(name, apsw.sqlite_lib_version(), theirs), stacklevel=2)


_watched: dict[str, Callable[[str], None]] = {}
_hooked = threading.Lock()
_hooks: list[object] = []


def watch_other_engines(path: str, tell: Callable[[str], None]) -> Callable[[], None]:
    """Warn EngineConflict when the standard library's sqlite3 opens `path` in this process.

    tell: called with the place. Returns a function that ends the watch. Python's audit events tell of
    each `sqlite3.connect`; the hook cannot be removed, so there is one, and it looks at nothing else.
    """
    key = os.path.realpath(path)
    with _hooked:
        _watched[key] = tell
        if not _hooks:
            sys.addaudithook(_audit)
            _hooks.append(_audit)

    def forget() -> None:
        if _watched.get(key) is tell:
            del _watched[key]

    return forget


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event != "sqlite3.connect" or not _watched or not args:
        return
    try:
        name = os.fsdecode(args[0])
    except TypeError:
        return
    if name.startswith("file:"):
        name = name.removeprefix("file:").split("?", 1)[0].removeprefix("//")
    tell = _watched.get(os.path.realpath(name))
    if tell is None:
        return
    frame = sys._getframe(1)
    place = f"{frame.f_globals.get('__name__', '?')}, line {frame.f_lineno}"
    tell(place)
    theirs = getattr(sys.modules.get("sqlite3"), "sqlite_version", None)
    warnings.warn(engine_conflict(os.path.basename(name), place, apsw.sqlite_lib_version(), theirs), stacklevel=2)
