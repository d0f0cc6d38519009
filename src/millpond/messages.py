"""The texts of errors that need no look at the database: facts in, error out."""

from __future__ import annotations

import re

from millpond.errors import (
    Applied,
    DatabaseClosed,
    DeadlineExceeded,
    EngineConflict,
    Forked,
    Holder,
    LeaseExpired,
    LockTimeout,
    MissingExtra,
    Overloaded,
    TransactionControl,
    WouldWaitForItself,
    WrongLoop,
)

__all__ = [
    "clip", "database_closed", "deadline_exceeded", "engine_conflict", "forked", "lease_expired", "line",
    "lock_timeout", "missing_extra", "overloaded", "transaction_control", "would_wait_for_itself", "wrong_loop",
]  # fmt: skip

LINE = 160
"""A primary line is at most this long: it must survive one line of a bot's log."""

SQL_LENGTH = 48
_LITERALS = re.compile(r"""'(?:[^']|'')*'|\b0x[0-9a-fA-F]+\b|\b\d+(?:\.\d+)?(?:[eE][-+]?\d+)?\b""")
_SPACES = re.compile(r"\s+")


def clip(sql: str, length: int = SQL_LENGTH) -> str:
    """A statement on one short line, its literals as "?": they may be somebody's data."""
    text = _SPACES.sub(" ", _LITERALS.sub("?", sql)).strip()
    return text if len(text) <= length else text[: length - 4].rstrip() + " ..."


def line(text: str) -> str:
    """Hold a primary line to its length."""
    text = _SPACES.sub(" ", text)
    return text if len(text) <= LINE else text[: LINE - 3] + "..."


def lock_timeout(
    *,
    sql: str,
    waited_s: float,
    file: str,
    holder: Holder,
    behind: int,
    oldest_s: float,
    task: str | None = None,
    statements: int = 0,
    last_statement_s: float = 0.0,
    awaiting: str | None = None,
) -> LockTimeout:
    """Nos. 1 and 2 of the texts: another process, or a transaction of one's own, has the write lock."""
    held = f" for {holder.held_s:.1f} s" if holder.held_s is not None else ""
    head = f"{clip(sql)} waited {waited_s:.2f} s for"
    verdict = "Not applied; safe to retry."
    if holder.ours and holder.place:
        doing = f" while it awaits {awaiting}" if awaiting else ""
        return LockTimeout(
            line(f"{head} the writer, held by {clip(holder.place, 60)}{held}{doing}"),
            detail=f"this process; task {task!r}; the transaction has run {statements} statements, the last "
            f"{last_statement_s:.1f} s ago. {verdict}",
            hint="Do the slow call before `async with db.transaction()`, or use `await db.write(fn)`.",
            sql=sql, waited=waited_s, holder=holder, applied="no",
        )  # fmt: skip
    lock = f"{head} the write lock of {clip(file, 30)}, held by"
    if holder.pid is not None:
        program = f" ({clip(holder.program, 40)})" if holder.program else ""
        where = "another Database of this process" if holder.ours else "another process"
        primary = f"{lock} pid {holder.pid}{program}{held}"
    else:
        where = "a process that cannot be seen from here (another container, or another platform)"
        primary = f"{lock} a process that cannot be seen from here{held}"
    return LockTimeout(
        line(primary),
        detail=f"{where}; {behind} writes wait behind it, the oldest for {oldest_s:.1f} s. {verdict}",
        hint="That process keeps a write transaction open. End it sooner, give this call a longer timeout=, or open "
        "the file there through Millpond too, so that both take turns.",
        sql=sql, waited=waited_s, holder=holder, applied="no",
    )  # fmt: skip


