"""One SQLite connection: opened the same way each time, used by one holder at a time."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import apsw

from millpond.engine.sqlite.profiler import Profiler
from millpond.engine.sqlite.wrong_values import with_statement
from millpond.errors import ParameterError
from millpond.parameters import Adapters, Converters
from millpond.rows import Row, row_type
from millpond.settings import Settings
from millpond.statements.pragmas import SETTLED, is_so_already
from millpond.statements.profile import ANYTHING, Profile

__all__ = ["ALL", "ONE", "RESULT", "VALUE", "Columns", "Connection", "ExecuteResult", "Parameters", "Setup", "Shape"]

T = TypeVar("T")
Parameters = Any
"""One sequence or one mapping of values, or None."""

FIRST_STATEMENT_TIMEOUT_MS = 5_000
"""A new connection may find the WAL index being recovered: its first statement waits for that."""

LOOK_S = 0.005
LOOK_STEPS = 1_000
"""The whole file is looked through for violated keys, while others wait: so long at most."""

_STATUS_DEFERRED_FKS = apsw.SQLITE_DBSTATUS_DEFERRED_FKS


class ExecuteResult(NamedTuple):
    """rowcount: rows changed by INSERT, UPDATE, DELETE, else -1. last_insert_rowid: of an INSERT, else None."""

    rowcount: int
    last_insert_rowid: int | None


class Shape(enum.IntEnum):
    """What the caller wants of a statement."""

    ALL = 0
    ONE = 1
    VALUE = 2
    RESULT = 3


ALL, ONE, VALUE, RESULT = Shape
"""Asked for at each call: a member of an enum costs 100 ns on Python 3.11, a global 10."""


class Columns(NamedTuple):
    """What a running statement's rows are, where its profile was made under another schema."""

    row: type[Row]
    declared: tuple[str | None, ...]


@dataclass(slots=True)
class Setup:
    """What every connection of a database is told, and told again when it changes.

    everywhere: statements (ATTACH, per-connection pragmas) in the order in which they were run. analyses: how often
    tables got new statistics, which a connection learns of only with the schema.
    """

    path: str
    settings: Settings
    adapters: Adapters
    converters: Converters
    everywhere: list[tuple[str, Any]] = field(default_factory=list)
    analyses: int = 0
    version: int = 0

    def add(self, sql: str, params: Parameters) -> None:
        self.everywhere.append((sql, params))
        self.version += 1

    def analyzed(self) -> None:
        """Tables have new statistics: connections plan by them from their next statement on."""
        self.analyses += 1
        self.version += 1


