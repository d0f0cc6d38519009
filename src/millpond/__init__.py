"""Millpond: SQLite under concurrency, without `database is locked`.

async with millpond.Database("bot.db") as db: rows = await db.fetch_all("SELECT ...")
"""

from millpond.database import Database
from millpond.engine.sqlite.calls import Transaction
from millpond.engine.sqlite.connection import ExecuteResult
from millpond.errors import (
    CheckViolation,
    DatabaseClosed,
    DatabaseCorrupt,
    DatabaseError,
    DataError,
    DeadlineExceeded,
    DiskFull,
    EngineConflict,
    Error,
    ForeignKeyViolation,
    Forked,
    Holder,
    IntegrityError,
    InterfaceError,
    InternalError,
    LeaseExpired,
    LockTimeout,
    MigrationError,
    MissingExtra,
    NoSuchColumn,
    NoSuchTable,
    NotNullViolation,
    NotSupportedError,
    OperationalError,
    Overloaded,
    ParameterError,
    ProgrammingError,
    ReadOnlyDatabase,
    SchemaChanged,
    SettingsError,
    StorageError,
    TransactionControl,
    TransactionLost,
    UniqueViolation,
    Warning,  # noqa: A004  # PEP 249 wants this name
    WouldWaitForItself,
    WrongLoop,
)
from millpond.migrations.plan import Migration
from millpond.rows import Row
from millpond.scheduling.fair_queue import Priority
from millpond.settings import Settings
from millpond.stats import Check, Health, LogPin, Stats

__version__ = "0.1.0"

__all__ = [
    "Check", "CheckViolation", "DataError", "Database", "DatabaseClosed", "DatabaseCorrupt", "DatabaseError",
    "DeadlineExceeded", "DiskFull", "EngineConflict", "Error", "ExecuteResult", "ForeignKeyViolation", "Forked",
    "Health", "Holder", "IntegrityError", "InterfaceError", "InternalError", "LeaseExpired", "LockTimeout", "LogPin",
    "Migration", "MigrationError", "MissingExtra",
    "NoSuchColumn", "NoSuchTable", "NotNullViolation", "NotSupportedError", "OperationalError",
    "Overloaded", "ParameterError", "Priority", "ProgrammingError", "ReadOnlyDatabase", "Row", "SchemaChanged",
    "Settings", "SettingsError", "Stats", "StorageError", "Transaction", "TransactionControl", "TransactionLost",
    "UniqueViolation", "Warning", "WouldWaitForItself", "WrongLoop", "__version__",
]  # fmt: skip
