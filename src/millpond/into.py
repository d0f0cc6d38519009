"""Rows as the caller's own types: dataclasses, NamedTuples, TypedDicts, attrs, msgspec, pydantic, scalars."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import sys
import types
import typing
import uuid
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, Union, get_args, get_origin

from millpond.errors import DataError

__all__ = ["maker"]

T = TypeVar("T")
Convert = Callable[[Any], Any]

SCALARS = (int, str, float, bytes, bool, dt.datetime, dt.date, dt.time, uuid.UUID, decimal.Decimal)


@lru_cache(maxsize=1_000)
def maker(into: type[T], names: tuple[str, ...]) -> Callable[[tuple[Any, ...]], T]:
    """A function that makes an `into` of a row with these columns.

    A scalar type takes a row of one column. Values are converted by the field's annotation: datetime,
    date, UUID, Decimal, Enum, bool, and dict or list from JSON text; `X | None` keeps None. pydantic
    and msgspec convert by their own rules.
    Raises: DataError, here where columns and fields do not fit, from the function where a value does not.
    """
    if into is dict:
        return lambda row: dict(zip(names, row, strict=True))  # type: ignore[return-value]  # T is dict
    if into is tuple:
        return tuple  # type: ignore[return-value]  # T is tuple
    if into in SCALARS or issubclass(into, enum.Enum):
        return _scalar(into, names)
    if hasattr(into, "model_validate"):
        validate: Callable[[dict[str, Any]], T] = into.model_validate
        return _validated(into, names, validate)
    if hasattr(into, "__struct_fields__"):
        import msgspec

        return _validated(into, names, lambda found: msgspec.convert(found, into, strict=False))
    fields = _fields(into)
    if fields is None:
        raise DataError(
            f"into={getattr(into, '__name__', into)!r} is none of the types that rows can be made into",
            hint="Give a dataclass, NamedTuple, TypedDict, attrs, msgspec or pydantic class, or a scalar type.",
        )
    return _constructed(into, names, fields)


def _scalar(into: type[T], names: tuple[str, ...]) -> Callable[[tuple[Any, ...]], T]:
    if len(names) != 1:
        raise DataError(
            f"into={into.__name__} takes rows of one column, but there are {len(names)}: {', '.join(names)}",
            hint=f"Select one column, or use a dataclass with {len(names)} fields.",
        )
    convert = _converter(into)
    where = f"{into.__name__}"

    def make(row: tuple[Any, ...]) -> T:
        value = row[0]
        if value is None:
            return None  # type: ignore[return-value]  # NULL is None whatever the type
        return _converted(convert, value, names[0], where)  # type: ignore[no-any-return]

    return make


def _validated(into: type[T], names: tuple[str, ...], validate: Callable[[dict[str, Any]], T]) -> Callable[..., T]:
    def make(row: tuple[Any, ...]) -> T:
        try:
            return validate(dict(zip(names, row, strict=True)))
        except Exception as exc:
            fields = (
                sorted({str(part["loc"][0]) for part in exc.errors() if part["loc"]}) if hasattr(exc, "errors") else []
            )
            where = ", ".join(fields) or str(exc).partition("$.")[2].rstrip("`") or "a field"
            raise DataError(f"a row does not fit {into.__name__}: {where}") from None

    return make


def _constructed(into: type[T], names: tuple[str, ...], fields: dict[str, tuple[Any, bool]]) -> Callable[..., T]:
    extra = [name for name in names if name not in fields]
    missing = [name for name, (_, needed) in fields.items() if needed and name not in names]
    if extra or missing:
        parts = []
        if missing:
            parts.append(f"no column for {', '.join(f'{into.__name__}.{name}' for name in missing)}")
        if extra:
            parts.append(f"no field for column {', '.join(extra)}")
        raise DataError(
            "; ".join(parts)[:150],
            detail=f"columns: {', '.join(names)}; fields: {', '.join(fields)}",
            hint="Name the columns in the SELECT as the fields are named (SELECT sent_at AS sent).",
        )
    converters = [_converter(fields[name][0]) for name in names]
    wheres = [f"{into.__name__}.{name}: {_type_name(fields[name][0])}" for name in names]
    plan = [(name, convert, where) for name, convert, where in zip(names, converters, wheres, strict=True)]
    build: Callable[..., Any] = into

    def make(row: tuple[Any, ...]) -> T:
        values: dict[str, Any] = {}
        for (name, convert, where), value in zip(plan, row, strict=True):
            values[name] = _converted(convert, value, name, where) if convert is not None else value
        return build(**values)  # type: ignore[no-any-return]

    return make


def _fields(into: Any) -> dict[str, tuple[Any, bool]] | None:
    """Fields by name: annotation, and whether it must be given."""
    if dataclasses.is_dataclass(into):
        hints = _hints(into)
        return {
            f.name: (
                hints.get(f.name, Any),
                f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING,
            )
            for f in dataclasses.fields(into)
            if f.init
        }
    if isinstance(into, type) and issubclass(into, tuple) and hasattr(into, "_fields"):
        hints = _hints(into)
        defaults = getattr(into, "_field_defaults", {})
        return {name: (hints.get(name, Any), name not in defaults) for name in into._fields}
    if hasattr(into, "__attrs_attrs__"):
        hints = _hints(into)
        nothing = sys.modules["attr"].NOTHING
        return {a.alias: (hints.get(a.name, Any), a.default is nothing) for a in into.__attrs_attrs__ if a.init}
    if typing.is_typeddict(into):
        hints = _hints(into)
        return {name: (hint, name in into.__required_keys__) for name, hint in hints.items()}
    return None


def _hints(into: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(into)
    except NameError:
        return dict(getattr(into, "__annotations__", {}))  # names only known to type checkers


def _converter(hint: Any) -> Convert | None:
    """How a value becomes what the annotation says; None where it is left as it is."""
    origin = get_origin(hint)
    if origin is Union or origin is types.UnionType:
        members = [member for member in get_args(hint) if member is not type(None)]
        inner = _converter(members[0]) if len(members) == 1 else None
        if len(members) != len(get_args(hint)):
            return (lambda value: None if value is None else inner(value)) if inner is not None else None
        return inner
    plain = origin or hint
    if plain in (dict, list, tuple, set):
        return lambda value: plain(json.loads(value)) if isinstance(value, (str, bytes)) else plain(value)
    if isinstance(plain, type):
        if issubclass(plain, enum.Enum):
            return plain
        found = _CONVERTERS.get(plain)
        if found is not None:
            return found
    return None


def _to_bool(value: Any) -> bool:
    if value in (0, 1):
        return bool(value)
    raise ValueError


def _to_datetime(value: Any) -> dt.datetime:
    if isinstance(value, (int, float)):
        return dt.datetime.fromtimestamp(value, dt.UTC)
    return dt.datetime.fromisoformat(value)


def _exactly(kind: type) -> Convert:
    def check(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        raise ValueError

    return check


def _to_float(value: Any) -> float:
    if isinstance(value, (int, float)):
        return float(value)
    raise ValueError


_CONVERTERS: dict[type, Convert] = {
    bool: _to_bool,
    int: _exactly(int),
    str: _exactly(str),
    bytes: _exactly(bytes),
    float: _to_float,
    dt.datetime: _to_datetime,
    dt.date: lambda value: dt.date.fromisoformat(value[:10]),
    dt.time: dt.time.fromisoformat,
    uuid.UUID: lambda value: uuid.UUID(bytes=value) if isinstance(value, bytes) else uuid.UUID(value),
    decimal.Decimal: lambda value: decimal.Decimal(str(value)),
}


def _converted(convert: Convert | None, value: Any, column: str, where: str) -> Any:
    if convert is None:
        return value
    try:
        return convert(value)
    except (ValueError, TypeError, KeyError, decimal.InvalidOperation):
        kind = {int: "INTEGER", str: "TEXT", float: "REAL", bytes: "BLOB"}.get(type(value), "NULL")
        raise DataError(f"column {column!r} of type {kind} does not fit field {where}") from None


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
