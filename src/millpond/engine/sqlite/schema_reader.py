"""What error texts tell of the schema: asked for when there is an error, on a connection of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import apsw

from millpond.engine.sqlite.translate import ForeignKey

__all__ = ["SchemaReader"]


class SchemaReader:
    """Tables, columns and foreign keys of the file at a path. may_ask: is there a file that may be read now?

    version: the number that SQLite counts schema changes by.
    """

    def __init__(self, path: str, may_ask: Callable[[], bool], version: Callable[[], int]) -> None:
        self._path = path
        self._may_ask = may_ask
        self._version = version
        self._lock = threading.Lock()

    def columns(self, table: str) -> Sequence[str]:
        """The columns of a table."""
        wanted = table.lower()
        return next((columns for name, columns in self._schema().items() if name.lower() == wanted), [])

    def tables(self) -> Sequence[str]:
        """The tables and views there are."""
        return list(self._schema())

    def foreign_keys(self) -> Sequence[ForeignKey]:
        """The foreign keys there are."""
        found = self._ask(
            'SELECT s.name, group_concat(f."from", \', \' ORDER BY f.seq), f."table", '
            "ifnull(group_concat(f.\"to\", ', ' ORDER BY f.seq), '') "
            "FROM sqlite_schema s, pragma_foreign_key_list(s.name) f "
            "WHERE s.type = 'table' GROUP BY s.name, f.id LIMIT 5000"
        )
        return [ForeignKey(*map(str, row)) for row in found]

    def schema_version(self) -> int:
        """What SQLite counts schema changes by."""
        return self._version()

    def _schema(self) -> dict[str, list[str]]:
        """Tables and their columns."""
        found: dict[str, list[str]] = {}
        for table, column in self._ask(
            "SELECT s.name, c.name FROM sqlite_schema s, pragma_table_xinfo(s.name) c "
            "WHERE s.type IN ('table', 'view') LIMIT 5000"
        ):
            found.setdefault(str(table), []).append(str(column))
        return found

    def _ask(self, sql: str) -> list[Any]:
        """Read the schema on a connection of its own: errors are rare, and any thread may have one."""
        if not self._may_ask():
            return []
        with self._lock:
            try:
                db = apsw.Connection(self._path, flags=apsw.SQLITE_OPEN_READONLY)
            except apsw.Error:
                return []
            try:
                db.set_busy_timeout(50)
                return db.execute(sql).fetchall()
            except apsw.Error:
                return []
            finally:
                db.close()
