"""Where a database is: a path, a URL or memory."""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from os import PathLike, fspath
from urllib.parse import unquote, urlsplit

from millpond.errors import NotSupportedError, ProgrammingError

__all__ = ["Location", "locate"]

_SQLITE_SCHEMES = ("sqlite", "sqlite3", "sqlite+aiosqlite", "sqlite+pysqlite")


@dataclass(frozen=True, slots=True)
class Location:
    """path: absolute, or ":memory:". name: for people. memory: nothing on disk."""

    path: str
    name: str
    memory: bool = False


def locate(where: str | PathLike[str]) -> Location:
    """Read a path, ":memory:", or a URL as SQLAlchemy and encode/databases write it.

    sqlite:///bot.db is relative, sqlite:////srv/bot.db absolute.
    Raises: ProgrammingError for what is none of these, NotSupportedError for other engines.
    """
    if not isinstance(where, (str, PathLike)):
        raise ProgrammingError(f"a database is named by a path or a URL, not by {type(where).__name__}")
    text = fspath(where)
    if not isinstance(text, str):
        raise ProgrammingError("a database is named by text, not by bytes")
    if not text:
        raise ProgrammingError("the name of the database is empty", hint='For a database in memory write ":memory:".')
    if text == ":memory:":
        return Location(text, text, memory=True)
    _printable(text)
    if text.startswith("file:"):
        raise NotSupportedError("SQLite's own file: URIs are not taken", hint="Give the path, or sqlite:///path.")
    if "://" in text:
        text = _from_url(text)
        if text == ":memory:":
            return Location(text, text, memory=True)
    elif text.partition(":")[0] in _SQLITE_SCHEMES and ":" in text:
        scheme, _, rest = text.partition(":")
        raise ProgrammingError(
            f"{scheme}: wants slashes: three before a relative path, four before an absolute one",
            hint=f"Write {scheme}:///{rest.lstrip('/') or 'bot.db'}, or the path alone.",
        )
    path = os.path.abspath(text)
    return Location(path, os.path.basename(path) or path)


def _from_url(url: str) -> str:
    parts = urlsplit(url, allow_fragments=False)  # a file's name may hold a #
    if parts.scheme not in _SQLITE_SCHEMES:
        raise NotSupportedError(
            f"{parts.scheme}:// is not a database that this version opens", hint="Give a path, or sqlite:///bot.db."
        )
    if parts.netloc:
        raise ProgrammingError(
            f"sqlite:// wants three slashes before a relative path, four before an absolute one: {parts.scheme}:///bot.db"
        )
    if parts.query:
        raise NotSupportedError("options in the URL are not taken", hint="Give Settings(...) instead.")
    path = unquote(parts.path.removeprefix("/"))
    _printable(path)
    return path or ":memory:"


def _printable(name: str) -> None:
    """Raise ProgrammingError for control characters: nobody means them, and a URL would lose them silently."""
    found = next((c for c in name if ord(c) < 32 or ord(c) == 127), None)
    if found is not None:
        what = "a NUL character" if found == "\0" else f"a control character ({found!r})"
        raise ProgrammingError(f"the name of the database holds {what}")
