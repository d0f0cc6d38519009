"""Parameters: what may be given, and how values that SQLite does not know are stored."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import json
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Final

from millpond.errors import ParameterError, ProgrammingError
from millpond.messages import clip, line, not_applied

__all__ = [
    "PLAIN",
    "Adapters",
    "Converters",
    "check",
    "gathered",
    "in_slices_inside",
    "not_text",
    "rows_of",
    "several_parameters",
]

Stored = int | float | str | bytes | None

PLAIN: Final = frozenset({tuple, list, dict, type(None)})
"""Parameters of these types need no further look."""


def check(params: object, sql: str | None = None) -> Any:
    """Refuse what is no sequence and no mapping, with the line to write instead.

    Raises: ParameterError.
    """
    if params is None:
        return None
    kind = type(params).__name__
    if isinstance(params, (str, bytes, bytearray, memoryview)):
        what = f"a {kind} was passed where a sequence of parameters is wanted"
        hint = 'Write (name,) with the comma, or [name], or {"name": name} with :name.'
        kind += f" of length {len(params)}"
    elif isinstance(params, (Mapping, Sequence)):
        return params
    elif isinstance(params, AbstractSet):
        what = f"a {kind} was passed, which has no first and no second: parameters are a sequence or a mapping"
        hint = "Write a tuple or a list, in the order of the statement's parameters."
    elif isinstance(params, Iterator):
        what = f"a {kind} was passed, which can be read only once: parameters are a sequence or a mapping"
        hint = "Write tuple(...) around it; rows of parameters for one statement go to execute_many."
    elif isinstance(params, Iterable):
        what = f"parameters are a sequence or a mapping, not {kind}"
        hint = "Write tuple(...) around it."
    else:
        what = f"parameters are a sequence or a mapping, not {kind}"
        hint = 'Write (value,) with the comma, or [value], or {"name": value} with :name.'
    shown = f"{clip(sql)}; " if sql else ""
    raise ParameterError(line(what), detail=f"{shown}parameters: {kind}", hint=hint, sql=sql, applied=not_applied(sql))


def rows_of(rows: Any, sql: str) -> Iterable[Any]:
    """What may be rows of parameters; they are still to be looked at. Raises: ParameterError."""
    if isinstance(rows, (str, bytes)) or not isinstance(rows, Iterable):
        raise ParameterError(
            f"execute_many takes an iterable of rows, not {type(rows).__name__}",
            hint="Write [(1, 'a'), (2, 'b')].",
            sql=sql,
            applied="no",
        )
    return rows


def gathered(rows: Any, sql: str) -> list[Any]:
    """Rows of parameters as a list, each looked at. Raises: ParameterError."""
    found = list(rows_of(rows, sql))
    for row in found:
        if row.__class__ not in PLAIN:
            check(row, sql)
    return found


def several_parameters(method: str, number: int) -> ParameterError:
    """The error for `execute(sql, 1, 2)`: the values themselves appear nowhere."""
    names = ", ".join("abcdefgh"[:number]) + (", ..." if number > len("abcdefgh") else "")
    if method == "execute_many":
        return ParameterError(
            f"{method} takes the rows of parameters as one iterable, not as {number} arguments",
            hint=f"Write {method}(sql, [{names}]), each of them a sequence or a mapping.",
            applied="no",
        )
    return ParameterError(
        f"{method} takes the parameters of a statement as one sequence, not as {number} arguments",
        hint=f"Write {method}(sql, ({names})).",
        applied="no",
    )


def in_slices_inside() -> ProgrammingError:
    """The error for `execute_many(..., atomic=False)` inside a transaction."""
    return ProgrammingError(
        "execute_many inside a transaction takes no atomic=False: a transaction is in the file wholly or not at all",
        hint="Leave it out; or call db.execute_many(..., atomic=False) outside the transaction.",
        applied="no",
    )


def not_text(sql: object) -> ProgrammingError:
    """The error for a statement that is none."""
    return ProgrammingError(f"a statement is text, not {type(sql).__name__}", applied="no")


class Adapters:
    """How values of other types are stored; asked only for what SQLite does not take by itself.

    datetime: ISO 8601 text, in UTC where it is aware, so that text sorts as time; a naive one as it is,
    with one warning, or refused in strict mode. date, time, Decimal, UUID, paths: text. Enum: its value.
    dict, list, tuple: JSON text, in which the same adapters apply. numpy's scalars: their item. Of a
    value's classes the nearest with an adapter decides, the user's before the one built in.
    """

    def __init__(
        self,
        adapters: Mapping[type, Callable[[Any], Any]],
        *,
        strict_datetimes: bool = False,
        warn: Callable[[str], None] = warnings.warn,
    ) -> None:
        """warn: knows the caller's line, which may be in another thread than the binding of its values."""
        self._own = dict(adapters)
        self._warn = warn
        self._strict = strict_datetimes
        self._warned = False

    def adapt(self, value: Any, number: int) -> Stored:
        """What to store for the parameter `number` (from 1). Raises: ParameterError."""
        found = self._plain(value, value, number)
        if isinstance(found, int) and not -(2**63) <= found < 2**63:
            raise ParameterError(
                line(f"parameter {number} of type {_name(value)} is a whole number beyond 64 bits"),
                hint="SQLite stores whole numbers up to 2**63 - 1; store larger ones as text.",
            )
        return found

    def _plain(self, value: Any, given: Any, number: int) -> Stored:
        """given: the parameter itself, which is or holds the value."""
        found = value
        for _ in range(_STEPS):
            found = self._once(found, given, number)
            if found is None or isinstance(found, (int, float, str, bytes)):
                return found
            if isinstance(found, (bytearray, memoryview)):
                return bytes(found)
        raise self._refusal(found, given, number)

    def _once(self, value: Any, given: Any, number: int) -> Any:
        for kind in type(value).__mro__:
            own = self._own.get(kind)
            if own is not None:
                try:
                    return own(value)
                except Exception as exc:
                    raise ParameterError(
                        line(f"parameter {number}: the adapter of {_name(value)} raised {type(exc).__name__}")
                    ) from exc
            if kind is dt.datetime:
                return self._datetime(value, number)
            if kind in _JSON:
                return self._json(value, number)
            built_in = _BUILT_IN.get(kind)
            if built_in is not None:
                return built_in(value)
        if hasattr(value, "__fspath__"):
            return value.__fspath__()
        if hasattr(value, "item") and getattr(value, "shape", None) == ():
            return value.item()
        raise self._refusal(value, given, number)

    def _datetime(self, value: dt.datetime, number: int) -> str:
        if value.utcoffset() is None:
            self._naive(number)
            return dt.datetime.isoformat(value)
        try:
            return dt.datetime.isoformat(value.astimezone(dt.UTC))
        except OverflowError:
            raise ParameterError(f"parameter {number} is a datetime that has no date in UTC: year 0 or 10000") from None

    def _naive(self, number: int) -> None:
        if self._strict:
            raise ParameterError(
                f"parameter {number} is a datetime without a time zone (strict_datetimes)",
                hint="Give it one: datetime.now(UTC), or .astimezone().",
            )
        if not self._warned:
            self._warned = True
            self._warn(
                f"parameter {number} is a datetime without a time zone and was stored as it is; "
                "Settings(strict_datetimes=True) refuses it"
            )

    def _json(self, value: Any, number: int) -> str:
        def part(inner: Any) -> Stored:
            binary = isinstance(inner, (bytes, bytearray, memoryview))
            found = None if binary else self._plain(inner, value, number)
            if binary or isinstance(found, bytes):
                raise ParameterError(line(f"parameter {number} of type {_name(value)} holds bytes, which JSON cannot"))
            return found

        try:
            return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=part)
        except (TypeError, ValueError, RecursionError):
            raise ParameterError(
                line(f"parameter {number} of type {_name(value)} cannot be written as JSON text"),
                hint="JSON has text as keys, no NaN, no infinity, and no container that contains itself.",
            ) from None

    def _refusal(self, value: Any, given: Any, number: int) -> ParameterError:
        """value: what cannot be stored; given: the parameter that is it, holds it or was adapted to it."""
        name = _name(value)
        ways = [f".{way}()" for way in ("isoformat", "total_seconds") if hasattr(value, way)]
        instead = ways[0] if ways else "a list" if isinstance(value, AbstractSet) else "text, a number or bytes"
        return ParameterError(
            line(f"parameter {number} has type {name}, which SQLite cannot store"),
            detail=None if value is given else f"it came out of a parameter of type {_name(given)}",
            hint=f"Give Settings(adapters={{{name}: ...}}), or pass {instead}.",
        )


