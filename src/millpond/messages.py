"""The texts of errors that need no look at the database: facts in, error out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from millpond.errors import (
    Applied,
    DatabaseClosed,
    DeadlineExceeded,
    EngineConflict,
    Error,
    ForeignKeyViolation,
    Forked,
    Holder,
    LeaseExpired,
    LockTimeout,
    MissingExtra,
    NotSupportedError,
    Overloaded,
    ProgrammingError,
    TransactionControl,
    TransactionLost,
    WouldWaitForItself,
    WrongLoop,
)

__all__ = [
    "attached_locked",
    "cannot_open_yet",
    "clip",
    "closed_under",
    "database_closed",
    "deadline_exceeded",
    "deferred_violation",
    "dump_in_a_script",
    "engine_conflict",
    "engine_conflict_before",
    "for_threads",
    "forked",
    "headed",
    "lease_expired",
    "line",
    "lock_timeout",
    "missing_extra",
    "not_applied",
    "of_last_write",
    "overloaded",
    "savepoint_in_the_way",
    "shorten",
    "transaction_control",
    "transaction_lost",
    "would_wait_for_itself",
    "would_wait_in_write",
    "wrong_loop",
]  # fmt: skip

LINE = 160
"""A primary line is at most this long: it must survive one line of a bot's log."""

SQL_LENGTH = 48
SQL_LEAST = 16
LOOKED_AT = 4_096
"""Characters of a statement that are looked at; a script may have megabytes."""

FOREIGN_KEY_CODE = 787
"""SQLITE_CONSTRAINT_FOREIGNKEY, as SQLite itself would say it at the COMMIT."""

SQLITE_BUSY = 5

PLACE_LENGTH = 60
"""Enough for "handlers.py:212 in award_points()" and to spare."""

_SPACES = re.compile(r"\s+")
_COMMENTS_AND_LITERALS = re.compile(
    r"(?P<comment>--[^\n]*|/\*.*?(?:\*/|$))"
    r"|(?P<name>\"(?:[^\"]|\"\")*\"|`[^`]*`|\[[^\]'\"]*\]|[?:@$]\w+)"
    r"|[xX]?'(?:[^']|'')*(?:'|$)|\b0[xX][0-9a-fA-F]+\b|(?:\b\d[\d_]*(?:\.\d*)?|(?<!\w)\.\d+)(?:[eE][-+]?\d+)?\b",
    re.DOTALL,
)

_READS = re.compile(r"(select|values|explain|pragma)\b", re.IGNORECASE)

_ASYNC = re.compile(r"\bawait (?=\w+\.)|\basync (?=(?:with|for)\b)")
_OF_A_BLOCK = frozenset(
    {"execute", "execute_many", "execute_script", "fetch_all", "fetch_one", "fetch_value", "fetch_val", "iterate"}
)

_NOT_APPLIED = "Not applied; safe to retry."
_SHORTER = "Do the slow call before `async with db.transaction()`, or use `await db.write(fn)`."


def clip(sql: str, length: int = SQL_LENGTH) -> str:
    """A statement on one short line, without comments, its literals as "?": they may be somebody's data."""
    bare = _COMMENTS_AND_LITERALS.sub(_without_data, sql[:LOOKED_AT])
    text = _one_line(bare)
    return text if len(text) <= length else text[: length - 4].rstrip() + " ..."


def not_applied(sql: str | None) -> Applied | None:
    """The outcome of what failed before it ran: "no", but for statements that certainly read."""
    if sql is None or _READS.match(clip(sql)):
        return None
    return "no"


def shorten(name: str, length: int) -> str:
    """A name, a place or a program on one line, cut in the middle: both of its ends tell it from others."""
    text = _one_line(name)
    if len(text) <= length:
        return text
    head = (length - 3) // 2
    return f"{text[:head]}...{text[len(text) - (length - 3 - head) :]}"


def line(text: str) -> str:
    """Hold a primary line to its length."""
    text = _one_line(text)
    return text if len(text) <= LINE else text[: LINE - 3] + "..."


