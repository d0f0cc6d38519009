"""Rows as the caller's own types: dataclasses, NamedTuples, TypedDicts, attrs, msgspec, pydantic, scalars."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import decimal
import enum
import json
import re
import sys
import types
import typing
import uuid
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin

from millpond.errors import DataError, ProgrammingError
from millpond.messages import line
from millpond.rows import Row, row_type

__all__ = ["check_kind", "made", "maker"]

T = TypeVar("T")
Convert = Callable[[Any], Any]


@lru_cache(maxsize=1_000)
def maker(into: type[T], names: tuple[str, ...]) -> Callable[[tuple[Any, ...]], T]:
    """A function that makes an `into` of a row with these columns.

    A scalar type takes a row of one column. Values are converted by the field's annotation: datetime and
    date from ISO 8601 text or Unix seconds, UUID, Decimal, Enum, bool from 0 and 1, paths, and dict or
    list from JSON text; `X | None` keeps None; all else must be of its type already. pydantic and msgspec
    convert by their own rules. Columns and fields must be the same ones, but for fields with a default.
    Costs about half a microsecond per row for a dataclass of 4 fields, three times that with a conversion.
    Raises: DataError, here where columns and fields do not fit, from the function where a value does not.
    """
    made: Any
    model: Any = into
    if into is dict:
        made = _to_dict(names)
    elif into in (tuple, list):
        made = into
    elif issubclass(into, Row):
        made = row_type(names)
    elif into in _READERS or issubclass(into, enum.Enum):
        made = _scalar(into, names)
    elif hasattr(model, "model_validate"):
        made = _by_pydantic(model, names)
    elif hasattr(model, "__struct_fields__"):
        made = _by_msgspec(model, names)
    else:
        made = _constructed(into, names)
    return cast("Callable[[tuple[Any, ...]], T]", made)


def made(found: list[Any], kind: Any) -> list[Any]:
    """Rows as a type, or as a function of a row, makes them. Raises: DataError; what the function raises."""
    if not found:
        return found
    if isinstance(kind, type):
        return list(map(maker(kind, found[0].keys()), found))
    return list(map(kind, found))


def check_kind(kind: Any, what: str) -> None:
    """Refuse what rows cannot be made into. what: the argument's name. Raises: ProgrammingError."""
    if isinstance(kind, type) or kind is None:
        return
    if get_origin(kind) is None and not hasattr(kind, "__supertype__") and callable(kind):
        return
    shown = f"{kind!r}" if isinstance(kind, _SHOWN) else type(kind).__name__
    raise ProgrammingError(
        line(f"{what}={shown} is no class that rows can be made into"),
        hint="Give a dataclass, NamedTuple, TypedDict, attrs, msgspec or pydantic class, or a scalar type: not its "
        'name in quotes, and neither list[...] nor "X | None", which fetch_all and fetch_one add by themselves.',
        applied="no",
    )


_SHOWN: Final = (int, float, str, types.GenericAlias, types.UnionType)


class _Field(NamedTuple):
    hint: Any
    required: bool
    positional: bool = True


class _Reader(NamedTuple):
    """kind: values of just this class are taken as they are, without a call."""

    kind: type
    convert: Convert


_MISFIT = (ValueError, TypeError, KeyError, ArithmeticError, OSError, RecursionError)
"""What conversions raise; dates far away raise OSError or OverflowError, depending on the platform."""


def _to_dict(names: tuple[str, ...]) -> Convert:
    backwards = names[::-1]  # of columns with the same name the first counts, as for Row
    if len(set(names)) == len(names):
        return lambda row: dict(zip(names, row, strict=True))
    return lambda row: dict(zip(backwards, row[::-1], strict=True))


def _scalar(into: type, names: tuple[str, ...]) -> Convert:
    if len(names) != 1:
        raise DataError(
            line(f"into={into.__name__} takes rows of one column, but there are {len(names)}: {_shown(names)}"),
            hint=f"Select one column, or use a dataclass with {len(names)} fields.",
        )
    kind, convert = _reader(into)

    def make(row: tuple[Any, ...]) -> Any:
        value = row[0]
        if value is None or value.__class__ is kind:
            return value
        try:
            return convert(value)
        except _MISFIT:
            raise _misfit(names[0] if names[0].isidentifier() else 1, value, f"into={into.__name__}") from None

    return make


