"""Which migrations are to be applied, from names, texts and the rows of the table. Knows no file and no database."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from millpond.errors import MigrationError
from millpond.messages import line, shorten

__all__ = ["Migration", "Recorded", "Source", "passed_over", "pending", "source"]

_NAME = re.compile(r"(\d{1,18})_\w[\w.-]*\.(?:sql|py)", re.ASCII)
NAME_LENGTH = 48


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, its name ("0002_tags.sql"), its path."""

    number: int
    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Source:
    """A migration with what its file says. sha256: of the text, with line ends as "\\n": git may change them."""

    migration: Migration
    text: str
    sha256: str


Recorded = tuple[int, str, str]
"""A row of the table: number, name, sha256."""


def passed_over(name: str) -> bool:
    """Hidden files, and Python's own (__pycache__, __init__.py)."""
    return name.startswith((".", "__"))


def source(name: str, path: str, data: bytes) -> Source:
    """What a file of the folder is. Raises: MigrationError for what is no migration."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise MigrationError(
            line(f"{shorten(name, NAME_LENGTH)} is no migration: their names are like 0001_create_user.sql or .py"),
            hint="Keep other files in another folder. Names that begin with a dot or with __ are passed over.",
            path=path,
            applied="no",
        )
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise MigrationError(f"{shorten(name, NAME_LENGTH)} is not UTF-8 text", path=path, applied="no") from None
    return Source(Migration(int(found[1]), name, path), text, hashlib.sha256(text.encode()).hexdigest())


def pending(sources: Iterable[Source], recorded: Iterable[Sequence[object]]) -> list[Source]:
    """Those to apply, in order. recorded: number, name and sha256 of those that were applied.

    Raises: MigrationError for two of one number, for an applied one that was changed or is gone, and for
    one that comes too late: below the highest that was applied.
    """
    by_number: dict[int, Source] = {}
    for one in sorted(sources, key=lambda source: (source.migration.number, source.migration.name)):
        twin = by_number.setdefault(one.migration.number, one)
        if twin is not one:
            raise _error(
                f"{_short(twin)} and {_short(one)} have the same number",
                "Give the later one the next free number.",
                one,
            )
    applied = {int(str(number)): (str(name), str(sha256)) for number, name, sha256 in recorded}
    for number, (name, sha256) in applied.items():
        now = by_number.get(number)
        if now is None:
            raise _error(
                f"{shorten(name, NAME_LENGTH)} was applied to this database, and is gone from the folder",
                "Put the file back as it was: the folder has the whole history. To undo it, write a new migration.",
            )
        if now.sha256 != sha256:
            other = "" if name == now.migration.name else f" (as {shorten(name, NAME_LENGTH)})"
            raise _error(
                f"{_short(now)} was changed after it was applied{other}",
                "Put the file back as it was, and write the change as a new migration.",
                now,
            )
    highest = max(applied, default=-1)
    later = [one for number, one in by_number.items() if number not in applied]
    for one in later:
        if one.migration.number < highest:
            raise _error(
                f"{_short(one)} was never applied, but number {highest} was: it would come too late",
                f"Give it a number above {highest}: then it runs in the same order everywhere.",
                one,
            )
    return later


def _short(one: Source) -> str:
    return shorten(one.migration.name, NAME_LENGTH)


def _error(text: str, hint: str, one: Source | None = None) -> MigrationError:
    path = None if one is None else one.migration.path
    return MigrationError(line(text), hint=hint, path=path, applied="no")
