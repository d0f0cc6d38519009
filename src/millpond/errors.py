"""What can go wrong, as classes: PEP 249's names, each with finer ones, and facts for programs.

`str(e)` is one line that says what failed, who holds it up and since when. Detail, hint and the place to
read on are notes (PEP 678), so tracebacks and logs show them. Parameters' values are in neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = [
    "Applied", "CheckViolation", "DataError", "DatabaseClosed", "DatabaseCorrupt", "DatabaseError",
    "DeadlineExceeded", "DiskFull", "EngineConflict", "Error", "ForeignKeyViolation", "Forked", "Holder",
    "IntegrityError", "InterfaceError", "InternalError", "LeaseExpired", "LockTimeout", "MigrationError",
    "MissingExtra", "NoSuchColumn", "NoSuchTable", "NotNullViolation", "NotSupportedError", "OperationalError",
    "Overloaded", "ParameterError", "ProgrammingError", "ReadOnlyDatabase", "SchemaChanged", "SettingsError",
    "StorageError",
    "TransactionControl", "TransactionLost", "UniqueViolation", "Warning", "WouldWaitForItself", "WrongLoop",
]  # fmt: skip

Applied = Literal["no", "yes", "unknown"]

REFERENCE = "docs/reference/errors.md"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds what a call waited for. since: Unix seconds; held_s: seconds; place: "bot.py:212 in award()"."""

    pid: int | None = None
    program: str | None = None
    since: float | None = None
    held_s: float | None = None
    place: str | None = None
    ours: bool = False


class Error(Exception):
    """Base of all that Millpond raises.

    code: the anchor of its section in the reference; see: a finer anchor, for the note alone.
    sql: the statement, never its parameters. waited, retry_after: seconds. path: the file's full path.
    retryable: the same call may succeed later. applied: whether a write is in the file; None for reads.
    rows_applied: of execute_many(atomic=False) alone, so many of its first rows are in the file; then `applied` is
    "no" if none is, "unknown" if it is not known of some more, and else "yes".
    """

    code: str = "error"
    retryable: bool = False
    rows_applied: int | None = None

    def __init__(
        self,
        message: str,
        *,
        detail: str | None = None,
        hint: str | None = None,
        extended_code: int | None = None,
        sql: str | None = None,
        waited: float | None = None,
        holder: Holder | None = None,
        retryable: bool | None = None,
        retry_after: float | None = None,
        applied: Applied | None = None,
        path: str | None = None,
        see: str | None = None,
    ) -> None:
        super().__init__(message)
        self.detail = detail
        self.hint = hint
        self.extended_code = extended_code
        self.sql = sql
        self.waited = waited
        self.holder = holder
        if retryable is not None:
            self.retryable = retryable
        self.retry_after = retry_after
        self.applied = applied
        self.path = path
        for label, text in (("detail", detail), ("hint", hint)):
            if text:
                self.add_note(f"{label}: {text}")
        self.add_note(f"see: {REFERENCE}#{see or self.code}")

    def __reduce__(self) -> tuple[Any, ...]:
        # ImportError keeps a `path` of its own, outside of __dict__.
        return (_rebuild, (type(self), self.args, {**self.__dict__, "path": self.path}))


def _rebuild(kind: type[Error], args: tuple[Any, ...], state: dict[str, Any]) -> Error:
    error = kind.__new__(kind, *args)
    super(Error, error).__init__(*args)
    for name, value in state.items():
        setattr(error, name, list(value) if name == "__notes__" else value)
    return error


class Warning(Exception):  # noqa: A001  # PEP 249 wants this name
    """Something to look at; nothing failed."""


class InterfaceError(Error):
    """Millpond was used wrongly."""

    code = "interface"


class DatabaseError(Error):
    """Something is wrong with the database or the statement."""

    code = "database"


class DataError(DatabaseError):
    """A value does not fit."""

    code = "data"


class OperationalError(DatabaseError):
    """The database could not do it now."""

    code = "operational"


class IntegrityError(DatabaseError):
    """A constraint forbids it."""

    code = "integrity"


class InternalError(DatabaseError):
    """A fault of Millpond's own."""

    code = "internal"


class ProgrammingError(DatabaseError):
    """The statement or the call is wrong."""

    code = "programming"


class NotSupportedError(DatabaseError):
    """It cannot be done here."""

    code = "not-supported"


class LockTimeout(OperationalError):
    """The write lock did not come free in time; `holder` says who has it."""

    code = "lock-timeout"
    retryable = True


class DeadlineExceeded(OperationalError):
    """The call was not done within its timeout."""

    code = "deadline"
    retryable = True


class Overloaded(OperationalError):
    """A queue is full; try again after `retry_after` seconds."""

    code = "overloaded"
    retryable = True


class ReadOnlyDatabase(OperationalError):
    """The file or its folder cannot be written."""

    code = "read-only"


class DiskFull(OperationalError):
    """There is no room for the write."""

    code = "disk-full"
    retryable = True


class StorageError(OperationalError):
    """The file could not be opened, read, written or synced."""

    code = "storage"


class SchemaChanged(OperationalError):
    """The schema changed while the statement ran."""

    code = "schema-changed"
    retryable = True


class TransactionLost(OperationalError):
    """The transaction was ended by something else than its block."""

    code = "transaction-lost"
    retryable = True


class LeaseExpired(OperationalError):
    """An interactive transaction held the writer too long and was rolled back."""

    code = "lease-expired"


class DatabaseCorrupt(DatabaseError):
    """The file, or its log, is damaged or is no SQLite database."""

    code = "corrupt"


class DatabaseClosed(InterfaceError):
    """The Database is not open (yet, or any more)."""

    code = "closed"


class WrongLoop(InterfaceError):
    """The Database belongs to another event loop."""

    code = "loop"


class Forked(InterfaceError):
    """The Database was opened before a fork, and is used in the child."""

    code = "forked"


class WouldWaitForItself(InterfaceError):
    """A call through `db` inside the caller's own transaction could never be served."""

    code = "inside-transaction"


class SettingsError(InterfaceError, ValueError):
    """A setting has a wrong name or value."""

    code = "settings"


class MissingExtra(InterfaceError, ImportError):
    """A part is used that is not installed."""

    code = "missing-extra"


class EngineConflict(OperationalError, UserWarning):
    """Another SQLite library has the file open in this process."""

    code = "engine-conflict"


class TransactionControl(ProgrammingError):
    """BEGIN, COMMIT and their like typed by hand."""

    code = "transaction-control"


class ParameterError(ProgrammingError):
    """The parameters do not fit the statement, or SQLite cannot store them."""

    code = "parameters"


class MigrationError(ProgrammingError):
    """The folder of migrations contradicts itself, or what was applied already."""

    code = "migration"


class NoSuchTable(ProgrammingError):
    """The table does not exist."""

    code = "no-such"


class NoSuchColumn(ProgrammingError):
    """The column does not exist."""

    code = "no-such"


class UniqueViolation(IntegrityError):
    """UNIQUE or PRIMARY KEY."""

    code = "unique"


class NotNullViolation(IntegrityError):
    """NOT NULL."""

    code = "not-null"


class CheckViolation(IntegrityError):
    """CHECK."""

    code = "check"


class ForeignKeyViolation(IntegrityError):
    """FOREIGN KEY."""

    code = "foreign-key"
