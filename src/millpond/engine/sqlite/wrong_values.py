"""Texts for parameters that do not fit, and for what Python raised while values were handed over."""

from __future__ import annotations

import os.path
import re
import types
from collections.abc import Callable
from typing import Any

from millpond import errors
from millpond.messages import clip, headed, line, shorten

__all__ = ["conversion_failed", "mismatch", "too_big", "with_statement", "wrong_count", "wrong_value"]

_COUNTS = re.compile(r"uses (\d+) and there are (\d+) supplied|has (\d+) bindings but you didn't")
_BAD_TYPE = re.compile(r"argument #(\d+): type (.+)")
_PARAMETER = re.compile(r"parameter (\d+)(?= |:)")
_INSERT = re.compile(
    r"(?:insert|replace)\b(?: or \w+)? into (?P<table>\w+) ?(?:\((?P<columns>[^()]*)\))? ?"
    r"values ?\((?P<values>[^()]*)\)(?: returning .*)?;?",
    re.IGNORECASE,
)
_BOTH_KINDS = 'One sequence with a value for each "?", or one mapping with a value for each ":name".'


def wrong_count(text: str, sql: str | None, facts: dict[str, Any]) -> errors.ParameterError:
    """apsw.BindingsError: too few, too many, or a mapping for parameters without names."""
    if (found := _COUNTS.search(text)) is not None:
        wanted = int(found[1] or found[3])
        got = found[2] or "none"
        takes = f"takes {wanted or 'no'} parameter{'' if wanted == 1 else 's'}, got {got}"
    elif "has no name" in text:
        takes = 'has parameters without names ("?"), got a mapping'
    else:
        takes = "and its parameters do not fit"
    hint = "Write (value,) with the comma for one value." if "takes 1 parameter" in takes else None
    return errors.ParameterError(headed(sql, f": the statement {takes}"), detail=_BOTH_KINDS, hint=hint, **facts)


def with_statement(error: errors.ParameterError, sql: str, columns: Callable[[str], list[str]]) -> None:
    """What an adapter said of a parameter, with its statement, and with the column that it was meant for."""
    error.sql = sql
    if (found := _PARAMETER.match(str(error))) is not None and (column := _column_of(int(found[1]), sql, columns)):
        error.args = (line(f"{found[0]} (column {shorten(column, 50)}){str(error)[found.end() :]}"),)


def _column_of(number: int, sql: str, columns: Callable[[str], list[str]]) -> str | None:
    """The column of an INSERT whose values are all parameters, in order; None where that cannot be said surely."""
    found = _INSERT.fullmatch(clip(sql, len(sql)))
    if found is None or not set(found["values"]) <= set("?, "):
        return None
    named = found["columns"]
    table = found["table"]
    names = [name.strip() for name in named.split(",")] if named else columns(table)
    if number > len(names) or found["values"].count("?") != len(names) or not names[number - 1].isidentifier():
        return None
    return f"{table}.{names[number - 1]}"


def wrong_value(exc: BaseException, sql: str | None, facts: dict[str, Any]) -> errors.Error | None:
    """What apsw raises through Python's own exceptions; None for what comes from elsewhere."""
    text = str(exc)
    match exc:
        case KeyError() if _names_parameter(exc, sql):
            name = shorten(str(exc.args[0]), 60)
            return errors.ParameterError(
                headed(sql, f": no value for the parameter :{name}"),
                hint="Give every named parameter of the statement a value in the mapping.",
                **facts,
            )
        case OverflowError() if "too big to convert" in text:
            return errors.ParameterError(
                headed(sql, ": an integer parameter is beyond 64 bits"),
                hint="SQLite stores whole numbers from -2**63 to 2**63 - 1; store larger ones as text.",
                **facts,
            )
        case UnicodeEncodeError() if "surrogates" in text:
            whose = "the statement" if exc.object == sql else "a text parameter"
            return errors.ParameterError(
                headed(sql, f": {whose} has half of a surrogate pair, which UTF-8 cannot hold"),
                hint='Clean it first: text.encode("utf-8", "replace").decode().',
                **facts,
            )
        case UnicodeDecodeError():
            return errors.DataError(
                headed(sql, ": a text in the file is not UTF-8"),
                hint="Another program has stored it so: read it by CAST(column AS BLOB), and store it again.",
                **facts,
            )
        case TypeError() if (found := _BAD_TYPE.search(text)) is not None:
            kind = shorten(found[2], 50)
            return errors.ParameterError(
                line(f"parameter {found[1]} has type {kind}, which SQLite cannot store"),
                hint="Give Settings(adapters={...: ...}) for it, or pass text, a number or bytes.",
                see="types",
                **facts,
            )
        case TypeError() if "You must supply a dict or a sequence" in text:
            return errors.ParameterError(
                headed(sql, ": parameters are one sequence or one mapping"), hint=_BOTH_KINDS, **facts
            )
        case TypeError() if "Expected a str not" in text:
            return errors.ProgrammingError("a statement is text (str)", **facts)
        case ValueError() if "null character in query" in text:
            return errors.ProgrammingError(headed(sql, ": the statement holds a NUL character"), **facts)
        case MemoryError():
            return errors.OperationalError(headed(sql, ": out of memory"), **facts)
        case _:
            return None


