"""apsw's exceptions in Millpond's words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import apsw

from millpond import errors
from millpond.engine.sqlite.files import FileFacts
from millpond.errors import Applied
from millpond.messages import clip, line

__all__ = ["SchemaFacts", "translate", "translate_open"]

NEARLY_FULL = 65_536
"""Below this a volume counts as full: a commit of a page or two may still fit, the next will not."""


class SchemaFacts(Protocol):
    """What error texts ask of the schema, lazily."""

    def columns(self, table: str) -> Sequence[str]: ...
    def tables(self) -> Sequence[str]: ...


def translate(
    exc: BaseException,
    *,
    sql: str | None,
    schema: SchemaFacts | None = None,
    path: str | None = None,
    applied: Applied | None = None,
    files: Callable[[], FileFacts] | None = None,
) -> errors.Error:
    """The error to raise for what apsw raised (or for what Python raised inside its bindings)."""
    facts: dict[str, Any] = {
        "sql": sql,
        "applied": applied,
        "path": path,
        "extended_code": getattr(exc, "extendedresult", None),
    }
    what = clip(sql) if sql else "the statement"
    text = str(exc)
    if isinstance(exc, apsw.ConstraintError):
        return _constraint(exc, what, text, facts)
    if isinstance(exc, apsw.BindingsError):
        return _count(what, text, facts)
    if isinstance(exc, apsw.SQLError):
        return _wrong_sql(what, text, schema, facts)
    if isinstance(exc, (apsw.FullError,)):
        return _full(what, files() if files else None, facts)
    if isinstance(exc, apsw.ReadOnlyError):
        return _read_only(what, files() if files else None, facts)
    if isinstance(exc, (apsw.BusyError, apsw.LockedError)):
        return errors.LockTimeout(line(f"{what}: the database is locked by another connection"), **facts)
    if isinstance(exc, (apsw.CorruptError, apsw.NotADBError)):
        return errors.DatabaseCorrupt(
            line(f"{what}: the file is damaged or no SQLite database ({text})"),
            hint="Stop all users of the file and restore a backup, the file and its -wal together.",
            **facts,
        )
    for kind, build in _PLAIN.items():
        if isinstance(exc, kind):
            return build(what, text, facts)
    if isinstance(exc, KeyError):
        return errors.ParameterError(
            line(f"{what}: no value for the parameter {text.strip(chr(39))}"),
            hint="Give every named parameter of the statement a value in the mapping.",
            **facts,
        )
    if isinstance(exc, OverflowError):
        return errors.ParameterError(
            line(f"{what}: an integer parameter is beyond 64 bits"),
            hint="SQLite stores whole numbers up to 2**63 - 1; store larger ones as text.",
            **facts,
        )
    if isinstance(exc, (TypeError, ValueError)):
        return errors.ParameterError(line(f"{what}: {text}"), **facts)
    return errors.InternalError(line(f"{what}: {type(exc).__name__}: {text}"), **facts)


def translate_open(
    exc: BaseException, path: str, *, files: Callable[[], FileFacts], header: bytes | None = None
) -> errors.Error:
    """The error for a database that cannot be opened."""
    seen = files()
    facts: dict[str, Any] = {"path": path, "extended_code": getattr(exc, "extendedresult", None)}
    if seen.is_folder:
        return errors.StorageError(f"cannot open {seen.name}: it is a folder", hint="Give the path of a file.", **facts)
    if not seen.folder_exists:
        return errors.StorageError(
            f"cannot open {seen.name}: its folder {seen.folder}/ does not exist", hint="Make the folder first.", **facts
        )
    if isinstance(exc, (apsw.NotADBError, apsw.CorruptError)):
        return errors.DatabaseCorrupt(
            line(f"cannot open {seen.name}: {_looks_like(header)}"),
            detail=f"{seen.size:,} bytes; SQLite says: {exc}",
            hint="Look whether the path is right. An encrypted database needs the library that encrypted it.",
            **facts,
        )
    if isinstance(exc, apsw.ReadOnlyError) or (seen.exists and not seen.writable) or not seen.folder_writable:
        return _read_only(f"cannot write {seen.name}", seen, facts)
    if isinstance(exc, (apsw.BusyError, apsw.LockedError)):
        return errors.LockTimeout(
            f"cannot open {seen.name}: another process holds it locked",
            hint="It may be in another journal mode than WAL, and in use. End its other users once.",
            **facts,
        )
    return errors.StorageError(line(f"cannot open {seen.name}: {type(exc).__name__}: {exc}"), **facts)


def _looks_like(header: bytes | None) -> str:
    if header is None:
        return "it is no SQLite database, or it is encrypted"
    if not header.startswith(b"SQLite format 3\0"):
        if len(set(header)) > 0.6 * max(1, len(header)):
            return "its first bytes look encrypted"
        return "it is no SQLite database"
    if len(header) > 19 and max(header[18], header[19]) > 2:
        return f"it has a newer file format ({header[18]}/{header[19]}) than this SQLite reads"
    return "it starts like a SQLite database, but is damaged"


_UNIQUE = re.compile(r"(UNIQUE|PRIMARY KEY) constraint failed: (.+)")
_NOT_NULL = re.compile(r"NOT NULL constraint failed: (.+)")
_CHECK = re.compile(r"CHECK constraint failed: (.+)")


def _constraint(exc: apsw.ConstraintError, what: str, text: str, facts: dict[str, Any]) -> errors.Error:
    facts["applied"] = facts["applied"] or "no"
    detail = "Its neighbours in the batch are not touched. Not applied; retrying will not help."
    if (found := _UNIQUE.search(text)) is not None:
        return errors.UniqueViolation(
            line(f"{what} breaks {found[1]} ({found[2]})"),
            detail=detail,
            hint="ON CONFLICT (...) DO UPDATE / DO NOTHING, if that is meant.",
            **facts,
        )
    if (found := _NOT_NULL.search(text)) is not None:
        return errors.NotNullViolation(
            line(f"{what} leaves {found[1]} without a value (NOT NULL)"), detail=detail, **facts
        )
    if (found := _CHECK.search(text)) is not None:
        return errors.CheckViolation(line(f"{what} breaks CHECK ({clip(found[1], 70)})"), detail=detail, **facts)
    if "FOREIGN KEY" in text:
        return errors.ForeignKeyViolation(
            line(f"{what} breaks a FOREIGN KEY"),
            detail=detail,
            hint="The row that it refers to must exist, or the rows that refer to it must go first.",
            **facts,
        )
    return errors.IntegrityError(line(f"{what}: {text}"), detail=detail, **facts)


def _count(what: str, text: str, facts: dict[str, Any]) -> errors.ParameterError:
    numbers = re.findall(r"\d+", text)
    counted = f"takes {numbers[0]} parameters, got {numbers[1]}" if len(numbers) >= 2 else text
    return errors.ParameterError(
        line(f"{what}: the statement {counted}"),
        hint='One sequence with a value for each "?", or one mapping with a value for each ":name".',
        **facts,
    )


_NO_TABLE = re.compile(r"no such (table|view|index|trigger): (?:main\.)?(\S+)")
_NO_COLUMN = re.compile(r"no such column: (?:\"?([^\".\s]+)\"?\.)?\"?([^\"\s]+)\"?|has no column named (\S+)")


def _wrong_sql(what: str, text: str, schema: SchemaFacts | None, facts: dict[str, Any]) -> errors.Error:
    facts["applied"] = facts["applied"] or ("no" if facts["sql"] else None)
    if (found := _NO_TABLE.search(text)) is not None and found[1] in ("table", "view"):
        names = list(schema.tables()) if schema is not None else []
        return errors.NoSuchTable(
            line(f"{found[1]} {found[2]} does not exist{_nearest(found[2], names)}"),
            detail=f"{what}; tables: {', '.join(names[:20]) or 'none'}",
            **facts,
        )
    if (found := _NO_COLUMN.search(text)) is not None:
        return _no_column(what, text, found, schema, facts)
    return errors.ProgrammingError(line(f"{what}: {text}"), **facts)


def _no_column(
    what: str, text: str, found: re.Match[str], schema: SchemaFacts | None, facts: dict[str, Any]
) -> errors.NoSuchColumn:
    name = found[2] or found[3]
    table = found[1]
    tables = list(schema.tables()) if schema is not None else []
    if table is None and (named := re.search(r"table (\S+) has no column", text)) is not None:
        table = named[1]
    sql = (facts["sql"] or "").lower()
    mentioned = [t for t in tables if re.search(rf"\b{re.escape(t.lower())}\b", sql)]
    if table is None and len(mentioned) == 1:
        table = mentioned[0]
    columns: list[str] = []
    if schema is not None:
        for t in [table] if table in tables and table is not None else mentioned:
            columns += schema.columns(t)
    full = f"{table}.{name}" if table else name
    return errors.NoSuchColumn(
        line(f"{full} does not exist{_nearest(name, columns)}"),
        detail=what + (f"; columns: {', '.join(columns[:20])}" if columns else ""),
        **facts,
    )


def _nearest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f"; nearest: {near[0]}" if near else ""


def _full(what: str, seen: FileFacts | None, facts: dict[str, Any]) -> errors.DiskFull:
    """A full volume and PRAGMA max_page_count give the same code: the volume tells them apart."""
    facts["applied"] = facts["applied"] or "no"
    if seen is not None and seen.free_bytes is not None and seen.free_bytes > NEARLY_FULL:
        return errors.DiskFull(
            line(f"{what}: {seen.name} has reached its own limit (PRAGMA max_page_count)"),
            detail=f"{seen.size / 2**20:.1f} MiB; the volume has {seen.free_bytes / 2**30:.1f} GiB free. Reads go on.",
            hint="Raise PRAGMA max_page_count, or delete rows.",
            **facts,
        )
    room = f"{seen.free_bytes} bytes free of {(seen.total_bytes or 0) / 2**30:.1f} GiB" if seen is not None else ""
    name = seen.name if seen is not None else "the database"
    return errors.DiskFull(
        line(f"{what}: no space on the volume of {name}" + (f": {room}" if room else "")),
        detail=f"{name} {seen.size / 2**20:.1f} MiB, its log {seen.wal_bytes / 2**20:.1f} MiB. Not applied. Reads go on."
        if seen is not None
        else None,
        hint="Make room; writes go on by themselves.",
        **facts,
    )


def _read_only(what: str, seen: FileFacts | None, facts: dict[str, Any]) -> errors.ReadOnlyDatabase:
    facts["applied"] = facts.get("applied") or "no"
    if seen is None:
        return errors.ReadOnlyDatabase(line(f"{what}: the database is read-only"), **facts)
    if not seen.folder_writable:
        why = f"folder {seen.folder}/ is not writable for uid {seen.uid}"
    elif not seen.writable:
        why = f"the file is not writable for uid {seen.uid}"
    else:
        why = "the file is read-only here"
    return errors.ReadOnlyDatabase(
        line(f"{what}: {why}"),
        detail=f"file mode {seen.mode:04o} owner {seen.owner}, folder mode {seen.folder_mode:04o} owner "
        f"{seen.folder_owner}. WAL needs to create {seen.name}-wal and {seen.name}-shm beside the file.",
        hint="chown the folder, not only the file; in Docker mount the folder, not the file.",
        **facts,
    )


def _storage(what: str, text: str, facts: dict[str, Any]) -> errors.Error:
    return errors.StorageError(
        line(f"{what}: {text}"),
        hint="Look at the disk and its logs; then at the file: PRAGMA integrity_check.",
        **facts,
    )


def _interrupted(what: str, _text: str, facts: dict[str, Any]) -> errors.Error:
    return errors.OperationalError(line(f"{what} was interrupted"), retryable=True, **facts)


def _changed(what: str, text: str, facts: dict[str, Any]) -> errors.Error:
    return errors.SchemaChanged(line(f"{what}: {text}"), **facts)


def _too_big(what: str, text: str, facts: dict[str, Any]) -> errors.Error:
    return errors.DataError(line(f"{what}: {text}"), hint="A value or a row is beyond SQLite's limit.", **facts)


def _internal(what: str, text: str, facts: dict[str, Any]) -> errors.Error:
    return errors.InternalError(line(f"{what}: {text}"), **facts)


def _operational(what: str, text: str, facts: dict[str, Any]) -> errors.Error:
    return errors.OperationalError(line(f"{what}: {text}"), **facts)


def _forbidden(what: str, text: str, facts: dict[str, Any]) -> errors.Error:
    return errors.NotSupportedError(line(f"{what}: {text}"), **facts)


_PLAIN: dict[type[BaseException], Callable[[str, str, dict[str, Any]], errors.Error]] = {
    apsw.InterruptError: _interrupted,
    apsw.SchemaChangeError: _changed,
    apsw.TooBigError: _too_big,
    apsw.MismatchError: _too_big,
    apsw.RangeError: _too_big,
    apsw.IOError: _storage,
    apsw.CantOpenError: _storage,
    apsw.NoMemError: _operational,
    apsw.AuthError: _forbidden,
    apsw.ThreadingViolationError: _internal,
    apsw.Error: _operational,
}
