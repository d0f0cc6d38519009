"""The rows of a running statement, a slice at a time, so that a thread never keeps the interpreter for long."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from millpond.engine.sqlite.connection import ALL, Connection, Parameters, Shape
from millpond.rows import Row
from millpond.statements.profile import Profile

__all__ = ["SLICE", "RowSlices", "all_rows", "reading"]

SLICE = 250
"""Rows that are made in one go: some tens of microseconds, after which whoever wants the interpreter gets it while
SQLite takes the next step. Ten times as many rows at once delay the event loop by as much, and are not made faster."""


class RowSlices:
    """A statement on a cursor of its own, begun when it is made. Raises: what apsw raises."""

    def __init__(self, connection: Connection, profile: Profile, params: Parameters) -> None:
        self._connection = connection
        self._cursor = connection.db.cursor()
        try:
            self._cursor.execute(profile.sql, params)
            self._columns = connection.begun(self._cursor, profile)
        except BaseException as exc:
            self.close()
            connection.explain(profile, exc)
            raise

    def next(self, size: int) -> list[Row]:
        """The next rows; fewer than `size` at the end."""
        found = self._connection.converted(self._columns, list(islice(self._cursor, size)))
        return list(map(self._columns.row, found))

    def close(self) -> None:
        """End the statement, wherever it is."""
        self._cursor.close(True)


def all_rows(
    connection: Connection, profile: Profile, params: Parameters, came: Callable[[int], bool] = lambda _: True
) -> list[Row]:
    """All rows of a statement. came: told after each slice how many rows there are; False ends it there."""
    slices = RowSlices(connection, profile, params)
    try:
        rows = found = slices.next(SLICE)
        while len(found) == SLICE and came(len(rows)):
            found = slices.next(SLICE)
            rows += found
        came(len(rows))
        return rows
    finally:
        slices.close()


def reading(profile: Profile, params: Parameters, shape: Shape) -> Callable[[Connection], Any]:
    """A step of a session that reads."""
    if shape is ALL:
        return lambda connection: all_rows(connection, profile, params)
    return lambda connection: connection.query(profile, params, shape)
