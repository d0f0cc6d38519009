"""apsw's exceptions in Millpond's words: which class, and where its text is made."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import apsw

from millpond import errors
from millpond.engine.sqlite import storage, wrong_values
from millpond.engine.sqlite.files import FileFacts
from millpond.engine.sqlite.storage import cannot_open as translate_open
from millpond.engine.sqlite.wrong_sql import SchemaFacts, wrong_sql
from millpond.errors import Applied
from millpond.messages import clip, headed, shorten

__all__ = ["ForeignKey", "ForeignKeyFacts", "SchemaFacts", "translate", "translate_open"]


class ForeignKey(NamedTuple):
    """One constraint; several columns joined by ", ". parent_columns: empty for the parent's primary key."""

    table: str
    columns: str
    parent: str
    parent_columns: str


@runtime_checkable
class ForeignKeyFacts(SchemaFacts, Protocol):
    """What a schema may tell besides, lazily: then the error for a foreign key names both tables."""

    def foreign_keys(self) -> Sequence[ForeignKey]: ...


def translate(
    exc: BaseException,
    *,
    sql: str | None,
    schema: SchemaFacts | None = None,
    path: str | None = None,
    applied: Applied | None = None,
    files: Callable[[], FileFacts] | None = None,
    errno: int = 0,
    at_page_limit: bool | None = None,
) -> errors.Error:
    """The error to raise for what apsw raised (or for what Python raised inside its bindings).

    applied: what the caller knows; else "no" for what may be a write. errno: the connection's
    `system_errno`, asked in its own thread right after an I/O error. at_page_limit: after FullError,
    whether page_count has reached max_page_count. Costs microseconds, but for names that do not exist.
    """
    facts: dict[str, Any] = {
        "sql": sql,
        "applied": applied or _not_applied(sql),
        "path": path,
        "extended_code": getattr(exc, "extendedresult", None),
    }
    match exc:
        case apsw.ConstraintError():
            return _constraint(exc, sql, schema, facts)
        case apsw.BindingsError():
            return wrong_values.wrong_count(str(exc), sql, facts)
        case apsw.SQLError():
            return wrong_sql(exc, sql, schema, facts)
        case apsw.BusyError() | apsw.ProtocolError():
            return storage.locked(sql, files() if files else None, facts, own=False)
        case apsw.LockedError():
            return storage.locked(sql, None, facts, own=True)
        case apsw.FullError():
            return storage.full(sql, files() if files else None, facts, at_page_limit=at_page_limit)
        case apsw.ReadOnlyError() | apsw.PermissionsError():
            return storage.read_only(sql, files() if files else None, facts)
        case apsw.IOError():
            return storage.failed_io(sql, files() if files else None, facts, errno=errno)
        case apsw.CantOpenError():
            return storage.unopenable(sql, str(exc), files() if files else None, facts, errno=errno)
        case apsw.CorruptError() | apsw.NotADBError():
            return storage.corrupt(sql, str(exc), files() if files else None, facts)
        case apsw.MismatchError():
            return wrong_values.mismatch(sql, facts)
        case apsw.TooBigError():
            return wrong_values.too_big(sql, facts)
        case apsw.Error():
            return _plain(exc, sql, facts)
        case _:
            found = wrong_values.wrong_value(exc, sql, facts)
            return found if found is not None else wrong_values.conversion_failed(exc, sql, facts)


def _not_applied(sql: str | None) -> Applied | None:
    """Statements that certainly read have no outcome to tell; for all others nothing that failed is in the file."""
    if sql is None or re.match(r"(select|values|explain|pragma)\b", clip(sql), re.IGNORECASE):
        return None
    return "no"


def _plain(exc: apsw.Error, sql: str | None, facts: dict[str, Any]) -> errors.Error:
    """Those that need no facts."""
    match exc:
        case apsw.InterruptError():
            return errors.OperationalError(headed(sql, " was interrupted"), retryable=True, **facts)
        case apsw.AbortError():
            return errors.OperationalError(
                headed(sql, " was ended by the rollback of its transaction"), retryable=True, **facts
            )
        case apsw.SchemaChangeError():
            return errors.SchemaChanged(
                headed(sql, ": the schema changed again and again while it ran"), hint="Run it again.", **facts
            )
        case apsw.NoMemError():
            return errors.OperationalError(
                headed(sql, ": out of memory"), hint="Read less at once: iterate, or LIMIT.", **facts
            )
        case apsw.AuthError() | apsw.ExtensionLoadingError():
            return errors.NotSupportedError(headed(sql, f": {exc}"), **facts)
        case apsw.ForkingViolationError():
            return errors.Forked("the connection was opened before a fork, and is used in the child", **facts)
        case apsw.ConnectionClosedError() | apsw.CursorClosedError():
            return errors.DatabaseClosed(headed(sql, ": its connection was closed meanwhile"), **facts)
        case _:
            if facts["applied"] is not None:
                facts["applied"] = "unknown"
            return errors.InternalError(
                headed(sql, f": {type(exc).__name__}: {exc}"),
                hint="This is a fault of Millpond's: please report it.",
                **facts,
            )


