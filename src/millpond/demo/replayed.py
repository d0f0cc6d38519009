"""A chat log read from a file: tab-separated, gzipped, streamed."""

from __future__ import annotations

import gzip
from calendar import timegm
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import TextIO

from millpond.demo.chat import Event, guild_of

__all__ = ["COLUMNS", "BadLog", "replay"]

COLUMNS = ("date", "time", "event", "user", "text")
"""The first line of a log: date as 2004-12-25, time as 09:14, event message, action or rename."""

_KINDS = ("message", "action", "rename")


class BadLog(Exception):
    """The file is not a chat log; says which line."""


def replay(path: Path) -> Iterator[Event]:
    """The log's events, again from the start when it ends, with ids that go on.

    Memory: the users' names, nothing else. Lines that are not of the format are passed over, but a log
    without a single good one is refused.
    Raises: BadLog; OSError when the file cannot be read.
    """
    users: dict[str, int] = {}
    ids = count(1)
    while True:
        found = False
        for kind, name, at, body in _lines(path):
            found = True
            user = users.setdefault(name, len(users) + 1)
            yield Event(next(ids), kind, guild_of(name), user, name, at, body)
        if not found:
            raise BadLog(f"{path.name}: no event in it")


def _lines(path: Path) -> Iterator[tuple[str, str, int, str]]:
    try:
        with _opened(path) as log:
            header = log.readline().rstrip("\n").split("\t")
            if tuple(header) != COLUMNS:
                raise BadLog(f"{path.name}, line 1: the columns are not {', '.join(COLUMNS)}")
            day, midnight = "", 0
            for line in log:
                fields = line.rstrip("\n").split("\t", 4)
                if len(fields) != 5 or fields[2] not in _KINDS or not fields[3]:
                    continue
                date, time, kind, name, body = fields
                try:
                    if date != day:
                        day, midnight = date, _midnight(date)
                    at = midnight + 3600 * int(time[:2]) + 60 * int(time[3:5])
                except ValueError:
                    continue
                yield kind, name, at, body
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as exc:
        raise BadLog(f"{path.name}: not a gzipped UTF-8 text: {exc}") from exc


def _opened(path: Path) -> TextIO:
    # newline: a text may hold a bare carriage return, which is no end of a line
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="\n")
    return path.open(encoding="utf-8", newline="\n")


def _midnight(date: str) -> int:
    year, month, day = date.split("-")
    return timegm((int(year), int(month), int(day), 0, 0, 0))