def conversion_failed(exc: BaseException, sql: str | None, facts: dict[str, Any]) -> errors.Error:
    """An adapter, a converter or a function called from SQL raised; what it said may hold the value, so it is
    left to `__cause__`."""
    frames = _frames(exc)
    raised = type(exc).__name__
    rooms = [(frame.f_globals["__name__"], frame.f_code.co_qualname) for frame, _ in frames]
    outside = [(frame, row) for frame, row in frames if not frame.f_globals["__name__"].startswith("millpond.")]
    where = f" at {_place(*outside[-1])}" if outside else ""
    hint = "What it said is in the error's cause, for it may show the value."
    if any(module == "millpond.parameters" for module, _ in rooms):
        primary = headed(sql, f": an adapter raised {raised}{where}")
        return errors.ParameterError(primary, hint=hint, see="types", **facts)
    if any(name.endswith(".converted") or "converted.<locals>" in name for _, name in rooms):
        return errors.DataError(headed(sql, f": a converter raised {raised}{where}"), hint=hint, **facts)
    if outside:
        return errors.DataError(headed(sql, f": a function called from SQL raised {raised}{where}"), hint=hint, **facts)
    if facts["applied"] is not None:
        facts["applied"] = "unknown"
    inside = f" at {_place(*frames[-1])}" if frames else ""
    return errors.InternalError(
        headed(sql, f": {raised}{inside}"), hint="This is a fault of Millpond's: please report it.", **facts
    )


def mismatch(sql: str | None, facts: dict[str, Any]) -> errors.DataError:
    """apsw.MismatchError: a rowid or a LIMIT that is no integer."""
    return errors.DataError(
        headed(sql, ": an integer is wanted, and another type was given"),
        hint="INTEGER PRIMARY KEY, rowid, LIMIT and OFFSET take whole numbers only.",
        **facts,
    )


def too_big(sql: str | None, facts: dict[str, Any]) -> errors.DataError:
    """apsw.TooBigError: a value, a row or the statement itself."""
    return errors.DataError(
        headed(sql, ": a value, a row or the statement is longer than SQLite takes"),
        hint="The limit is about 1 GB. Keep large things in files, and their names in the database.",
        **facts,
    )


def _names_parameter(exc: KeyError, sql: str | None) -> bool:
    if len(exc.args) != 1 or not isinstance(exc.args[0], str):
        return False
    return sql is None or sql.startswith("write(") or bool(re.search(rf"[:@$]{re.escape(exc.args[0])}\b", sql))


def _frames(exc: BaseException) -> list[tuple[types.FrameType, int]]:
    """Where it came through, outermost first; without the frames that apsw makes up for its C code."""
    found = []
    trace = exc.__traceback__
    while trace is not None:
        if "__name__" in trace.tb_frame.f_globals and not trace.tb_frame.f_globals["__name__"].startswith("apsw"):
            found.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return found


def _place(frame: types.FrameType, row: int) -> str:
    return shorten(f"{os.path.basename(frame.f_code.co_filename)}:{row} in {frame.f_code.co_name}()", 60)
