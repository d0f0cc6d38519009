"""Texts for statements that SQLite cannot prepare: what is wrong, where, and what was probably meant."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import apsw

from millpond import errors
from millpond.messages import clip, headed, line, shorten

__all__ = ["SchemaFacts", "wrong_sql"]

LISTED = 20
"""Names of tables or columns that a detail lists."""

ASKED = 4
"""Tables of a statement whose columns are asked for."""


class SchemaFacts(Protocol):
    """What error texts ask of the schema, lazily."""

    def columns(self, table: str) -> Sequence[str]: ...
    def tables(self) -> Sequence[str]: ...


@runtime_checkable
class VersionFacts(SchemaFacts, Protocol):
    """What a schema may tell besides."""

    def schema_version(self) -> int: ...


_NO_TABLE = re.compile(r"no such (table|view): (?:main\.)?(.+)")
_NO_COLUMN = re.compile(r"no such column: (.+?)( - should this be a string literal in single-quotes\?)?$")
_NOT_A_COLUMN_OF = re.compile(r"table (.+) has no column named (.+)")
_NEAR = re.compile(r'near "(.*)": syntax error', re.DOTALL)
_TOKEN = re.compile(r'unrecognized token: "(.*)"', re.DOTALL)
_VALUES = re.compile(r"table (.+) has \d+ columns but \d+ values were supplied")
_EXISTS = re.compile(r"(?:there is already an? )?(table|index|view|trigger) (.+) already exists")
_SEARCH = re.compile(r"fts[345]: |unterminated string$|malformed MATCH expression|unknown special query")
_OF_VALUES = re.compile(r"integer overflow$|malformed JSON|bad JSON path|JSON cannot hold BLOB|ESCAPE expression must")
_LITERAL = re.compile(r"'(?:[^']|'')*'?")
_PLAIN_NAME = re.compile(r"[A-Za-z_][\w.$ ]{0,60}")

_TWO_QUOTES = "Text is written in single quotes, or better given as a parameter; double quotes are for names."
_PLACEHOLDERS = "A parameter is written ? or :name, without quotes, and its value is given beside the statement."
_SEARCH_HINT = (
    "A search text has a grammar of its own: give what a person typed as one quoted phrase, "
    """'"' + text.replace('"', '""') + '"'."""
)


def wrong_sql(exc: apsw.SQLError, sql: str | None, schema: SchemaFacts | None, facts: dict[str, Any]) -> errors.Error:
    """The error for apsw.SQLError. facts: the attributes that all errors have."""
    text = str(exc)
    offset: int = getattr(exc, "error_offset", -1)
    if (found := _NO_TABLE.search(text)) is not None:
        return _no_table(found[1], found[2], sql, schema, facts)
    if (found := _NOT_A_COLUMN_OF.search(text)) is not None:
        return _no_column(found[2], found[1], sql, schema, None, facts)
    if (found := _NO_COLUMN.search(text)) is not None:
        name = found[1].strip('"')
        if _is_hidden(name, sql):
            return _nameless(sql, facts)
        table, _, column = name.rpartition(".")
        quoted = found[2] is not None or (sql is not None and f'"{name}"' in sql)
        return _no_column(column, table, sql, schema, _TWO_QUOTES if quoted else None, facts)
    if (found := _NEAR.search(text)) is not None:
        return _syntax(found[1], sql, offset, facts)
    if (found := _TOKEN.search(text)) is not None:
        return _token(found[1], sql, offset, facts)
    if _SEARCH.search(text) is not None:
        return errors.ProgrammingError(headed(sql, ": the search text is malformed"), hint=_SEARCH_HINT, **facts)
    kind: type[errors.DatabaseError] = errors.DataError if _OF_VALUES.match(text) else errors.ProgrammingError
    if text == "not authorized":
        kind = errors.NotSupportedError
    return kind(headed(sql, f": {_without_data(text)}"), **_advice(text, schema), **facts)


def _no_table(
    kind: str, name: str, sql: str | None, schema: SchemaFacts | None, facts: dict[str, Any]
) -> errors.NoSuchTable:
    names = schema.tables() if schema is not None else ()
    detail = f"{clip(sql)}; tables: {_listed(names)}" if sql else f"tables: {_listed(names)}"
    if sql is not None and not _is_call(sql) and name.rpartition(".")[2].lower() not in sql.lower():
        detail += ". The statement itself does not name it: a view, trigger or foreign key that it touches does"
    return errors.NoSuchTable(
        line(f"{kind} {shorten(name, 60)} does not exist{_nearest(name, names)}"), detail=detail, **facts
    )


def _no_column(
    column: str,
    table: str,
    sql: str | None,
    schema: SchemaFacts | None,
    hint: str | None,
    facts: dict[str, Any],
) -> errors.NoSuchColumn:
    candidates: list[str] = _tables_of(table, sql, schema)
    known = {name: schema.columns(name) for name in candidates[:ASKED]} if schema is not None else {}
    if not table and len(known) == 1:
        table = candidates[0]
    full = f"{shorten(table, 50)}.{shorten(column, 50)}" if table else shorten(column, 60)
    if not _PLAIN_NAME.fullmatch(column):
        full = "a name in the statement"
    version = [f"schema version {schema.schema_version()}"] if isinstance(schema, VersionFacts) else []
    detail = "; ".join(
        [
            *([clip(sql)] if sql else []),
            *version,
            *(f"columns of {name}: {_listed(found)}" for name, found in known.items()),
        ]
    )
    near = _nearest(column, [name for found in known.values() for name in found])
    return errors.NoSuchColumn(
        line(f"{full} does not exist{near}" if near or table else f"column {full} does not exist"),
        detail=detail or None,
        hint=hint,
        **facts,
    )


def _nameless(sql: str | None, facts: dict[str, Any]) -> errors.NoSuchColumn:
    """The name is not in the statement: in a search text it would be a parameter's value."""
    return errors.NoSuchColumn(
        headed(sql, ": a column named by a view or by a search text does not exist"), hint=_SEARCH_HINT, **facts
    )


