"""What observers are told of a call that is over."""

from __future__ import annotations

from time import monotonic
from typing import Any

from millpond.engine.sqlite.calls import FunctionWrite, ManyWrite, ReadCall, ScriptWrite, StatementWrite, WriterOnly
from millpond.engine.sqlite.connection import ExecuteResult
from millpond.engine.sqlite.lanes import Step
from millpond.events import StatementFinished

__all__ = ["of_call", "of_run"]


def of_call(call: Any, result: Any, error: BaseException | None) -> StatementFinished | None:
    """The event for a call that went through a queue; None for what is Millpond's own or no statement."""
    if isinstance(call, ReadCall):
        route = "heavy" if call.heavy else "quick"
    elif isinstance(call, (StatementWrite, ManyWrite, ScriptWrite, FunctionWrite, WriterOnly)):
        route = "writer"
    elif isinstance(call, Step) and call.session.what == "snapshot" and call.sql != "BEGIN":
        route = "heavy"
    else:
        return None
    now = monotonic()
    begun = call.started if call.started is not None else now
    rows = 0 if isinstance(call, FunctionWrite) else _rows(result)
    return StatementFinished(now, call.sql, route, max(0.0, begun - call.submitted), now - begun, rows, _name(error))


def of_run(sql: str, route: str, ran_s: float, result: Any, error: BaseException | None) -> StatementFinished:
    """The event for a statement that waited for nothing: an inline read, or one inside a transaction."""
    return StatementFinished(monotonic(), sql, route, 0.0, ran_s, _rows(result), _name(error))


def _rows(result: Any) -> int:
    """Rows fetched, or changed by a write."""
    if isinstance(result, list):
        return len(result)
    if isinstance(result, ExecuteResult):
        return max(0, result.rowcount)
    return 0 if result is None else 1


def _name(error: BaseException | None) -> str | None:
    return None if error is None else type(error).__name__