class Converters:
    """From declared column types ("TIMESTAMP") to functions on values read; none by default.

    A column's whole declared type is looked up first, without its length, then its first word.
    """

    def __init__(self, converters: Mapping[str, Callable[[Any], Any]]) -> None:
        self._own = {" ".join(name.upper().split()): function for name, function in converters.items()}

    def __bool__(self) -> bool:
        return bool(self._own)

    def for_columns(self, declared: Sequence[str | None]) -> tuple[Callable[[Any], Any] | None, ...] | None:
        """A function per column, None where there is none; None if there is nothing to do at all."""
        found = tuple(self._of(kind) if kind else None for kind in declared)
        return found if any(function is not None for function in found) else None

    def _of(self, declared: str) -> Callable[[Any], Any] | None:
        words = declared.upper().partition("(")[0].split()
        return self._own.get(" ".join(words)) or (self._own.get(words[0]) if words else None)


_STEPS = 8
"""An adapter may answer with a type that has an adapter too; beyond so many they go round in a circle."""

_JSON = frozenset({dict, list, tuple})

_BUILT_IN: dict[type, Callable[[Any], Any]] = {
    dt.date: dt.date.isoformat,
    dt.time: dt.time.isoformat,
    decimal.Decimal: str,
    uuid.UUID: str,
    enum.Enum: lambda value: value.value,
}


def _name(value: Any) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