class Connection:
    """An apsw connection with one cursor kept for reuse, and an eye on the schema.

    cookie: the schema version that its last statement saw. pinned: inside a read transaction that has been
    looked at already, so nothing can have changed. touched: the tables that its writes went to, until someone
    empties it.
    """

    pinned = False

    def __init__(
        self, setup: Setup, *, readonly: bool, uri: str | None = None, wait_ms: int = FIRST_STATEMENT_TIMEOUT_MS
    ) -> None:
        flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        settings = setup.settings
        self._setup = setup
        self._setup_version = 0
        self._told = 0
        self._analyses = setup.analyses
        self._foreign_keys = int(settings.foreign_keys)
        self._everywhere = setup.everywhere
        self.readonly = readonly
        self.touched: set[str] = set()
        self.db = apsw.Connection(
            uri or setup.path,
            flags=flags,
            statementcachesize=settings.statement_cache,
        )
        try:
            self.db.set_busy_timeout(wait_ms)
            self.db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
            self.db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, int(settings.trusted_schema))
            self.profiler = Profiler(self.db, on_writer=not readonly)
            self.db.convert_binding = self._convert
            run = self.db.execute
            run(f"PRAGMA cache_size = {-settings.page_cache_kib}")
            run(f"PRAGMA foreign_keys = {int(settings.foreign_keys)}")
            run(f"PRAGMA mmap_size = {settings.mmap_bytes}").fetchall()
            if readonly:
                run("PRAGMA query_only = 1")
            self.cookie: int = self.db.pragma("schema_version")
            self._data_version = self.db.data_version()
            self._cursor = self.db.cursor()
            self._own = self.db.cursor()
            self.catch_up()
        except BaseException:
            self.db.close(True)
            raise

    def catch_up(self) -> None:
        """Run what was told to every connection since this one last looked."""
        setup = self._setup
        version = setup.version
        if self._setup_version != version:
            for sql, params in setup.everywhere[self._told :]:
                self.db.execute(sql, params).fetchall()
                self._told += 1  # what has been run is not run again when a later one fails
            self._foreign_keys = self.db.pragma("foreign_keys")
            if self._analyses != setup.analyses:
                if self.db.in_transaction:
                    return
                self._analyses = setup.analyses
                self.db.execute("PRAGMA writable_schema = RESET").fetchall()  # nothing else reads them again
            self._setup_version = version

    @property
    def is_current(self) -> bool:
        """Has it been told all that every connection is told?"""
        return self._setup_version == self._setup.version

    def caught_up(self) -> None:
        """This connection ran the newest of them itself."""
        self._told = len(self._setup.everywhere)
        if self._analyses == self._setup.analyses:
            self._setup_version = self._setup.version
        self._foreign_keys = self.db.pragma("foreign_keys")

    def query(self, profile: Profile, params: Parameters, shape: Shape) -> Any:
        """Run a statement and fetch what `shape` says: a list of rows, a row or None, a value or None.

        Raises: whatever apsw raises; the cursor is good for the next statement all the same.
        """
        if shape is RESULT:
            return self.change(profile, params)
        cursor = self._cursor
        if not profile.is_read:
            self._touch(profile)
        try:
            cursor.execute(profile.sql, params)
            if not self.pinned and self.db.data_version() != self._data_version:
                self.look_at_schema()
            known = profile.cookie == self.cookie and not self._everywhere
            columns = profile if known else self.columns_of(cursor, profile)
            make = columns.row
            if shape is ALL or profile.single_row or not profile.is_read:
                found: list[Any] = cursor.fetchall()
                found = self.converted(columns, found)
                if shape is ALL:
                    return list(map(make, found))
                first = found[0] if found else None
            else:
                first = next(cursor, None)
                self._let_go()
                if first is not None:
                    first = self.converted(columns, [first])[0]
        except BaseException as exc:
            self._failed(profile, exc)
            raise
        if first is None:
            return None
        return make(first) if shape is ONE else first[0]

    def change(self, profile: Profile, params: Parameters) -> ExecuteResult:
        """Run a statement to its end, without its rows."""
        cursor = self._cursor
        db = self.db
        self._touch(profile)
        try:
            if profile.inserts and profile.last_write is None:
                db.set_last_insert_rowid(0)
            cursor.execute(profile.sql, params)
            if profile.names or not profile.is_write:
                cursor.fetchall()  # PRAGMA incremental_vacuum frees a page per step, and has no columns
        except BaseException as exc:
            self._failed(profile, exc)
            raise
        return ExecuteResult(
            db.changes() if profile.changes else -1,
            (db.last_insert_rowid() or None) if profile.inserts else None,
        )

    def many(self, profile: Profile, rows: Iterable[Parameters]) -> ExecuteResult:
        """Run a statement once per row of parameters. rowcount: all of them together."""
        db = self.db
        cursor = self._cursor
        changed = 0
        self._touch(profile)
        try:
            if len(profile.tables_written) <= 1 and not profile.names:
                before = db.total_changes()
                cursor.executemany(profile.sql, rows)
                changed = db.total_changes() - before
            else:
                for params in rows:
                    cursor.execute(profile.sql, params).fetchall()
                    changed += db.changes()
        except BaseException as exc:
            self._failed(profile, exc)
            raise
        return ExecuteResult(changed if profile.changes else -1, None)

    def _touch(self, profile: Profile) -> None:
        """Note what a write makes stale: everything, where its profile may know too little of triggers and keys."""
        if profile.stale or profile.cookie != self.cookie:
            self.touched.add(ANYTHING)
        else:
            self.touched |= profile.touches

    def look_again(self) -> None:
        """If anybody else has committed since the last look: did the schema change?"""
        if self.db.data_version() != self._data_version:
            self.look_at_schema()

    def whole(self, work: Callable[[], T]) -> T:
        """Do several statements' work, of which nothing is left when it fails, inside the transaction that there is."""
        self.run("SAVEPOINT part")
        try:
            result = work()
        except BaseException:
            if self.db.in_transaction:
                self.run("ROLLBACK TO part")
                self.run("RELEASE part")
            raise
        self.run("RELEASE part")
        return result

    def run(self, sql: str) -> None:
        """One of Millpond's own statements."""
        self._own.execute(sql)

    def profile(self, sql: str) -> Profile:
        """Classify a statement by preparing it here.

        Raises: what apsw raises for wrong SQL; errors.ProgrammingError for none or several statements.
        """
        self.catch_up()
        self.cookie = self.db.pragma("schema_version")
        # A preparation trusts the schema in memory; only a step looks whether it is still the file's.
        self._own.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
        profile = self.profiler.profile(sql, self.cookie)
        if profile.value is not None and profile.pragma in SETTLED:
            in_force = self._in_force(profile.pragma)
            if is_so_already(profile.pragma, profile.value, in_force):
                return self.profiler.profile(f"PRAGMA main.{profile.pragma}", self.cookie)
        return profile

    def _in_force(self, pragma: str) -> dict[str, object]:
        """What is set for the whole database, where the connection itself does not say it best."""
        if pragma == "synchronous":
            return {pragma: 2 if self._setup.settings.durability == "full" else 1}
        if pragma == "journal_mode" and set(self.db.db_names()) - {"main", "temp"}:
            return {}  # without a name it is for attached files too
        if pragma in ("journal_mode", "locking_mode"):
            return {pragma: "wal" if pragma == "journal_mode" else "normal"}  # a database in memory has no log
        return {pragma: self._foreign_keys}

    def deferred_violations(self) -> int:
        """Deferred foreign keys that are violated now."""
        return self.db.status(_STATUS_DEFERRED_FKS)[0]

    def violated_keys(self) -> list[tuple[str, str]]:
        """Tables whose foreign keys are violated now, with the parents: some, as far as a short look finds them."""
        until = monotonic() + LOOK_S
        self.db.set_progress_handler(lambda: monotonic() >= until, LOOK_STEPS)
        try:
            found = self.db.execute('SELECT DISTINCT "table", parent FROM pragma_foreign_key_check LIMIT 4')
            return [(str(table), str(parent)) for table, parent in found]
        except apsw.Error:
            return []  # it took too long: the error does without names
        finally:
            self.db.set_progress_handler(None)

    def look_at_schema(self) -> None:
        """The file changed since the last look: did the schema?"""
        self._data_version = self.db.data_version()
        self.cookie = self.db.pragma("schema_version")

    def close(self) -> None:
        self.db.close(True)

    def begun(self, cursor: apsw.Cursor, profile: Profile) -> Profile | Columns:
        """What the rows are of a statement that `cursor` has just begun."""
        self.look_again()
        return self.columns_of(cursor, profile)

    def columns_of(self, cursor: apsw.Cursor, profile: Profile) -> Profile | Columns:
        """What the running statement's rows are: by its own columns where the profile may be of another schema.

        The cookie is that of the main database alone; those beside it may have been changed by others.
        """
        if profile.cookie != self.cookie:
            profile.stale = True
        elif not self._everywhere:
            return profile
        if not profile.names:
            return profile
        try:
            found = cursor.get_description()
        except apsw.ExecutionCompleteError:
            return profile  # no rows
        names = tuple(column[0] for column in found)
        declared = tuple(column[1] for column in found)
        if names == profile.names and declared == profile.declared:
            return profile
        profile.stale = True
        return Columns(row_type(names), declared)

    def converted(self, columns: Profile | Columns, found: list[Any]) -> list[Any]:
        """Rows with the values that the database's converters make of them; as they are without converters."""
        if not self._setup.converters:
            return found
        functions = self._setup.converters.for_columns(columns.declared)
        if functions is None:
            return found
        return [
            tuple(value if f is None or value is None else f(value) for f, value in zip(functions, row, strict=True))
            for row in found
        ]

    def _convert(self, _cursor: apsw.Cursor, number: int, value: Any) -> Any:
        return self._setup.adapters.adapt(value, number)

    def _failed(self, profile: Profile, exc: BaseException) -> None:
        """A statement of the profile failed on the shared cursor: be ready for the next."""
        self._let_go()
        self.explain(profile, exc)

    def explain(self, profile: Profile, exc: BaseException) -> None:
        """What an adapter said of a parameter is told its statement."""
        if isinstance(exc, ParameterError) and exc.sql is None:
            with_statement(exc, profile.sql, self._columns)

    def _columns(self, table: str) -> list[str]:
        return [str(name) for (name,) in self._own.execute("SELECT name FROM pragma_table_info(?)", (table,))]

    def _let_go(self) -> None:
        """End whatever the cursor is at, so that it neither pins the WAL nor holds a lock."""
        self._cursor.close(True)
        self._cursor = self.db.cursor()