def deadline_exceeded(
    *,
    sql: str,
    timeout_s: float,
    queue_s: float,
    lock_s: float,
    running_s: float,
    detail: str | None = None,
    applied: Applied | None = None,
) -> DeadlineExceeded:
    """No. 4: says where the time went, and so what would help."""
    if queue_s >= running_s:
        hint = "Most of the time went to the queue: mark reports priority=Priority.BATCH, or give a longer timeout=."
    else:
        hint = "Most of the time went to running it: look at its plan, or give a longer timeout=."
    if applied == "unknown":
        hint = "Whether it is in the file is not known: look before you run it again."
    return DeadlineExceeded(
        line(
            f"{clip(sql)} not done in {timeout_s:.2f} s: queue {queue_s:.2f} s, lock {lock_s:.2f} s, "
            f"running {running_s:.2f} s"
        ),
        detail=detail, hint=hint, sql=sql, waited=queue_s + lock_s + running_s, applied=applied,
    )  # fmt: skip


def overloaded(
    *, sql: str, waiting: int, limit_name: str, oldest_s: float, retry_after: float, write: bool
) -> Overloaded:
    """No. 5: the queue is full."""
    kind = "writes" if write else "reads"
    verdict = "Not applied; retry" if write else "Retry"
    return Overloaded(
        line(f"{clip(sql)} refused: {waiting:,} {kind} wait already ({limit_name})"),
        detail=f"the oldest waits {oldest_s:.1f} s. {verdict} after about {retry_after:.1f} s (.retry_after).",
        hint="Slow the producer, batch with execute_many, or shed Priority.LOW first.",
        sql=sql, retry_after=retry_after, applied="no" if write else None,
    )  # fmt: skip


def would_wait_for_itself(*, call: str, opened: str) -> WouldWaitForItself:
    """No. 6."""
    return WouldWaitForItself(
        line(f"db.{call}(...) inside the transaction opened at {opened}"),
        hint=f"The transaction owns the writer; this call would wait for it forever. Use `tx.{call}(...)`"
        + (", or `async with tx.savepoint():` to nest." if call == "transaction" else "."),
        applied="no",
    )


def lease_expired(
    *, opened: str, held_s: float, limit_s: float, statements: int, waited_writes: int, awaiting: str | None
) -> LeaseExpired:
    """No. 3."""
    doing = f"it was awaiting {awaiting}; " if awaiting else ""
    return LeaseExpired(
        line(f"transaction opened at {clip(opened, 70)} was rolled back after {held_s:.1f} s (max_lease)"),
        detail=f"{statements} statements undone; {doing}{waited_writes} writes waited. Nothing of it is in the file.",
        hint="Do the slow call before `async with db.transaction()`, or use `await db.write(fn)`. If it must last, set "
        f"Settings(max_lease={3 * limit_s:g}) and know that every other write waits.",
        waited=held_s, applied="no",
    )  # fmt: skip


def transaction_control(word: str, instead: str) -> TransactionControl:
    return TransactionControl(
        f"{word} typed by hand: the connection is shared, and transactions belong to blocks", hint=instead, applied="no"
    )


def database_closed(file: str, closed_at: str | None, ago_s: float | None) -> DatabaseClosed:
    """No. 14, first half."""
    when = f", {ago_s:.1f} s ago" if ago_s is not None else ""
    where = f" (closed at {closed_at}{when})" if closed_at else ""
    return DatabaseClosed(line(f"{file} is closed{where}"), hint="Open it anew: `async with Database(path) as db:`.")


def wrong_loop(opened_at: str, loop: int) -> WrongLoop:
    return WrongLoop(
        line(f"this Database belongs to event loop {loop:#x} (opened at {opened_at}), called from another"),
        hint="Open it inside the loop that uses it: a fixture of the same scope, or one Database per loop.",
    )


def forked(opened_pid: int, used_pid: int) -> Forked:
    return Forked(
        f"opened in pid {opened_pid}, used in {used_pid}: a database does not survive a fork",
        hint="Open it after the fork, in each process by itself.",
    )


def engine_conflict(file: str, place: str, ours: str) -> EngineConflict:
    """No. 15."""
    return EngineConflict(
        line(f"sqlite3 (module {place}) opened {file} in this process beside Millpond's SQLite {ours}"),
        detail="two SQLite libraries in one process drop each other's file locks when either closes the file: "
        "corruption is possible.",
        hint="Open it there through millpond.sync.Database, or in another process.",
    )


def missing_extra(feature: str, extra: str) -> MissingExtra:
    return MissingExtra(f"{feature} needs: pip install 'millpond[{extra}]'")