def _syntax(token: str, sql: str | None, offset: int, facts: dict[str, Any]) -> errors.ProgrammingError:
    spot = _spot(sql, offset, token)
    if sql is not None and spot is not None and spot > 0 and sql[spot - 1] in "'\"":
        return errors.ProgrammingError(
            headed(sql, ": syntax error: a quoted text ends too early"),
            detail=_where(sql, spot),
            hint="A quote inside of it ended it. Give text as a parameter, never by pasting it into the statement.",
            **facts,
        )
    hint = None
    if token in ("%", "{", "$"):
        hint = _PLACEHOLDERS
    elif token.upper() in apsw.keywords:
        hint = f'Just before {token} something is missing or too much. If it is meant as a name, write "{token}".'
    elif near := _closest(token, apsw.keywords, 0.8):
        hint = f"Is {near} meant?"
    return errors.ProgrammingError(
        headed(sql, f": syntax error near {shorten(_without_data(token), 30) or 'its end'}"),
        detail=_where(sql, spot, fragment=True),
        hint=hint,
        **facts,
    )


def _token(token: str, sql: str | None, offset: int, facts: dict[str, Any]) -> errors.ProgrammingError:
    where = _where(sql, _spot(sql, offset, token))
    if token[:1] in ("'", '"', "`", "[") or token[:2].lower() == "x'":
        return errors.ProgrammingError(
            headed(sql, ": a quoted text does not end as it should"),
            detail=where,
            hint="Give text as a parameter, never by pasting it into the statement.",
            **facts,
        )
    shown = token if len(token) == 1 else "a token"
    return errors.ProgrammingError(
        headed(sql, f": syntax error: {shown} has no meaning here"),
        detail=where,
        hint=_PLACEHOLDERS if token[:1] in "{%$@#" else None,
        **facts,
    )


def _advice(text: str, schema: SchemaFacts | None) -> dict[str, Any]:
    """Detail and hint for some of the other texts."""
    if (found := _VALUES.search(text)) is not None:
        names = _listed(schema.columns(found[1])) if schema is not None else ""
        hint = f"Name the columns: INSERT INTO {shorten(found[1], 40)}(...) VALUES (...)."
        return {"detail": f"columns of {found[1]}: {names}", "hint": hint} if names else {"hint": hint}
    if (found := _EXISTS.search(text)) is not None:
        return {"hint": f"CREATE {found[1].upper()} IF NOT EXISTS, if that is meant."}
    if text == "incomplete input":
        return {"hint": "The statement ends too early: a bracket is open, or a clause has nothing in it."}
    if "no such function: " in text:
        return {"hint": "Is it spelled as SQLite spells it? PRAGMA function_list names all that there are."}
    if "ambiguous column name" in text:
        return {"hint": "Several tables of the statement have it: write table.column."}
    return {}


def _tables_of(table: str, sql: str | None, schema: SchemaFacts | None) -> list[str]:
    """The tables that a column was looked for in: the one named, the one behind an alias, or all of the statement."""
    if schema is None:
        return []
    names = {name.lower(): name for name in schema.tables()}
    table = table.lower().removeprefix("main.")
    if table in names:
        return [names[table]]
    words = re.findall(r"[\w$]+", clip(sql or "", len(sql or "")).lower())
    if table and not _is_call(sql):
        for before, word in itertools.pairwise(words):
            if word == table and before in names:
                return [names[before]]
        joined = " ".join(words)
        if (found := re.search(rf"(\w+) as {re.escape(table)}\b", joined)) is not None and found[1] in names:
            return [names[found[1]]]
    return [names[word] for word in dict.fromkeys(words) if word in names]


def _is_call(sql: str | None) -> bool:
    """A function given to `write`: which of its statements failed is not known here."""
    return sql is not None and sql.startswith("write(")


def _is_hidden(name: str, sql: str | None) -> bool:
    if sql is None or _is_call(sql) or name.rpartition(".")[2].lower() in sql.lower():
        return False
    return bool(re.match(r"(select|with|values)\b", clip(sql).lower())) or "match" in sql.lower()


def _spot(sql: str | None, offset: int, token: str) -> int | None:
    """Where the token is, in characters; None if the offset is of another text than this (a script's part)."""
    if sql is None or offset < 0 or not token:
        return None
    start = len(sql.encode(errors="replace")[:offset].decode(errors="replace"))
    return start if sql.startswith(token, start) else None


def _where(sql: str | None, spot: int | None, *, fragment: bool = False) -> str | None:
    if sql is None or spot is None:
        return None
    row = sql.count("\n", 0, spot) + 1
    column = spot - (sql.rfind("\n", 0, spot) + 1) + 1
    return f"line {row}, character {column}" + (f": {clip(sql[spot:], 40)}" if fragment else "")


def _without_data(text: str) -> str:
    """SQLite quotes parts of values in single quotes."""
    return _LITERAL.sub("?", text)


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more if names else "none known"


def _nearest(name: str, names: Sequence[str]) -> str:
    near = _closest(name, names, 0.6)
    return f"; nearest: {shorten(near, 40)}" if near else ""


def _closest(name: str, names: Iterable[str], cutoff: float) -> str | None:
    by_case = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), by_case, 1, cutoff)
    return by_case[near[0]] if near else None