def _constructed(into: type, names: tuple[str, ...]) -> Convert:
    fields = _fields(into)
    _fit(into, names, fields, [name for name, field in fields.items() if field.required])
    readers = [_reader(fields[name].hint) for name in names]
    kinds = tuple(reader.kind for reader in readers)
    build: Callable[..., Any] = into
    arrange = _arrangement(names, [name for name, field in fields.items() if field.positional])

    def make(row: tuple[Any, ...]) -> Any:
        if tuple(map(type, row)) != kinds:
            row = converted(row)
        return build(**dict(zip(names, row, strict=True))) if arrange is None else build(*arrange(row))

    def converted(row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = []
        for name, value, (kind, convert) in zip(names, row, readers, strict=True):
            try:
                values.append(value if value.__class__ is kind else convert(value))
            except _MISFIT:
                where = f"field {into.__name__}.{name}: {_type_name(fields[name].hint)}"
                raise _misfit(name, value, where) from None
        return tuple(values)

    return make


def _arrangement(names: tuple[str, ...], parameters: list[str]) -> Convert | None:
    """Puts a row's values in the order of the parameters, where columns fill the first ones: a call by position
    costs a quarter of one by name (tried)."""
    wanted = tuple(parameters[: len(names)])
    if wanted == names:
        return tuple
    return itemgetter(*map(names.index, wanted)) if set(wanted) == set(names) else None


def _by_msgspec(into: Any, names: tuple[str, ...]) -> Convert:
    import msgspec

    found = {field.encode_name: field for field in msgspec.structs.fields(into)}
    _fit(into, names, found, [name for name, field in found.items() if field.required])

    def make(row: tuple[Any, ...]) -> Any:
        try:
            return msgspec.convert(dict(zip(names, row, strict=True)), into, strict=False)
        except msgspec.ValidationError as exc:
            at = re.search(r"`\$\.(\w+)", str(exc))  # the rest of its text may hold the value
            column = at[1] if at is not None else None
            if column not in found or column not in names:
                raise DataError(line(f"a row does not fit {into.__name__}")) from None
            where = f"field {into.__name__}.{found[column].name}: {_type_name(found[column].type)}"
            raise _misfit(column, row[names.index(column)], where) from None

    return make


def _by_pydantic(into: Any, names: tuple[str, ...]) -> Convert:
    config = into.model_config
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    found = {}
    for name, field in into.model_fields.items():
        aliases = list(_aliases(field.validation_alias))
        found.update(dict.fromkeys(aliases if aliases and not by_name else [*aliases, name], (name, field.annotation)))
    # What a model lacks pydantic says itself: a validator of the whole row may fill it in.
    _fit(into, names, found if config.get("extra") is None or config["extra"] == "forbid" else names, ())

    def make(row: tuple[Any, ...]) -> Any:
        try:
            return into.model_validate(dict(zip(names, row, strict=True)))
        except ValueError as exc:
            raise wrong(row, getattr(exc, "errors", list)()) from None

    def wrong(row: tuple[Any, ...], errors: list[Any]) -> DataError:
        first = errors[0] if errors else {"loc": (), "type": "value_error"}
        column = first["loc"][0] if first["loc"] else None
        if column not in found:
            return DataError(line(f"a row does not fit {into.__name__}"), detail=f"pydantic: {first['type']}")
        name, hint = found[column]
        if column not in names:
            return DataError(line(f"no column for {into.__name__}.{name}"), detail=f"columns: {_shown(names)}")
        return _misfit(
            column,
            row[names.index(column)],
            f"field {into.__name__}.{name}: {_type_name(hint)}",
            detail=f"pydantic: {first['type']}",
        )

    return make


def _aliases(alias: Any) -> Iterable[str]:
    """The keys of pydantic's str | AliasPath | AliasChoices | None."""
    if isinstance(alias, str):
        yield alias
    elif hasattr(alias, "choices"):
        for choice in alias.choices:
            yield from _aliases(choice)
    elif hasattr(alias, "path"):
        yield alias.path[0]


def _fit(into: type, names: tuple[str, ...], known: Collection[str], required: Collection[str]) -> None:
    """Raise DataError unless there is a field for each column and a column for each field that needs one."""
    missing = [f"{into.__name__}.{name}" for name in required if name not in names]
    shown = dict(zip(names, _called(names), strict=True))
    extra = [shown[name] for name in names if name not in known]
    twice = sorted({shown[name] for name in names if names.count(name) > 1})
    parts = [
        f"{what} {', '.join(which)}"
        for what, which in (
            ("no column for", missing),
            (f"{into.__name__} has no field for column", extra),
            ("more than one column is named", twice),
        )
        if which
    ]
    if parts:
        raise DataError(
            line("; ".join(parts)),
            detail=f"columns: {_shown(names)}; fields: {', '.join(known)}",
            hint="Name the columns in the SELECT as the fields are named (SELECT sent_at AS sent).",
        )


def _fields(into: Any) -> dict[str, _Field]:
    """Fields by the name that the class is called with. Raises: DataError."""
    if dataclasses.is_dataclass(into):
        hints = _hints(into)
        missing = dataclasses.MISSING
        return {
            f.name: _Field(hints[f.name], f.default is missing and f.default_factory is missing, not f.kw_only)
            for f in dataclasses.fields(into)
            if f.init
        }
    if issubclass(into, tuple) and hasattr(into, "_fields"):
        hints = _hints(into)
        return {name: _Field(hints.get(name, Any), name not in into._field_defaults) for name in into._fields}
    if hasattr(into, "__attrs_attrs__"):
        hints = _hints(into)
        nothing = sys.modules["attr"].NOTHING
        return {
            a.alias: _Field(
                hints.get(a.name, a.type) if a.converter is None else Any, a.default is nothing, not a.kw_only
            )
            for a in into.__attrs_attrs__
            if a.init
        }
    if hasattr(into, "__required_keys__"):
        return {name: _Field(hint, name in into.__required_keys__, False) for name, hint in _hints(into).items()}
    raise DataError(
        line(f"into={into.__name__} is none of the types that rows can be made into"),
        hint="Give a dataclass, NamedTuple, TypedDict, attrs, msgspec or pydantic class, or a scalar type.",
    )


def _hints(into: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(into)
    except (NameError, AttributeError, TypeError, SyntaxError) as exc:
        name = getattr(exc, "name", None)
        raise DataError(
            line(f"the annotations of {into.__name__} cannot be read" + (f": {name} is not known" if name else "")),
            hint="Its types must be known when the program runs: import them outside `if TYPE_CHECKING`, and define "
            "them at the top of a module.",
        ) from exc


def _reader(hint: Any) -> _Reader:
    """How a value becomes what the annotation says."""
    while hasattr(hint, "__supertype__"):  # NewType
        hint = hint.__supertype__
    origin = get_origin(hint)
    if origin is Union or origin is types.UnionType:
        return _optional([_reader(member) for member in get_args(hint) if member is not types.NoneType])
    if origin is Literal:
        return _Reader(types.NoneType, _one_of(get_args(hint)))
    plain = origin or hint
    if plain in _READERS:
        return _READERS[plain]
    if plain in _FROM_JSON:
        return _Reader(_FROM_JSON[plain][1], _from_json(*_FROM_JSON[plain]))
    if not isinstance(plain, type) or plain in (Any, object) or getattr(plain, "_is_protocol", False):
        return _LEFT
    if hasattr(plain, "__required_keys__"):  # a TypedDict
        return _Reader(dict, _from_json(dict, dict))
    if issubclass(plain, enum.Enum) or hasattr(plain, "__fspath__"):
        return _Reader(plain, plain)
    return _Reader(plain, _exactly(plain))


def _optional(readers: list[_Reader]) -> _Reader:
    if len(readers) != 1 or readers[0] is _LEFT:
        return _LEFT  # which of several is meant cannot be known
    kind, convert = readers[0]
    return _Reader(kind, lambda value: None if value is None else convert(value))


def _as_it_is(value: Any) -> Any:
    return value


def _one_of(values: tuple[Any, ...]) -> Convert:
    def read(value: Any) -> Any:
        if value in values:
            return value
        raise ValueError

    return read


def _from_json(parsed: type, wanted: type) -> Convert:
    def read(value: Any) -> Any:
        found = json.loads(value) if isinstance(value, (str, bytes)) else value
        if isinstance(found, parsed):
            return wanted(found)
        raise ValueError

    return read


def _exactly(kind: type) -> Convert:
    def read(value: Any) -> Any:
        if isinstance(value, kind):
            return value
        raise ValueError

    return read


_text = _exactly(str)


def _to_int(value: Any) -> int:
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise ValueError


def _to_float(value: Any) -> float:
    if isinstance(value, (int, float)):
        return float(value)
    raise ValueError


def _to_bool(value: Any) -> bool:
    if value in (0, 1):
        return bool(value)
    raise ValueError


def _to_datetime(value: Any) -> dt.datetime:
    if isinstance(value, dt.datetime):
        return value
    if isinstance(value, (int, float)):
        return dt.datetime.fromtimestamp(value, dt.UTC)
    return dt.datetime.fromisoformat(value)


def _to_date(value: Any) -> dt.date:
    if isinstance(value, str) and len(value) == len("2026-01-02"):
        return dt.date.fromisoformat(value)
    return _to_datetime(value).date()


def _to_time(value: Any) -> dt.time:
    return value if isinstance(value, dt.time) else dt.time.fromisoformat(value)


def _to_uuid(value: Any) -> uuid.UUID:
    return uuid.UUID(bytes=value) if isinstance(value, bytes) else uuid.UUID(_text(value))


def _to_decimal(value: Any) -> decimal.Decimal:
    return decimal.Decimal(str(value) if isinstance(value, float) else value)


_LEFT = _Reader(types.NoneType, _as_it_is)

_READERS: dict[Any, _Reader] = {
    bool: _Reader(bool, _to_bool),
    int: _Reader(int, _to_int),
    float: _Reader(float, _to_float),
    str: _Reader(str, _exactly(str)),
    bytes: _Reader(bytes, _exactly(bytes)),
    dt.datetime: _Reader(dt.datetime, _to_datetime),
    dt.date: _Reader(dt.date, _to_date),
    dt.time: _Reader(dt.time, _to_time),
    uuid.UUID: _Reader(uuid.UUID, _to_uuid),
    decimal.Decimal: _Reader(decimal.Decimal, _to_decimal),
}

_FROM_JSON: dict[Any, tuple[type, type]] = {
    dict: (dict, dict),
    collections.abc.Mapping: (dict, dict),
    list: (list, list),
    collections.abc.Sequence: (list, list),
    tuple: (list, tuple),
    set: (list, set),
    frozenset: (list, frozenset),
}
"""What the JSON text must hold, and what is made of it."""

_STORED = {type(None): "NULL", int: "INTEGER", float: "REAL", str: "TEXT", bytes: "BLOB"}


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(_called(names))


def _called(names: tuple[str, ...]) -> list[str]:
    """Columns for people: what has no name of its own is called by its expression, which may hold data."""
    return [name if name.isidentifier() else f"number {number}" for number, name in enumerate(names, 1)]


def _misfit(column: str | int, value: Any, where: str, detail: str | None = None) -> DataError:
    """column: its name, or the number of one without."""
    called = repr(column) if isinstance(column, str) else f"number {column}"
    kind = _STORED.get(type(value)) or type(value).__name__
    hint = "Annotate it with `| None`, or COALESCE the column in the SELECT." if value is None else None
    return DataError(line(f"column {called} of type {kind} does not fit {where}"), detail=detail, hint=hint)


def _type_name(hint: Any) -> str:
    if get_origin(hint) in (Union, types.UnionType):
        return " | ".join(map(_type_name, get_args(hint)))
    if hint is types.NoneType:
        return "None"
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else re.sub(r"\b[a-z_]\w*\.", "", str(hint))
