"""What is told when a write in slices ends before its end."""

from __future__ import annotations

from typing import TypeVar

from millpond.errors import Error
from millpond.messages import LINE, SQL_LEAST, SQL_LENGTH, clip, headed, line

__all__ = ["so_far", "told"]

E = TypeVar("E", bound=BaseException)

_INSTEAD = (
    ("Not applied; safe to retry.", "Go on with the rows after them."),
    ("Not applied; retrying", "Retrying"),
    ("Not applied; retry", "Go on"),
    ("Not applied. ", ""),
)
"""What errors of writes say of their whole, and what is true of a slice."""


def so_far(rows: int, unsure: int) -> str:
    """How many rows are in the file, for people. unsure: rows after them of which it is not known."""
    if not rows:
        return f"whether {_first(unsure)} {_are(unsure)} in is not known"
    known = f"{_first(rows)} {_are(rows)} in"
    if not unsure:
        return known
    following = "the next one is" if unsure == 1 else f"the next {unsure:,} are"
    return f"{known}, whether {following} is not known"


def told(exc: E, rows: int, unsure: int = 0) -> E:
    """Tell in an exception how many rows of the call are in the file. Changes it, and gives it back.

    What is no error of Millpond's (a cancel, what the rows' source raised) gets a note and the attribute alone.
    """
    exc.rows_applied = rows  # type: ignore[attr-defined]  # a cancel has it too
    if not rows and not unsure:
        if isinstance(exc, Error) and exc.applied is not None:
            exc.applied = "no"
        return exc
    text = so_far(rows, unsure)
    if not isinstance(exc, Error):
        exc.add_note(f"execute_many: {text}")
        return exc
    exc.applied = "unknown" if unsure else "yes"
    exc.retryable = False
    exc.args = (_with(str(exc), exc.sql, f"; {text}"),)
    detail = exc.detail or ""
    for whole, slice_ in _INSTEAD:
        detail = detail.replace(whole, slice_)
    rest = "" if unsure else "The others are not. "
    exc.detail = f"{text[0].upper()}{text[1:]}. {rest}{detail}".strip()
    notes = [note for note in getattr(exc, "__notes__", ()) if not note.startswith("detail: ")]
    exc.__notes__ = [f"detail: {exc.detail}", *notes]
    return exc


def _with(text: str, sql: str | None, more: str) -> str:
    """A primary line with more at its end; the statement at its beginning gives way."""
    if sql is not None and len(text) + len(more) > LINE:
        for length in range(SQL_LENGTH, SQL_LEAST - 1, -1):
            head = clip(sql, length)
            if text.startswith(head):
                return headed(sql, text[len(head) :] + more)
    return line(text[: LINE - len(more)] + more)


def _first(rows: int) -> str:
    return "the first row" if rows == 1 else f"the first {rows:,} rows"


def _are(rows: int) -> str:
    return "is" if rows == 1 else "are"
