"""Each exception of apsw is provoked for real, on real files, and becomes the right error with the right words."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from millpond import errors
from millpond.engine.sqlite.connection import Connection, Setup, Shape
from millpond.engine.sqlite.files import FileFacts, gather
from millpond.engine.sqlite.storage import failed_io, first_bytes, full
from millpond.engine.sqlite.translate import ForeignKey, translate, translate_open
from millpond.errors import Error
from millpond.parameters import Adapters, Converters
from millpond.settings import Settings

RAISED = (apsw.Error, TypeError, ValueError, LookupError, ArithmeticError)
"""What comes out of apsw."""

SCHEMA = """
CREATE TABLE user(id INTEGER PRIMARY KEY, name TEXT UNIQUE, age INT NOT NULL CHECK (age > 0), mood TEXT,
                  CONSTRAINT no_bad_mood CHECK (mood <> 'bad'), UNIQUE (mood, age));
CREATE UNIQUE INDEX lower_name ON user(lower(name));
CREATE TABLE message(id INTEGER PRIMARY KEY, author INT REFERENCES user(id), body TEXT);
CREATE TABLE score(id INTEGER PRIMARY KEY, who INT REFERENCES user(id), by INT REFERENCES user(id));
CREATE TABLE strict_one(k TEXT PRIMARY KEY, v INT) STRICT, WITHOUT ROWID;
CREATE TABLE "odd name"("a b" INT UNIQUE);
CREATE TRIGGER refuse BEFORE INSERT ON strict_one WHEN new.k = 'x'
  BEGIN SELECT RAISE(ABORT, 'no x here, please'); END;
