"""Ask SQLite what a statement is, without running it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw

from millpond.errors import ProgrammingError
from millpond.statements.facts import Action, Facts
from millpond.statements.pragmas import acts_when_prepared
from millpond.statements.profile import Profile, classify

__all__ = ["Profiler"]

_NAMES = {
    value: name.removeprefix("SQLITE_")
    for name, value in apsw.mapping_authorizer_function.items()
    if isinstance(name, str) and isinstance(value, int)
}


_NULLS: Any = apsw._null_bindings  # type: ignore[attr-defined]  # not in the stubs; apsw.ext uses it so
"""Stands in for parameters of any kind and number while a statement is only looked at (as apsw.ext does)."""


class Profiler:
    """The authorizer's answers and the plan of a statement on one connection.

    The authorizer stays installed: setting it expires every prepared statement of the connection, while
    a call per preparation costs next to nothing, since prepared statements are kept.

    Most pragmas take effect while they are prepared. So while a statement is only looked at, the authorizer
    has SQLite leave them out, and what such a pragma would answer is asked on a database of no one's.
    """

    def __init__(self, db: apsw.Connection, *, on_writer: bool) -> None:
        self._db = db
        self._on_writer = on_writer
        self._actions: list[Action] | None = None
        self._looking = False
        self._left_out: Action | None = None
        db.authorizer = self._authorize

    def profile(self, sql: str, cookie: int) -> Profile:
        """Classify a statement. cookie: the schema version that the connection sees.

        Raises: apsw.Error for wrong SQL; ProgrammingError where there is no statement, or more than one.
        """
        return classify(self._facts(sql, cookie))

    def statements(self, text: str) -> Iterator[str]:
        """The statements of a script, one after another: each may be run before the next is looked for."""
        while text.strip():
            first, found = self._first(text)
            if found:
                yield first
            if len(first) >= len(text) or not first:
                return
            text = text[len(first) :]

    def _first(self, text: str) -> tuple[str, bool]:
        """The first statement of a text, and whether it is more than a comment."""
        seen: list[tuple[str, bool]] = []

        def look(cursor: apsw.Cursor, first: str, _bindings: Any) -> bool:
            seen.append((first, cursor.has_vdbe))
            return False

        cursor = self._db.cursor()
        cursor.exec_trace = look
        self._looking = True
        try:
            cursor.execute(text, _NULLS, can_cache=False)
        except apsw.ExecTraceAbort:
            return seen[0]
        finally:
            self._looking = False
            cursor.close(True)
        return (text, False)

    def _facts(self, sql: str, cookie: int) -> Facts:
        self._looking = True
        self._left_out = None
        try:
            return self._looked_at(sql, cookie)
        finally:
            self._looking = False

    def _looked_at(self, sql: str, cookie: int) -> Facts:
        seen: dict[str, Any] = {}

        def look(cursor: apsw.Cursor, first: str, _bindings: Any) -> bool:
            seen.update(
                first=first,
                empty=not cursor.has_vdbe,
                readonly=cursor.is_readonly,
                is_explain=bool(cursor.is_explain),
                columns=tuple((c[0], c[1]) for c in cursor.get_description()),
            )
            return False

        actions: list[Action] = []
        self._actions = actions
        cursor = self._db.cursor()
        cursor.exec_trace = look
        try:
            cursor.execute(sql, _NULLS, can_cache=False)
        except apsw.ExecTraceAbort:
            pass
        finally:
            self._actions = None
            cursor.close(True)
        if not seen or seen["empty"]:
            raise ProgrammingError("there is no statement in this text", sql=sql, applied="no")
        left_out = self._left_out
        remaining = sql[len(seen["first"]) :].strip()
        if remaining and self._has_statement(remaining):
            raise ProgrammingError(
                "this text holds more than one statement",
                sql=sql,
                applied="no",
                hint="Use `await db.execute_script(sql)` for several statements, or one call for each.",
            )
        opcodes: tuple[tuple[str, int, int], ...] = ()
        if not seen["is_explain"]:
            opcodes = tuple(self._opcodes(seen["first"]))
            if left_out is not None:
                seen["readonly"], seen["columns"] = _elsewhere(left_out)
        return Facts(
            sql=sql,
            readonly=seen["readonly"],
            is_explain=seen["is_explain"],
            actions=tuple(actions),
            opcodes=opcodes,
            columns=seen["columns"],
            cookie=cookie,
            on_writer=self._on_writer,
            temporaries=self._temporaries(),
        )

    def _temporaries(self) -> frozenset[str]:
        """The names of temporary objects, which are the writer's alone."""
        if not self._on_writer:
            return frozenset()
        return frozenset(str(row[0]) for row in self._db.execute("SELECT name FROM temp.sqlite_schema"))

    def _opcodes(self, sql: str) -> Iterator[tuple[str, int, int]]:
        """The instructions that it compiles to. Left open, the cursor would pin the commit that it sees."""
        cursor = self._db.cursor()
        try:
            cursor.execute(sql, _NULLS, can_cache=False, explain=1)
            while True:
                try:
                    row: Any = next(cursor)
                except StopIteration:
                    return
                except UnicodeDecodeError:
                    continue  # a blob written in the statement is shown as text that is none; it only loads a value
                yield str(row[1]), int(row[2]), int(row[3])
        finally:
            cursor.close(True)

    def _has_statement(self, text: str) -> bool:
        """Is there more than comments and semicolons?"""
        try:
            return next(self.statements(text), None) is not None
        except apsw.Error:
            return True

    def _authorize(
        self, code: int, third: str | None, fourth: str | None, database: str | None, trigger: str | None
    ) -> int:
        if not self._looking:
            return apsw.SQLITE_OK
        action = Action(_NAMES.get(code, str(code)), third, fourth, database, trigger)
        if self._actions is not None:
            self._actions.append(action)
        if code == apsw.SQLITE_PRAGMA and fourth is not None and acts_when_prepared((third or "").lower()):
            self._left_out = action
            return apsw.SQLITE_IGNORE
        return apsw.SQLITE_OK


_OF_THE_PROCESS = ("data_store_directory", "hard_heap_limit", "soft_heap_limit", "temp_store_directory")
"""These are set for all connections at once, so also elsewhere they are only asked."""


def _elsewhere(pragma: Action) -> tuple[bool, tuple[tuple[str, str | None], ...]]:
    """Is the pragma read-only, and what are its columns? Asked where its effect is nobody's."""
    seen: list[tuple[bool, tuple[tuple[str, str | None], ...]]] = []

    def look(cursor: apsw.Cursor, _first: str, _bindings: Any) -> bool:
        seen.append((cursor.is_readonly, tuple((c[0], c[1]) for c in cursor.get_description())))
        return False

    name, value = pragma.third or "", (pragma.fourth or "").replace("'", "''")
    text = f'PRAGMA "{name}"' if name.lower() in _OF_THE_PROCESS else f"PRAGMA \"{name}\" = '{value}'"
    db = apsw.Connection(":memory:")
    cursor = db.cursor()
    cursor.exec_trace = look
    try:
        cursor.execute(text)
    except apsw.ExecTraceAbort:
        return seen[0]
    except apsw.Error:
        return True, ()  # a value that is wrong: told when it is run
    finally:
        db.close(True)
    return True, ()