def headed(sql: str | None, rest: str) -> str:
    """A primary line that begins with the statement, which gives way where the rest needs the room."""
    room = min(SQL_LENGTH, max(SQL_LEAST, LINE - len(rest)))
    return line((clip(sql, room) if sql else "the statement") + rest)


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
    waited = f" waited {waited_s:.2f} s for"
    held = f" for {holder.held_s:.1f} s" if holder.held_s is not None else ""
    queue = f"{_count(behind, 'write waits', 'writes wait')} behind it, the oldest for {oldest_s:.1f} s"
    if holder.ours and holder.place:
        doing = f" while it awaits {shorten(awaiting, 30)}" if awaiting else ""
        who = f'task "{shorten(task, 40)}"; ' if task else ""
        ran = _count(statements, "statement", "statements")
        since = f", the last {last_statement_s:.1f} s ago" if statements else ""
        return LockTimeout(
            headed(sql, f"{waited} the writer, held by {shorten(holder.place, PLACE_LENGTH)}{held}{doing}"),
            detail=f"this process; {who}the transaction has run {ran}{since}; {queue}. {_NOT_APPLIED}",
            hint=_SHORTER, see="held-by-own-code",
            sql=sql, waited=waited_s, holder=holder, applied="no",
        )  # fmt: skip
    lock = f"{waited} the write lock of {shorten(file, 26)}, held by"
    if holder.pid is None:
        return LockTimeout(
            headed(sql, f"{lock} a process that cannot be seen from here{held}"),
            detail=f"it runs in another container, or this system does not tell; {queue}. {_NOT_APPLIED}",
            hint="Look for other users of the file: other containers on its volume, a shell, a backup. Let them end "
            "their write transactions sooner, or give this call a longer timeout=.",
            sql=sql, waited=waited_s, holder=holder, applied="no",
        )  # fmt: skip
    program = f" ({shorten(holder.program, 36)})" if holder.program else ""
    primary = headed(sql, f"{lock} pid {holder.pid}{program}{held}")
    if holder.ours:
        return LockTimeout(
            primary,
            detail=f"this process, outside of this Database: another one on the same file; {queue}. {_NOT_APPLIED}",
            hint="Open the file once in a process, and share that Database: its writes take turns.",
            sql=sql, waited=waited_s, holder=holder, applied="no",
        )  # fmt: skip
    return LockTimeout(
        primary,
        detail=f"another process; {queue}. {_NOT_APPLIED}",
        hint="That process keeps a write transaction open. End it sooner, give this call a longer timeout=, or open "
        "the file there through Millpond too, so that both take turns.",
        sql=sql, waited=waited_s, holder=holder, applied="no",
    )  # fmt: skip


def attached_locked(
    file: str, *, sql: str | None, waited_s: float, holder: Holder | None, path: str | None
) -> LockTimeout:
    """A commit could not change an attached file, since somebody reads it."""
    who = "another connection"
    if holder is not None and holder.ours:
        who = "this process"
    elif holder is not None:
        who = f"pid {holder.pid}" + (f" ({shorten(holder.program, 30)})" if holder.program else "")
    ours = holder is None or holder.ours
    return LockTimeout(
        headed(sql, f" waited {waited_s:.2f} s for {shorten(file, 26)}, which is attached and locked by {who}"),
        detail=f"The file is not in WAL mode, so a commit waits for its readers. {_NOT_APPLIED}",
        hint=("End snapshots and iterations that read it before, or p" if ours else "P")
        + "ut it into WAL mode: PRAGMA name.journal_mode = WAL.",
        extended_code=SQLITE_BUSY, sql=sql, waited=waited_s, holder=holder, path=path, applied="no",
    )  # fmt: skip