CREATE TRIGGER broken AFTER DELETE ON strict_one BEGIN INSERT INTO nowhere VALUES (1); END;
CREATE VIRTUAL TABLE search USING fts5(title, body);
INSERT INTO user(id, name, age) VALUES (1, 'ann', 30);
INSERT INTO search VALUES ('title', 'body');
"""


class Schema:
    """The schema of a connection, asked for as the engine does, and counted."""

    def __init__(self, db: apsw.Connection) -> None:
        self.db = db
        self.asked = 0

    def tables(self) -> Sequence[str]:
        self.asked += 1
        return [str(name) for (name,) in self.db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]

    def columns(self, table: str) -> Sequence[str]:
        self.asked += 1
        return [str(row[1]) for row in self.db.execute(f'PRAGMA table_info("{table}")')]


class SchemaWithKeys(Schema):
    def foreign_keys(self) -> Sequence[ForeignKey]:
        rows: Any = self.db.execute(
            """SELECT s.name, group_concat(f."from", ', '), f."table", coalesce(group_concat(f."to", ', '), '')
               FROM sqlite_schema s, pragma_foreign_key_list(s.name) f WHERE s.type = 'table' GROUP BY s.name, f.id"""
        )
        return [ForeignKey(*row) for row in rows]


@pytest.fixture
def db(db_path: str) -> Iterator[apsw.Connection]:
    db = apsw.Connection(db_path)
    db.pragma("journal_mode", "wal")
    db.pragma("foreign_keys", True)
    db.execute(SCHEMA)
    yield db
    db.close(True)


def provoked(db: apsw.Connection, sql: str, params: Any = None, **facts: Any) -> Error:
    """The error that a statement becomes."""
    with pytest.raises(RAISED) as caught:
        db.execute(sql, params).fetchall()
    facts.setdefault("schema", Schema(db))
    return translate(caught.value, sql=sql, **facts)


def notes(error: Error) -> str:
    return "\n".join(error.__notes__)


def facts(**changes: Any) -> Callable[[], FileFacts]:
    """A healthy file, but for the changes."""
    healthy: dict[str, Any] = {
        "name": "bot.db", "folder": "data", "exists": True, "size": 2**20, "mode": 0o644, "owner": 0,
        "folder_exists": True, "folder_mode": 0o755, "folder_owner": 0, "folder_writable": True, "writable": True,
        "free_bytes": 12 * 2**30, "total_bytes": 20 * 2**30, "wal_bytes": 2**20, "uid": 1000,
    }  # fmt: skip
    return lambda: FileFacts(**{**healthy, **changes})


# Constraints


@pytest.mark.parametrize(
    ("sql", "kind", "words", "code"),
    [
        ("INSERT INTO user(name, age) VALUES ('ANN', 1)", errors.UniqueViolation, "UNIQUE index lower_name", 2067),
        ("INSERT INTO user(id, age) VALUES (1, 1)", errors.UniqueViolation, "PRIMARY KEY (user.id)", 1555),
        ("INSERT INTO user(age) VALUES (NULL)", errors.NotNullViolation, "leaves user.age without a value", 1299),
        ("INSERT INTO user(age) VALUES (-1)", errors.CheckViolation, "CHECK (age > 0)", 275),
        ("INSERT INTO user(age, mood) VALUES (1, 'bad')", errors.CheckViolation, "CHECK (no_bad_mood)", 275),
        ("INSERT INTO message(author) VALUES (7)", errors.ForeignKeyViolation, "FOREIGN KEY of message", 787),
        ("INSERT INTO strict_one VALUES ('x', 1)", errors.IntegrityError, "by a trigger: no x here, please", 1811),
        ("INSERT INTO strict_one VALUES ('y', 'abc')", errors.IntegrityError, "TEXT value in INT column", 3091),
        ('INSERT INTO "odd name" VALUES (1), (1)', errors.UniqueViolation, "UNIQUE (odd name.a b)", 2067),
    ],
)
def test_each_constraint_has_its_class_and_is_named(
    db: apsw.Connection, sql: str, kind: type[Error], words: str, code: int
) -> None:
    error = provoked(db, sql)
    assert type(error) is kind
    assert words in str(error)
    assert str(error).startswith("INSERT INTO ")
    assert (error.applied, error.retryable, error.extended_code) == ("no", False, code)
    assert "Not applied" in notes(error)


def test_a_broken_unique_shows_the_clause_to_write(db: apsw.Connection) -> None:
    db.execute("INSERT INTO user(age, mood) VALUES (4, 'good')")
    error = provoked(db, "INSERT INTO user(age, mood) VALUES (4, 'good')")
    assert str(error).endswith("breaks UNIQUE (user.mood, user.age)")
    assert "ON CONFLICT (mood, age) DO UPDATE" in notes(error)
    assert 'ON CONFLICT ("a b") DO' in notes(provoked(db, 'INSERT INTO "odd name" VALUES (1), (1)'))


def test_a_constraint_asks_nothing_of_the_schema(db: apsw.Connection) -> None:
    schema = Schema(db)
    provoked(db, "INSERT INTO user(id, age) VALUES (1, 1)", schema=schema)
    assert schema.asked == 0


def test_a_broken_foreign_key_names_both_tables_where_the_schema_tells(db: apsw.Connection) -> None:
    schema = SchemaWithKeys(db)
    error = provoked(db, "INSERT INTO message(author) VALUES (7)", schema=schema)
    assert str(error).endswith("breaks FOREIGN KEY message(author) -> user(id)")
    error = provoked(db, "INSERT OR IGNORE INTO main.score(who) VALUES (7)", schema=schema)
    assert "FOREIGN KEY of score" in str(error)
    assert "score(who) -> user(id)" in notes(error)
    assert "message(author)" not in notes(error)
    db.execute("INSERT INTO message(author) VALUES (1)")
    error = provoked(db, "DELETE FROM user", schema=schema)
    assert "message(author) -> user(id)" in notes(error)
    assert "must go first" in notes(error).lower()


def test_or_fail_is_not_told_to_leave_nothing_behind(db: apsw.Connection) -> None:
    assert "OR FAIL keeps" in notes(provoked(db, "INSERT OR FAIL INTO user(id, age) VALUES (2, 1), (1, 1)"))


def test_the_callers_word_on_what_was_applied_wins(db: apsw.Connection) -> None:
    assert provoked(db, "INSERT INTO user(id, age) VALUES (1, 1)", applied="unknown").applied == "unknown"


# Statements


@pytest.mark.parametrize(
    ("sql", "primary"),
    [
        ("SELECT auther FROM message", "message.auther does not exist; nearest: author"),
        ("SELECT m.auther FROM message AS m", "m.auther does not exist; nearest: author"),
        ("SELECT m.auther FROM message m", "m.auther does not exist; nearest: author"),
        ("INSERT INTO message(boddy) VALUES (1)", "message.boddy does not exist; nearest: body"),
        ("UPDATE message SET BODDY = 1", "message.BODDY does not exist; nearest: body"),
        ("SELECT zzz FROM message, user", "column zzz does not exist"),
        ("SELECT auther FROM message, user", "auther does not exist; nearest: author"),
        ("SELECT 1 FROM mesage", "table mesage does not exist; nearest: message"),
        ("DELETE FROM main.mesage", "table mesage does not exist; nearest: message"),
        ("DROP VIEW vew", "view vew does not exist"),
    ],
)
def test_a_name_that_does_not_exist_is_told_with_the_nearest_that_does(
    db: apsw.Connection, sql: str, primary: str
) -> None:
    error = provoked(db, sql)
    assert str(error) == primary
    assert isinstance(error, errors.NoSuchTable if primary.startswith(("table", "view")) else errors.NoSuchColumn)
    assert error.code == "no-such"


def test_columns_are_listed_with_their_table(db: apsw.Connection) -> None:
    assert "columns of message: id, author, body" in notes(provoked(db, "SELECT auther FROM message"))
    assert "tables: user, message, score" in notes(provoked(db, "SELECT 1 FROM mesage"))


def test_without_a_schema_a_wrong_name_is_still_told(db: apsw.Connection) -> None:
    assert str(provoked(db, "SELECT auther FROM message", schema=None)) == "column auther does not exist"
    assert str(provoked(db, "SELECT 1 FROM mesage", schema=None)) == "table mesage does not exist"


def test_a_table_that_a_trigger_names_is_told_as_such(db: apsw.Connection) -> None:
    error = provoked(db, "DELETE FROM strict_one")
    assert str(error).startswith("table nowhere does not exist")
    assert "does not name it" in notes(error)


def test_double_quotes_around_a_text_are_explained(db: apsw.Connection) -> None:
    db.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
    error = provoked(db, 'SELECT 1 FROM user WHERE name = "bob"')
    assert isinstance(error, errors.NoSuchColumn)
    assert "single quotes" in notes(error)
    error = provoked(db, 'SELECT 1 FROM user WHERE name = "s3cret, really!"')
    assert "really" not in str(error)


@pytest.mark.parametrize(
    ("sql", "words", "advice"),
    [
        ("SELEC 1", "syntax error near SELEC", "Is SELECT meant?"),
        ("SELECT order FROM user", "syntax error near order", 'write "order"'),
        ("SELECT 1 FROM user WHERE name = %s", "syntax error near %", "A parameter is written ? or :name"),
        ("SELECT 1 FROM user WHERE name = {}", "{ has no meaning", "A parameter is written ? or :name"),
        ("SELECT 1 FROM", "incomplete input", "ends too early"),
        ("INSERT INTO message VALUES (1)", "3 columns but 1 values", "columns of message: id, author, body"),
        ("CREATE TABLE user(a)", "already exists", "CREATE TABLE IF NOT EXISTS"),
        ("SELECT nofn(1)", "no such function: nofn", "function_list"),
        ("SELECT id FROM user, message", "ambiguous column name: id", "write table.column"),
    ],
)
def test_wrong_sql_comes_with_advice(db: apsw.Connection, sql: str, words: str, advice: str) -> None:
    error = provoked(db, sql)
    assert isinstance(error, errors.ProgrammingError)
    assert words in str(error)
    assert advice in notes(error)


def test_the_place_of_a_syntax_error_is_told(db: apsw.Connection) -> None:
    error = provoked(db, "SELECT 'é', name\n   ,, 'hidden' FROM user")
    assert "line 2, character 5: , ? FROM user" in notes(error)


def test_a_place_in_another_text_is_not_told(db: apsw.Connection) -> None:
    with pytest.raises(apsw.SQLError) as caught:
        db.execute("SELEC 1")
    assert "line" not in notes(translate(caught.value, sql="CREATE TABLE t(a); SELEC 1"))


@pytest.mark.parametrize("sql", ["SELECT 'O'Hidden' FROM user", "SELECT 'Hidden", "SELECT x'Hidden'"])
def test_text_pasted_into_a_statement_is_not_shown_when_its_quotes_break(db: apsw.Connection, sql: str) -> None:
    error = provoked(db, sql)
    assert "Hidden" not in notes(error)
    assert "parameter" in notes(error)


@pytest.mark.parametrize("text", ["hidden:word", "a-hidden", 'hidden"', "hidden AND", "AND hidden", "hidden^^"])
def test_a_malformed_search_text_is_explained_and_not_shown(db: apsw.Connection, text: str) -> None:
    error = provoked(db, "SELECT title FROM search WHERE search MATCH ?", (text,))
    assert isinstance(error, errors.ProgrammingError)
    assert "hidden" not in str(error) + notes(error)
    assert "A search text has a grammar of its own" in notes(error)


@pytest.mark.parametrize(
    ("sql", "params"), [("SELECT json_extract('{}', ?)", ("hidden",)), ("SELECT json(?)", ("hidden",))]
)
def test_values_that_sqlite_quotes_do_not_reach_the_text(db: apsw.Connection, sql: str, params: Any) -> None:
    error = provoked(db, sql, params)
    assert isinstance(error, errors.DataError)
    assert "hidden" not in str(error) + notes(error)


def test_what_is_not_allowed_is_not_supported(db: apsw.Connection) -> None:
    assert isinstance(provoked(db, "SELECT load_extension('x')"), errors.NotSupportedError)
    db.authorizer = lambda *_: apsw.SQLITE_DENY
    with pytest.raises(apsw.AuthError) as caught:
        db.execute("SELECT age FROM user WHERE age = 5")
    assert isinstance(translate(caught.value, sql="SELECT 1"), errors.NotSupportedError)


def test_reads_have_nothing_to_apply(db: apsw.Connection) -> None:
    assert provoked(db, "SELECT zz FROM user").applied is None
    assert provoked(db, "-- why\n SELECT zz FROM user").applied is None
    assert provoked(db, "UPDATE user SET zz = 1").applied == "no"


# Parameters


@pytest.mark.parametrize(
    ("sql", "params", "words"),
    [
        ("SELECT ?", (), "takes 1 parameter, got 0"),
        ("SELECT ?", None, "takes 1 parameter, got none"),
        ("SELECT ?", "abc", "takes 1 parameter, got 3"),
        ("SELECT ?, ?", (1,), "takes 2 parameters, got 1"),
        ("SELECT 1", (1,), "takes no parameters, got 1"),
        ("SELECT :a, ?", {"a": 1}, 'parameters without names ("?"), got a mapping'),
        ("SELECT :a, :b", {"a": 1}, "no value for the parameter :b"),
        ("SELECT ?", (2**63,), "beyond 64 bits"),
        ("SELECT ?", (object(),), "parameter 1 has type object, which SQLite cannot store"),
        ("SELECT ?", ("\ud800",), "a text parameter has half of a surrogate pair"),
        ("SELECT '\ud800'", (), "the statement has half of a surrogate pair"),
        ("SELECT ?", 5, "one sequence or one mapping"),
    ],
)
def test_parameters_that_do_not_fit_are_parameter_errors(
    db: apsw.Connection, sql: str, params: Any, words: str
) -> None:
    error = provoked(db, sql, params)
    assert type(error) is errors.ParameterError
    assert words in str(error)
    assert str(error).isprintable()


def test_a_statement_that_is_no_text_is_a_programming_error(db: apsw.Connection) -> None:
    wrong: Any
    for wrong in (5, None, b"SELECT 1"):
        with pytest.raises(TypeError) as caught:
            db.execute(wrong)
        assert type(translate(caught.value, sql=None)) is errors.ProgrammingError
    with pytest.raises(ValueError, match="null") as nul:
        db.execute("SELECT 1\0")
    assert "NUL" in str(translate(nul.value, sql="SELECT 1\0"))


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO message(id) VALUES ('hidden')",
        "SELECT * FROM user LIMIT 'hidden'",
        "SELECT zeroblob(3000000000)",
        "SELECT abs(-9223372036854775808)",
    ],
)
def test_values_that_do_not_fit_are_data_errors(db: apsw.Connection, sql: str) -> None:
    error = provoked(db, sql)
    assert type(error) is errors.DataError
    assert "hidden" not in str(error) + notes(error)


def test_a_text_that_is_not_utf_8_is_a_data_error(db: apsw.Connection) -> None:
    assert isinstance(provoked(db, "SELECT CAST(x'ff41' AS TEXT)"), errors.DataError)


def from_our_connection(settings: Settings, sql: str, params: Any) -> Error:
    setup = Setup(":memory:", settings, Adapters(settings.adapters), Converters(settings.converters))
    connection = Connection(setup, readonly=False)
    try:
        connection.run("CREATE TABLE t(a POINT)")
        connection.run("INSERT INTO t VALUES ('hidden')")
        profile = connection.profile(sql)
        with pytest.raises(ValueError, match="hidden") as caught:
            connection.query(profile, params, Shape.ALL)
        return translate(caught.value, sql=sql)
    finally:
        connection.close()


def fails(*values: object) -> Any:
    raise ValueError(f"cannot do it with {values!r} hidden")


class BadPath:
    def __fspath__(self) -> str:
        return str(fails(self))


def test_an_adapter_that_fails_is_named_without_what_it_said() -> None:
    error = from_our_connection(Settings(), "SELECT ?", (BadPath(),))
    assert type(error) is errors.ParameterError
    assert "an adapter raised ValueError at test_translate.py:" in str(error)
    assert "in fails()" in str(error)
    assert "hidden" not in str(error) + notes(error)


@pytest.mark.parametrize("converter", [fails, int])
def test_a_converter_that_fails_is_named_without_what_it_said(converter: Callable[[Any], Any]) -> None:
    error = from_our_connection(Settings(converters={"POINT": converter}), "SELECT a FROM t", ())
    assert type(error) is errors.DataError
    assert "a converter raised ValueError" in str(error)
    assert "hidden" not in str(error) + notes(error)


def test_a_function_called_from_sql_that_fails_is_named(db: apsw.Connection) -> None:
    db.create_scalar_function("boom", fails)
    error = provoked(db, "SELECT boom('hidden')")
    assert type(error) is errors.DataError
    assert "ValueError at test_translate.py:" in str(error)
    assert "hidden" not in str(error) + notes(error)


def test_a_fault_of_our_own_is_an_internal_error_of_unknown_outcome() -> None:
    error = translate(AssertionError("hidden"), sql="INSERT INTO t VALUES (1)")
    assert type(error) is errors.InternalError
    assert error.applied == "unknown"
    assert "hidden" not in str(error)


# Running


def test_an_interrupt_is_told_and_may_be_tried_again(db: apsw.Connection) -> None:
    db.set_progress_handler(lambda: True, 100)
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT max(x) FROM c"
    error = provoked(db, endless, schema=None)
    assert isinstance(error, errors.OperationalError)
    assert str(error).endswith("was interrupted")
    assert error.retryable


def test_a_lock_of_another_process_is_a_lock_timeout(db: apsw.Connection, db_path: str) -> None:
    code = (
        "import apsw, sys; c = apsw.Connection(sys.argv[1]); c.execute('BEGIN IMMEDIATE'); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, db_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        error = provoked(db, "INSERT INTO user(age) VALUES (1)", files=lambda: gather(db_path))
        process.communicate()
    assert type(error) is errors.LockTimeout
    assert str(error).endswith("bot.db is locked by another connection")
    assert (error.retryable, error.applied) == (True, "no")


def test_a_snapshot_that_is_too_old_to_write_asks_for_the_whole_transaction(db: apsw.Connection, db_path: str) -> None:
    other = apsw.Connection(db_path)
    try:
        other.execute("BEGIN; SELECT count(*) FROM user").fetchall()
        db.execute("INSERT INTO user(age) VALUES (1)")
        error = provoked(other, "INSERT INTO user(age) VALUES (2)", schema=None)
    finally:
        other.close(True)
    assert type(error) is errors.LockTimeout
    assert error.extended_code == apsw.SQLITE_BUSY_SNAPSHOT
    assert "whole transaction" in notes(error)


def test_a_conflict_with_ones_own_iteration_is_no_lock_timeout(db: apsw.Connection) -> None:
    db.execute("INSERT INTO user(age) VALUES (1)")
    rows = db.execute("SELECT id FROM user")
    next(rows)
    error = provoked(db, "DROP TABLE user", schema=None)
    rows.close()
    assert type(error) is errors.OperationalError
    assert "End the iteration" in notes(error)


def test_two_threads_on_a_connection_are_a_fault_of_our_own(db: apsw.Connection) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold(*_: object) -> None:
        inside.set()
        leave.wait(10)

    db.create_scalar_function("hold", hold)
    thread = threading.Thread(target=lambda: db.execute("SELECT hold()").fetchall())
    thread.start()
    assert inside.wait(10)
    with pytest.raises(apsw.ThreadingViolationError) as caught:
        db.execute("SELECT 1")
    leave.set()
    thread.join()
    assert type(translate(caught.value, sql="SELECT 1")) is errors.InternalError


def test_a_closed_connection_is_told_as_closed() -> None:
    db = apsw.Connection(":memory:")
    cursor = db.cursor()
    db.close()
    with pytest.raises((apsw.ConnectionClosedError, apsw.CursorClosedError)) as caught:
        cursor.execute("SELECT 1")
    assert type(translate(caught.value, sql="SELECT 1")) is errors.DatabaseClosed


def test_every_exception_of_apsw_has_a_translation() -> None:
    kinds = [kind for kind in vars(apsw).values() if isinstance(kind, type) and issubclass(kind, apsw.Error)]
    assert len(kinds) > 35
    for kind in kinds:
        error = translate(kind("words of its own"), sql="INSERT INTO t VALUES (1)", files=facts())
        assert isinstance(error, errors.Error)
        assert error.applied is not None
        assert "\n" not in str(error)


# Files


def test_a_read_only_connection_is_told_as_such(db: apsw.Connection, db_path: str) -> None:
    reader = apsw.Connection(f"file:{db_path}?mode=ro", flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    try:
        error = provoked(reader, "INSERT INTO user(age) VALUES (1)", files=lambda: gather(db_path))
    finally:
        reader.close()
    assert type(error) is errors.ReadOnlyDatabase
    assert "bot.db is read-only on this connection" in str(error)
    db.pragma("query_only", True)
    assert type(provoked(db, "INSERT INTO user(age) VALUES (1)")) is errors.ReadOnlyDatabase


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"folder_writable": False}, "cannot write bot.db: folder data/ is not writable for uid 1000"),
        ({"writable": False}, "cannot write bot.db: the file is not writable for uid 1000"),
        ({"writable": False, "read_only_mount": True}, "cannot write bot.db: its volume is mounted read-only"),
    ],
)
def test_what_is_not_writable_is_named_for_whom(changes: dict[str, Any], words: str) -> None:
    read_only = apsw.ReadOnlyError("attempt to write a readonly database")
    for error in (
        translate(read_only, sql="INSERT INTO t VALUES (1)", files=facts(**changes)),
        translate_open(apsw.CantOpenError("x"), "/srv/data/bot.db", files=facts(**changes), header=b""),
    ):
        assert type(error) is errors.ReadOnlyDatabase
        assert str(error) == words
        assert "file mode 0644 owner 0, folder mode 0755 owner 0" in notes(error)


def test_a_full_volume_and_a_limit_of_the_file_are_told_apart(db: apsw.Connection, db_path: str) -> None:
    limited = int(db.pragma("page_count")) + 2
    db.pragma("max_page_count", limited)
    sql = "INSERT INTO message(body) VALUES (zeroblob(1000000))"
    error = provoked(db, sql, files=lambda: gather(db_path), schema=None)
    assert type(error) is errors.DiskFull
    assert "bot.db has reached its own limit (PRAGMA max_page_count)" in str(error)
    assert (error.applied, error.retryable) == ("no", True)
    error = provoked(db, sql, files=facts(free_bytes=4096), schema=None)
    assert "no space on the volume of bot.db: 4.0 KiB free of 20.0 GiB" in str(error)
    error = provoked(db, sql, files=facts(), at_page_limit=False, schema=None)
    assert "no space for temporary files" in str(error)
    assert type(full(None, None, {"applied": "no"})) is errors.DiskFull


_TOO_LARGE = """
import apsw, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
db = apsw.Connection(sys.argv[1])
db.pragma("journal_mode", "wal")
db.execute("CREATE TABLE t(a)")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
from millpond.engine.sqlite.translate import translate
from millpond.engine.sqlite.files import gather
try:
    db.execute("INSERT INTO t VALUES (zeroblob(900000))")
