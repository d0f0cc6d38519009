"""Parameters: what may be given, and how values that SQLite does not know are stored."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import os
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from millpond.errors import ParameterError

__all__ = ["Adapters", "Converters", "check"]

Stored = int | float | str | bytes | None


def check(params: object, sql: str | None = None) -> Any:
    """Refuse what is no sequence and no mapping, with the line to write instead.

    Raises: ParameterError.
    """
    if params is None:
        return None
    kind = type(params).__name__
    if isinstance(params, (str, bytes, bytearray, memoryview)):
        raise ParameterError(
            f"a {kind} was passed where a sequence of parameters is wanted",
            detail=f"parameters: {kind} of length {len(params)}",
            hint='Write (name,) with the comma, or [name], or {"name": name} with :name.',
            sql=sql,
        )
    if isinstance(params, (Mapping, Sequence)):
        return params
    if isinstance(params, AbstractSet):
        raise ParameterError(
            f"a {kind} has no order, so its values cannot be matched to parameters",
            hint="Write a tuple or a list.",
            sql=sql,
        )
    if isinstance(params, Iterator):
        raise ParameterError(
            f"a {kind} can be read only once", hint="Write tuple(...) or list(...) around it.", sql=sql
        )
    raise ParameterError(
        f"parameters are one sequence or one mapping, not {kind}",
        hint="Write (value,) with the comma, or {'name': value} with :name.",
        sql=sql,
    )


class Adapters:
    """How values of other types are stored; asked only for what SQLite does not take by itself.

    datetime: ISO 8601 text, in UTC where it is aware; a naive one as it is, with one warning, or refused
    in strict mode. date, time, Decimal, UUID, paths: text. Enum: its value. dict, list, tuple: JSON text.
    """

    def __init__(self, adapters: Mapping[type, Callable[[Any], Any]], *, strict_datetimes: bool = False) -> None:
        self._own = dict(adapters)
        self._strict = strict_datetimes
        self._warned = False

    def adapt(self, value: Any, number: int) -> Stored:
        """What to store for the parameter `number` (from 1). Raises: ParameterError."""
        for kind in type(value).__mro__:
            own = self._own.get(kind)
            if own is not None:
                return self._again(own(value), value, number)
            built_in = _BUILT_IN.get(kind)
            if built_in is not None:
                if kind is dt.datetime and value.tzinfo is None:
                    self._naive(number)
                return self._again(built_in(value), value, number)
        if isinstance(value, os.PathLike):
            return os.fsdecode(value)
        if hasattr(value, "item") and type(value).__module__.partition(".")[0] == "numpy":
            return self._again(value.item(), value, number)
        raise self._refusal(value, number)

    def _again(self, adapted: Any, value: Any, number: int) -> Stored:
        if adapted is None or isinstance(adapted, (int, float, str, bytes)):
            return adapted
        if type(adapted) is type(value):
            raise self._refusal(value, number)
        return self.adapt(adapted, number)

    def _refusal(self, value: Any, number: int) -> ParameterError:
        kind = type(value)
        name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        return ParameterError(
            f"parameter {number} has type {name}, which SQLite cannot store",
            hint=f"Give Settings(adapters={{{kind.__qualname__}: ...}}), or pass text, a number or bytes.",
        )

    def _naive(self, number: int) -> None:
        if self._strict:
            raise ParameterError(
                f"parameter {number} is a datetime without a time zone (strict_datetimes)",
                hint="Give it one: datetime.now(UTC), or .astimezone().",
            )
        if not self._warned:
            self._warned = True
            warnings.warn(
                "a datetime without a time zone was stored as it is; Settings(strict_datetimes=True) refuses it",
                stacklevel=2,
            )


class Converters:
    """From declared column types ("TIMESTAMP") to functions on values read; none by default."""

    def __init__(self, converters: Mapping[str, Callable[[Any], Any]]) -> None:
        self._own = {name.upper(): function for name, function in converters.items()}

    def __bool__(self) -> bool:
        return bool(self._own)

    def for_columns(self, declared: Sequence[str | None]) -> tuple[Callable[[Any], Any] | None, ...] | None:
        """A function per column, None where there is none; None if there is nothing to do at all."""
        found = tuple(self._own.get(kind.upper().split("(", 1)[0].strip()) if kind else None for kind in declared)
        return found if any(found) else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _datetime(value: dt.datetime) -> str:
    return (value.astimezone(dt.UTC) if value.tzinfo is not None else value).isoformat()


_BUILT_IN: dict[type, Callable[[Any], Any]] = {
    dt.datetime: _datetime,
    dt.date: dt.date.isoformat,
    dt.time: dt.time.isoformat,
    decimal.Decimal: str,
    uuid.UUID: str,
    enum.Enum: lambda value: value.value,
    dict: _json,
    list: _json,
    tuple: _json,
}