def cannot_open_yet(
    file: str, waited_s: float, holder: Holder | None, *, extended_code: int | None = None, path: str | None = None
) -> LockTimeout:
    """While a file is opened another process has it locked."""
    who = "another process"
    if holder is not None:
        program = f" ({shorten(holder.program, 36)})" if holder.program else ""
        who = f"pid {holder.pid}{program}"
    return LockTimeout(
        line(f"cannot open {shorten(file, 50)}: {who} holds it locked; waited {waited_s:.2f} s (timeout_s)"),
        detail="It was tried again and again.",
        hint="It may be in another journal mode than WAL, and in use. End its other users once.",
        extended_code=extended_code, waited=waited_s, holder=holder, path=path,
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
    if applied == "unknown":
        hint = "Whether it is in the file is not known: look before you run it again."
    elif queue_s >= max(lock_s, running_s):
        hint = "Most of the time went to the queue: mark reports priority=Priority.BATCH, or give a longer timeout=."
    elif lock_s > running_s:
        hint = "Most of the time went to another process's lock: let it hold it for less, or give a longer timeout=."
    else:
        hint = "Most of the time went to running it: look at its plan, or give a longer timeout=."
    if applied == "no":
        detail = f"{detail.rstrip('. ')}. {_NOT_APPLIED}" if detail else _NOT_APPLIED
    return DeadlineExceeded(
        headed(
            sql,
            f" not done in {timeout_s:.2f} s: queue {queue_s:.2f} s, lock {lock_s:.2f} s, running {running_s:.2f} s",
        ),
        detail=detail, hint=hint, sql=sql, waited=queue_s + lock_s + running_s, applied=applied,
    )  # fmt: skip


def savepoint_in_the_way(*, sql: str, waited_s: float, opened: str | None, callers: str) -> DeadlineExceeded:
    """A statement of a transaction waited for another caller's savepoint. callers: "task" or "thread".

    opened: the savepoint's line; None where it has ended, and its like wait for one another's statements.
    """
    if opened is None:
        return deadline_exceeded(
            sql=sql, timeout_s=waited_s, queue_s=waited_s, lock_s=0.0, running_s=0.0, applied="no",
            detail=f"It waited for a statement of another {callers} in the same transaction. {_NOT_APPLIED}",
        )  # fmt: skip
    return DeadlineExceeded(
        headed(sql, f" waited {waited_s:.2f} s for the savepoint opened at {shorten(opened, PLACE_LENGTH)}"),
        detail=f"another {callers} is inside it, and would undo this statement if it failed. {_NOT_APPLIED}",
        hint=f"Wait for no other {callers} inside a savepoint, unless it was started there.",
        sql=sql, waited=waited_s, applied="no",
    )  # fmt: skip


def overloaded(
    *, sql: str, waiting: int, limit_name: str, oldest_s: float, retry_after: float, write: bool
) -> Overloaded:
    """No. 5: the queue is full."""
    kind = _count(waiting, "write waits", "writes wait") if write else _count(waiting, "read waits", "reads wait")
    verdict = "Not applied; retry" if write else "Retry"
    return Overloaded(
        headed(sql, f" refused: {kind} already ({limit_name})"),
        detail=f"the oldest waits {oldest_s:.1f} s. {verdict} after about {retry_after:.1f} s (.retry_after).",
        hint="Slow the producer, batch with execute_many, or shed Priority.LOW first."
        if write
        else "Slow the callers, or shed Priority.LOW first.",
        sql=sql, retry_after=retry_after, applied="no" if write else None,
    )  # fmt: skip


def would_wait_for_itself(
    *, call: str, opened: str, here: str | None = None, other: str | None = None
) -> WouldWaitForItself:
    """No. 6. call: the method; opened, here: places in the caller's code. other: "task" where it is not the one that
    opened the transaction, but was started inside it."""
    if other:
        at = f" at {shorten(here, PLACE_LENGTH - 20)}" if here else ""
        return WouldWaitForItself(
            line(
                f"db.{call}(...){at} in a {other} started inside the transaction opened at "
                f"{shorten(opened, PLACE_LENGTH - 20)}"
            ),
            hint=f"The transaction owns the writer until its block ends, and may wait for this {other}. "
            f"{_inside(call)} What is not part of it starts after the block.",
            applied="no",
        )
    at = f" at {shorten(here, PLACE_LENGTH - 15)}" if here else ""
    return WouldWaitForItself(
        line(f"db.{call}(...){at} inside the transaction opened at {shorten(opened, PLACE_LENGTH - 15)}"),
        hint=f"The transaction owns the writer; this call would wait for it forever. {_inside(call)}",
        applied="no",
    )


def _inside(call: str) -> str:
    """What to write instead of a method of db inside a transaction."""
    if call in _OF_A_BLOCK:
        return f"Use `tx.{call}(...)`."
    return {
        "transaction": "To nest, use `async with tx.savepoint():`.",
        "write": "Run the function's statements on `tx`.",
    }.get(call, "Call it after the block.")


def for_threads(error: Error) -> Error:
    """The same words without `await`, for callers in threads. Changes the error, and gives it back."""
    if error.hint:
        error.hint = _ASYNC.sub("", error.hint)
    notes = getattr(error, "__notes__", None)
    if notes:
        error.__notes__ = [_ASYNC.sub("", note) for note in notes]
    return error


def would_wait_in_write(call: str) -> WouldWaitForItself:
    """The same from inside a function that was given to `write`."""
    return WouldWaitForItself(
        f"db.{call}(...) inside a function given to `write`",
        hint="The function runs in the writer; this call would wait for it forever. "
        + ("It is a transaction already." if call == "transaction" else f"Use `tx.{call}(...)`."),
        applied="no",
    )


def would_watch_for_itself(opened: str | None) -> WouldWaitForItself:
    """No. 6, for a loop over `watch`. opened: where its transaction was; None inside a function given to `write`."""
    where = f"inside the transaction opened at {shorten(opened, PLACE_LENGTH)}" if opened else "inside a function "
    return WouldWaitForItself(
        line(f"db.watch(...) waits for a change {where}" + ("" if opened else "given to `write`")),
        hint="Nobody else can commit until it ends, so no change would come. Watch outside of it.",
    )


def of_last_write(function: str, sql: str) -> ProgrammingError:
    """A question about the connection's last write, of a connection that others write on too."""
    name = "last_insert_rowid" if function == "last_insert_rowid" else "rowcount"
    return ProgrammingError(
        f"{function}() outside a transaction would tell of whoever wrote last, not of this caller",
        hint=f"Use `(await db.execute(...)).{name}`, or ask inside a transaction: `await tx.fetch_value(...)`.",
        sql=sql,
        applied="no",
    )


def lease_expired(
    *, opened: str, held_s: float, limit_s: float, statements: int, waited_writes: int, awaiting: str | None
) -> LeaseExpired:
    """No. 3."""
    doing = f"it was awaiting {awaiting}; " if awaiting else ""
    undone = _count(statements, "statement", "statements")
    waited = _count(waited_writes, "write", "writes")
    return LeaseExpired(
        line(f"transaction opened at {shorten(opened, PLACE_LENGTH)} was rolled back after {held_s:.1f} s (max_lease)"),
        detail=f"{undone} undone; {doing}{waited} waited. Nothing of it is in the file.",
        hint=f"{_SHORTER} If it must last, set Settings(max_lease={3 * limit_s:g}) and know that every other write "
        "waits.",
        waited=held_s, applied="no",
    )  # fmt: skip


def closed_under(file: str, *, opened: str, held_s: float, statements: int) -> TransactionLost:
    """The database was closed while a transaction was open, and its time to end had passed."""
    return TransactionLost(
        line(
            f"transaction opened at {shorten(opened, PLACE_LENGTH)} was rolled back after {held_s:.1f} s: "
            f"{shorten(file, 30)} was closed"
        ),
        detail=f"{_count(statements, 'statement', 'statements')} undone. Nothing of it is in the file.",
        hint="Let transactions end before close(); Settings(close_grace_s=...) is how long it waits for them.",
        waited=held_s, retryable=False, applied="no",
    )  # fmt: skip


def transaction_control(word: str, instead: str, sql: str | None = None) -> TransactionControl:
    """BEGIN, COMMIT, ROLLBACK, SAVEPOINT or RELEASE in a statement's text; instead: what to write there."""
    return TransactionControl(
        line(f"{shorten(word, 30)} typed by hand: the connection is shared, and transactions belong to blocks"),
        hint=instead, sql=sql, applied="no",
    )  # fmt: skip


def dump_in_a_script(sql: str) -> NotSupportedError:
    """The sqlite3 shell's .dump, given to execute_script."""
    return NotSupportedError(
        "a dump brings its own transaction, and switches foreign keys off for it: it is no script for execute_script",
        hint="Load it into a new file before that is opened here: sqlite3 new.db < dump.sql. Or take its first PRAGMA, "
        "its BEGIN and its COMMIT out, and open with Settings(foreign_keys=False) for the loading.",
        sql=sql, applied="no",
    )  # fmt: skip


def deferred_violation(what: str, sql: str | None = None, keys: Sequence[tuple[str, str]] = ()) -> ForeignKeyViolation:
    """At its end a write leaves deferred foreign keys violated.

    what: the statement or the transaction, for people. keys: which they can be, as table and parent.
    """
    named = [f"{shorten(table, 25)} -> {shorten(parent, 25)}" for table, parent in keys]
    one = f": {named[0]}" if len(named) == 1 else ""
    several = f"One of: {'; '.join(named)}. " if len(named) > 1 else ""
    return ForeignKeyViolation(
        line(f"{what} leaves a deferred foreign key violated{one}"),
        detail=f"{several}Its neighbours in the batch are not touched. Not applied; retrying will not help.",
        extended_code=FOREIGN_KEY_CODE, sql=sql, applied="no",
    )  # fmt: skip


def transaction_lost(
    *, opened: str | None = None, cause_sql: str | None = None, cause: str | None = None, shared: bool = False
) -> TransactionLost:
    """The transaction is gone though its block is not at its end.

    cause_sql, cause: the statement that ended it, and how that failed. shared: it was a neighbour's in the batch.
    """
    whose = f"the transaction opened at {shorten(opened, PLACE_LENGTH)}" if opened else "the transaction"
    why = f"{clip(cause_sql)} ended it" if cause_sql else ""
    if cause:
        why = f"{why or 'it ended'}: {line(cause)}"
    if shared:
        return TransactionLost(
            line(f"{whose} was undone with the batch that it shared"),
            detail=f"a neighbour's statement ended the whole batch. {why + '. ' if why else ''}{_NOT_APPLIED}",
            hint="Run it again: it did nothing wrong. Short functions given to `db.write` are run again by themselves.",
            sql=cause_sql, applied="no",
        )  # fmt: skip
    return TransactionLost(
        line(f"{whose} was ended by a statement of its own" + (f": {clip(cause_sql)}" if cause_sql else "")),
        detail=f"{why + '. ' if cause else ''}Nothing of it is in the file.",
        hint="ON CONFLICT ROLLBACK, RAISE(ROLLBACK), a full disk and errors of the storage end a whole transaction: "
        "leave the block, and run it again from its start.",
        sql=cause_sql, applied="no",
    )  # fmt: skip


def database_closed(file: str, closed_at: str | None, ago_s: float | None) -> DatabaseClosed:
    """No. 14, second half."""
    when = f", {ago_s:.1f} s ago" if ago_s is not None else ""
    where = f" (closed at {shorten(closed_at, PLACE_LENGTH)}{when})" if closed_at else ""
    return DatabaseClosed(
        line(f"{shorten(file, 60)} is closed{where}"), hint="Open it anew: `async with Database(path) as db:`."
    )


def wrong_loop(opened_at: str, loop: int) -> WrongLoop:
    """No. 14. loop: the id of the loop that the Database belongs to."""
    place = shorten(opened_at, PLACE_LENGTH - 10)
    return WrongLoop(
        line(f"this Database belongs to event loop {loop:#x} (opened at {place}), called from another"),
        hint="Open it inside the loop that uses it: a fixture of the same scope, or one Database per loop.",
    )


def forked(opened_pid: int, used_pid: int) -> Forked:
    """Opened before a fork, used in the child."""
    return Forked(
        f"opened in pid {opened_pid}, used in {used_pid}: a database does not survive a fork",
        hint="Open it after the fork, in each process by itself.",
    )


_TWO_LIBRARIES = (
    "two SQLite libraries in one process drop each other's file locks when either closes the file: "
    "corruption is possible."
)


def engine_conflict(file: str, place: str, ours: str, theirs: str | None = None) -> EngineConflict:
    """No. 15. place: module and line; ours, theirs: versions of SQLite."""
    library = f"sqlite3 {theirs}" if theirs else "sqlite3"
    return EngineConflict(
        line(
            f"{library} (module {shorten(place, PLACE_LENGTH - 15)}) has {shorten(file, 30)} open in this process "
            f"beside Millpond's SQLite {ours}"
        ),
        detail=_TWO_LIBRARIES,
        hint="Open it there through millpond.sync.Database, or in another process.",
    )


def engine_conflict_before(file: str, ours: str, theirs: str | None = None) -> EngineConflict:
    """The other library had the file open before."""
    library = f"sqlite3 {theirs}" if theirs else "sqlite3"
    return EngineConflict(
        line(
            f"{shorten(file, 50)} was open in this process before, through {library}, beside Millpond's SQLite {ours}"
        ),
        detail=_TWO_LIBRARIES,
        hint="Close it there before, open it there through millpond.sync.Database, or in another process.",
    )


def missing_extra(feature: str, extra: str) -> MissingExtra:
    """A part of Millpond that its extra brings."""
    return MissingExtra(line(f"{feature} needs: pip install 'millpond[{extra}]'"))


def _one_line(text: str) -> str:
    """Spaces folded, and nothing that a terminal would obey or a log could not encode."""
    text = _SPACES.sub(" ", text).strip()
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def _without_data(found: re.Match[str]) -> str:
    if found["comment"] is not None:
        return " "
    return found[0] if found["name"] is not None else "?"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