except apsw.IOError as exc:
    error = translate(exc, sql="INSERT INTO t", files=lambda: gather(sys.argv[1]), errno=db.system_errno)
    print(type(error).__name__, "|", error, "|", error.extended_code, db.in_transaction)
    error = translate(exc, sql="INSERT INTO t", files=lambda: gather(sys.argv[1]))
    print(type(error).__name__, "|", error)
"""


def test_a_limit_on_the_size_of_files_is_told(db_path: str) -> None:
    done = subprocess.run([sys.executable, "-c", _TOO_LARGE, db_path], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == (
        "DiskFull | INSERT INTO t: bot.db would become larger than this process may write (ulimit -f) | 778 False"
    )
    assert second == "StorageError | INSERT INTO t: bot.db could not be written"


@pytest.mark.parametrize(
    ("code", "number", "kind", "words"),
    [
        (apsw.SQLITE_IOERR_WRITE, errno.ENOSPC, errors.DiskFull, "no space"),
        (apsw.SQLITE_IOERR_WRITE, errno.EPERM, errors.ReadOnlyDatabase, "has become read-only"),
        (apsw.SQLITE_IOERR_FSYNC, errno.EIO, errors.StorageError, "could not be synced to the disk"),
        (apsw.SQLITE_IOERR_READ, 0, errors.StorageError, "could not be read"),
        (apsw.SQLITE_IOERR_SHMMAP, 0, errors.StorageError, "could not use its shared memory"),
        (apsw.SQLITE_IOERR, 0, errors.StorageError, "could not be used"),
    ],
)
def test_the_systems_number_tells_one_io_error_from_another(
    code: int, number: int, kind: type[Error], words: str
) -> None:
    said = {"sql": "INSERT INTO t", "applied": "no", "path": None, "extended_code": code}
    error = failed_io("INSERT INTO t", facts()(), said, errno=number)
    assert type(error) is kind
    assert words in str(error)


def test_another_file_that_cannot_be_opened_is_named_without_its_folder(db: apsw.Connection, tmp_path: Path) -> None:
    error = provoked(db, "ATTACH ? AS x", (str(tmp_path / "none" / "other.db"),))
    assert type(error) is errors.StorageError
    assert "other.db cannot be opened" in str(error)
    assert str(tmp_path) not in str(error) + notes(error)
    assert "too many files" in str(translate(apsw.CantOpenError("x"), sql=None, errno=errno.EMFILE))


def test_a_damaged_page_is_corruption(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    content = bytearray(database_bytes(path))
    content[4096:8192] = random.Random(4).randbytes(4096)
    path.write_bytes(content)
    db = apsw.Connection(str(path))
    try:
        error = provoked(db, "SELECT * FROM t", files=lambda: gather(str(path)), schema=None)
    finally:
        db.close()
    assert type(error) is errors.DatabaseCorrupt
    assert str(error).endswith("bot.db is damaged")


# Opening


def database_bytes(path: Path) -> bytes:
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE t(a); INSERT INTO t VALUES (1)")
    db.close()
    content = path.read_bytes()
    path.unlink()
    return content


def opened(path: Path) -> Error:
    """The error of opening a file as the engine does: in WAL mode, with an empty write."""

    def as_the_engine_does() -> None:
        with closing(apsw.Connection(str(path))) as db:
            db.pragma("journal_mode", "wal")
            db.execute("BEGIN IMMEDIATE; SELECT * FROM sqlite_schema").fetchall()
            db.execute("CREATE TABLE another(a); ROLLBACK")

    with pytest.raises(apsw.Error) as caught:
        as_the_engine_does()
    return translate_open(caught.value, str(path), files=lambda: gather(str(path)))


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    error = opened(tmp_path)
    assert type(error) is errors.StorageError
    assert str(error) == f"cannot open {tmp_path.name}: it is a folder"
    assert error.path == str(tmp_path)


def test_a_missing_folder_is_named_alone(tmp_path: Path) -> None:
    error = opened(tmp_path / "none" / "bot.db")
    assert str(error) == "cannot open bot.db: its folder none/ does not exist"
    assert str(tmp_path) not in notes(error)


@pytest.mark.parametrize(
    ("content", "kind", "words"),
    [
        (b"hello, I am a diary. " * 300, errors.DatabaseCorrupt, "it is no SQLite database"),
        (random.Random(7).randbytes(8192), errors.DatabaseCorrupt, "its first bytes look encrypted"),
        (b"\x1f\x8b" + random.Random(7).randbytes(8192), errors.DatabaseCorrupt, "it is compressed"),
        (b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n" * 99, errors.DatabaseCorrupt, "a dump in SQL text"),
        (b"version https://git-lfs.github.com/spec/v1\n" * 99, errors.DatabaseCorrupt, "a pointer of Git LFS"),
        (bytes(8192), errors.DatabaseCorrupt, "it begins with zeros"),
        (b"abc", errors.DatabaseCorrupt, "it is no SQLite database"),
    ],
)
def test_what_is_no_database_is_told_for_what_it_looks_like(
    tmp_path: Path, content: bytes, kind: type[Error], words: str
) -> None:
    path = tmp_path / "bot.db"
    path.write_bytes(content)
    error = opened(path)
    assert type(error) is kind
    assert words in str(error)
    assert path.read_bytes() == content


@pytest.mark.parametrize(("place", "value"), [(18, 3), (19, 3), (47, 9)], ids=["write", "read", "schema"])
def test_a_newer_file_format_is_not_called_damage(tmp_path: Path, place: int, value: int) -> None:
    path = tmp_path / "bot.db"
    content = bytearray(database_bytes(path))
    content[place] = value
    path.write_bytes(content)
    error = opened(path)
    assert type(error) is errors.NotSupportedError
    assert "newer file format" in str(error)
    assert "Upgrade" in notes(error)


def test_a_database_that_begins_well_but_is_damaged_is_told(tmp_path: Path) -> None:
    path = tmp_path / "bot.db"
    content = bytearray(database_bytes(path))
    content[100:4000] = random.Random(4).randbytes(3900)
    path.write_bytes(content)
    assert "begins as a SQLite database does, but is damaged" in str(opened(path))


def test_a_file_locked_at_opening_is_told(db_path: str) -> None:
    error = translate_open(apsw.BusyError("database is locked"), db_path, files=facts())
    assert str(error) == "cannot open bot.db: another process holds it locked"
    assert error.retryable


def test_anything_else_at_opening_is_a_storage_error_without_the_path(db_path: str) -> None:
    error = translate_open(apsw.IOError(f"disk I/O error on {db_path}"), db_path, files=facts())
    assert type(error) is errors.StorageError
    assert os.path.dirname(db_path) not in str(error) + notes(error)
    assert error.path == db_path


def test_looking_at_the_header_drops_no_lock_of_this_process(db: apsw.Connection, db_path: str) -> None:
    db.execute("BEGIN IMMEDIATE; INSERT INTO user(age) VALUES (1)")
    header = first_bytes(db_path)
    assert header is not None
    assert header.startswith(b"SQLite format 3\0")
    assert len(header) == 100
    code = (
        "import apsw, sys\nc = apsw.Connection(sys.argv[1])\n"
        "try: c.execute('BEGIN IMMEDIATE')\nexcept apsw.BusyError: print('busy')\n"
        "c.pragma('wal_checkpoint', 'truncate')\nc.close()"
    )
    done = subprocess.run([sys.executable, "-c", code, db_path], capture_output=True, text=True, check=False)
    assert done.stdout == "busy\n"
    assert os.path.exists(db_path + "-wal")
    db.execute("COMMIT")
    assert first_bytes(db_path + "-none") is None


def test_the_facts_of_a_file_are_gathered_without_opening_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bot.db"
    path.write_bytes(b"12345")
    (tmp_path / "bot.db-wal").write_bytes(b"123")
    path.chmod(0o640)

    def refuse(*_: object, **__: object) -> Any:
        raise AssertionError("a plain open() drops SQLite's locks")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(os, "open", refuse)
    seen = gather(str(path))
    monkeypatch.undo()
    assert (seen.name, seen.folder, seen.size, seen.mode, seen.wal_bytes) == ("bot.db", tmp_path.name, 5, 0o640, 3)
    assert seen.exists
    assert seen.folder_exists
    assert seen.free_bytes is not None
    assert seen.total_bytes is not None
    assert seen.free_bytes <= seen.total_bytes
    assert not seen.read_only_mount


def test_the_facts_of_what_is_not_there_are_gathered_too(tmp_path: Path) -> None:
    seen = gather(str(tmp_path / "none" / "bot.db"))
    assert not seen.exists
    assert not seen.folder_exists
    assert seen.free_bytes is None
    assert gather(str(tmp_path)).is_folder


# The reference


PAGES = [Path(__file__).parents[2] / "docs" / folder / "errors.md" for folder in ("reference", "zh-TW/reference")]


def test_the_reference_prints_what_sqlite_is_translated_to(db: apsw.Connection, tmp_path: Path) -> None:
    encrypted = tmp_path / "bot.db-encrypted" / "bot.db"
    encrypted.parent.mkdir()
    encrypted.write_bytes(random.Random(7).randbytes(8192))
    too_much = apsw.FullError("database or disk is full")
    raised = [
        provoked(db, "SELECT auther FROM message"),
        provoked(db, "SELECT 1 FROM mesage"),
        provoked(db, "SELECT ?", "abc"),
        provoked(db, "SELECT :a, :b", {"a": 1}),
        provoked(db, "SELECT ?", (object(),)),
        provoked(db, "SELEC 1"),
        provoked(db, "INSERT INTO strict_one VALUES ('y', 'abc')"),
        provoked(db, "INSERT INTO user(id, age) VALUES (1, 1)"),
        provoked(db, "INSERT INTO user(age) VALUES (NULL)"),
        provoked(db, "INSERT INTO user(age) VALUES (-1)"),
        provoked(db, "INSERT INTO message(author) VALUES (7)", schema=SchemaWithKeys(db)),
        translate(apsw.ReadOnlyError("x"), sql="INSERT INTO t", files=facts(folder_writable=False)),
        translate(too_much, sql="INSERT INTO message(body) VALUES (zeroblob(9))", files=facts(free_bytes=4096)),
        opened(tmp_path / "none" / "bot.db"),
        opened(encrypted),
    ]
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for error in raised:
            assert f"{type(error).__name__}: {error}" in text