_UNIQUE = re.compile(r"UNIQUE constraint failed: (?:index '(.+)'|(.+))")
_NOT_NULL = re.compile(r"NOT NULL constraint failed: (.+)")
_CHECK = re.compile(r"CHECK constraint failed: (.+)", re.DOTALL)
_OR_FAIL = re.compile(r"\bor\s+fail\b", re.IGNORECASE)
_WRITTEN = re.compile(
    r"\b(insert|replace|update|delete)\b(?:\s+or\s+\w+)?(?:\s+(?:into|from))?\s+(?:\w+\.)?[\"`\[]?(\w+)", re.IGNORECASE
)
_PRIMARY = (apsw.SQLITE_CONSTRAINT_PRIMARYKEY, apsw.SQLITE_CONSTRAINT_ROWID)
FOREIGN_KEYS_LISTED = 6


def _constraint(
    exc: apsw.ConstraintError, sql: str | None, schema: SchemaFacts | None, facts: dict[str, Any]
) -> errors.Error:
    text = str(exc)
    detail = "Not applied; retrying will not help. Calls that run beside it are not touched."
    if sql is not None and _OR_FAIL.search(sql):
        detail += " Inside a transaction OR FAIL keeps the rows that it had written before."
    if (found := _UNIQUE.search(text)) is not None:
        index, columns = found.groups()
        names = [name.partition(".")[2] or name for name in (columns or "").split(", ")]
        kind = "PRIMARY KEY" if facts["extended_code"] in _PRIMARY else "UNIQUE"
        broken = f"UNIQUE index {shorten(index, 50)}" if index else f"{kind} ({shorten(columns, 70)})"
        quoted = ", ".join(name if name.isidentifier() else f'"{name}"' for name in names)
        instead = "ON CONFLICT DO NOTHING" if index else f"ON CONFLICT ({shorten(quoted, 80)}) DO UPDATE / DO NOTHING"
        return errors.UniqueViolation(
            headed(sql, f" breaks {broken}"),
            detail=detail,
            hint=f"{instead}, if that is meant.",
            **facts,
        )
    if (found := _NOT_NULL.search(text)) is not None:
        return errors.NotNullViolation(
            headed(sql, f" leaves {shorten(found[1], 70)} without a value (NOT NULL)"),
            detail=detail,
            hint="Give it a value, or give the column a DEFAULT.",
            **facts,
        )
    if (found := _CHECK.search(text)) is not None:
        return errors.CheckViolation(headed(sql, f" breaks CHECK ({shorten(found[1], 70)})"), detail=detail, **facts)
    if "FOREIGN KEY" in text:
        return _foreign_key(sql, schema, detail, facts)
    match facts["extended_code"]:
        case apsw.SQLITE_CONSTRAINT_TRIGGER:
            # What a trigger says was written by the schema's author for whoever reads it.
            return errors.IntegrityError(headed(sql, f" was refused by a trigger: {text}"), detail=detail, **facts)
        case apsw.SQLITE_CONSTRAINT_DATATYPE:
            return errors.IntegrityError(
                headed(sql, f": {text} (STRICT)"), detail=detail, hint="Convert the value first.", **facts
            )
        case _:
            return errors.IntegrityError(headed(sql, f": {text}"), detail=detail, **facts)


def _foreign_key(
    sql: str | None, schema: SchemaFacts | None, detail: str, facts: dict[str, Any]
) -> errors.ForeignKeyViolation:
    """SQLite says only that one is broken: which it can be follows from the table that is written."""
    found = _WRITTEN.search(clip(sql, len(sql))) if sql else None
    word, table = (found[1].lower(), found[2]) if found is not None else ("", "")
    keys = _possible_keys(word, table, schema)
    if len(keys) == 1:
        rest = f" breaks FOREIGN KEY {_key(keys[0])}"
    elif table:
        rest = f" breaks a FOREIGN KEY of {shorten(table, 50)}"
    else:
        rest = " breaks a FOREIGN KEY"
    if len(keys) > 1:
        detail = f"One of: {'; '.join(map(_key, keys[:FOREIGN_KEYS_LISTED]))}. {detail}"
    refers, referred = "The row that it refers to must exist", "the rows that refer to it must go first"
    hint = {"insert": f"{refers}.", "delete": f"{referred.capitalize()}, or have ON DELETE CASCADE."}.get(
        word, f"{refers}, or {referred}."
    )
    return errors.ForeignKeyViolation(headed(sql, rest), detail=detail, hint=hint, **facts)


def _possible_keys(word: str, table: str, schema: SchemaFacts | None) -> list[ForeignKey]:
    """An INSERT breaks what its table refers to, a DELETE what refers to it, an UPDATE both."""
    if not table or not isinstance(schema, ForeignKeyFacts):
        return []
    table = table.lower()
    return [
        key
        for key in schema.foreign_keys()
        if (key.table.lower() == table and word != "delete") or (key.parent.lower() == table and word != "insert")
    ]


def _key(key: ForeignKey) -> str:
    parent = f"{shorten(key.parent, 25)}({shorten(key.parent_columns, 25)})" if key.parent_columns else key.parent
    return f"{shorten(key.table, 25)}({shorten(key.columns, 25)}) -> {shorten(parent, 54)}"
