"""Laws of classification: what is called a read cannot write, whatever its text."""

from __future__ import annotations

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millpond.engine.sqlite.profiler import Profiler
from millpond.statements.cache import ProfileCache
from millpond.statements.profile import Kind

SCHEMA = """
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, n INTEGER);
CREATE TABLE log(id INTEGER PRIMARY KEY, t INTEGER REFERENCES t(id) ON DELETE CASCADE);
CREATE VIEW v AS SELECT t.id, name FROM t JOIN log ON log.t = t.id;
CREATE TRIGGER tr AFTER INSERT ON t BEGIN INSERT INTO log(t) VALUES (new.id); END;
CREATE TRIGGER stop BEFORE DELETE ON log WHEN old.id < 0 BEGIN SELECT RAISE(ROLLBACK, 'no'); END;
INSERT INTO t(name, n) VALUES ('a', 1), ('b', 2);
"""


@pytest.fixture(scope="module")
def db() -> apsw.Connection:
    db = apsw.Connection(":memory:")
    db.execute(SCHEMA)
    return db


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT * FROM v", Kind.READ),
        ("-- a comment\nSELECT 1", Kind.READ),
        ("/* INSERT */ VALUES (1)", Kind.READ),
        ("EXPLAIN DELETE FROM t", Kind.READ),
        ("EXPLAIN QUERY PLAN UPDATE t SET n = 1", Kind.READ),
        ("WITH w AS (SELECT 1) INSERT INTO t(name) SELECT 'x' FROM w RETURNING id", Kind.WRITE),
        ("REPLACE INTO t(name) VALUES ('a')", Kind.WRITE),
        ("UPDATE t SET n = 1 RETURNING n", Kind.WRITE),
        ("INSERT INTO t(name) VALUES ('a') ON CONFLICT DO NOTHING", Kind.WRITE),
        ("CREATE TABLE x(a)", Kind.SCHEMA),
        ("CREATE INDEX i ON t(n)", Kind.SCHEMA),
        ("DROP TRIGGER tr", Kind.SCHEMA),
        ("ALTER TABLE t ADD COLUMN z", Kind.SCHEMA),
        ("CREATE VIRTUAL TABLE f USING fts5(body)", Kind.SCHEMA),
        ("ANALYZE", Kind.SCHEMA),
        ("REINDEX", Kind.SCHEMA),
        ("VACUUM", Kind.WRITER_ONLY),
        ("VACUUM INTO 'x.db'", Kind.WRITER_ONLY),
        ("ATTACH ':memory:' AS other", Kind.EVERYWHERE),
        ("DETACH other", Kind.EVERYWHERE),
        ("BEGIN IMMEDIATE", Kind.TRANSACTION),
        ("END", Kind.TRANSACTION),
        ("ROLLBACK", Kind.TRANSACTION),
        ("SAVEPOINT a", Kind.TRANSACTION),
        ("RELEASE a", Kind.TRANSACTION),
        ("PRAGMA user_version", Kind.READ),
        ("PRAGMA user_version = 3", Kind.WRITE),
        ("PRAGMA table_info(t)", Kind.READ),
        ("PRAGMA integrity_check", Kind.READ),
        ("PRAGMA foreign_keys = ON", Kind.EVERYWHERE),
        ("PRAGMA cache_size(100)", Kind.EVERYWHERE),
        ("PRAGMA synchronous", Kind.WRITER_ONLY),
        ("PRAGMA synchronous = OFF", Kind.REFUSED),
        ("PRAGMA journal_mode = wal", Kind.WRITER_ONLY),
        ("PRAGMA journal_mode = delete", Kind.REFUSED),
        ("PRAGMA locking_mode = EXCLUSIVE", Kind.REFUSED),
        ("PRAGMA optimize", Kind.WRITER_ONLY),
        ("PRAGMA wal_checkpoint(TRUNCATE)", Kind.WRITER_ONLY),
        ("PRAGMA nonsense = 5", Kind.READ),
    ],
)
def test_each_kind_of_statement_is_known(db: apsw.Connection, sql: str, kind: Kind) -> None:
    assert Profiler(db, on_writer=True).profile(sql, 1).kind is kind


def test_what_else_a_route_needs_is_known(db: apsw.Connection) -> None:
    profiler = Profiler(db, on_writer=True)
    insert = profiler.profile("INSERT INTO t(name) VALUES (?)", 1)
    assert insert.inserts
    assert insert.changes
    assert insert.tables_written == {"t", "log"}
    assert insert.word == "INSERT"
    assert not insert.ends_transaction
    assert profiler.profile("INSERT OR ROLLBACK INTO t(name) VALUES (?)", 1).ends_transaction
    assert profiler.profile("DELETE FROM log", 1).ends_transaction
    assert profiler.profile("INSERT OR FAIL INTO t(name) VALUES (?)", 1).keeps_partial
    assert profiler.profile("SELECT name FROM t WHERE id = ?", 1).single_row
    assert not profiler.profile("SELECT name FROM t", 1).single_row
    assert profiler.profile("SELECT name AS x, 1 FROM t", 1).names == ("x", "1")
    assert profiler.profile("CREATE TEMP TABLE q(a)", 1).temporary


WORDS = st.sampled_from(
    ["SELECT", "INSERT", "INTO", "UPDATE", "DELETE", "FROM", "t", "log", "v", "SET", "n", "=", "1", "*", "(", ")", "id",
     "name", "WHERE", "VALUES", "WITH", "w", "AS", "RETURNING", "OR", "REPLACE", "ROLLBACK", ",", "PRAGMA",
     "user_version", "CREATE", "TABLE", "DROP", "EXPLAIN", "NULL", "UNION", "BEGIN", "VACUUM", "ATTACH", "foreign_keys"]
)  # fmt: skip


@given(words=st.lists(WORDS, min_size=1, max_size=12))
@settings(max_examples=1500, deadline=None)
def test_what_is_called_a_read_changes_nothing(words: list[str]) -> None:
    sql = " ".join(words)
    db = apsw.Connection(":memory:")
    db.execute(SCHEMA)
    try:
        profile = Profiler(db, on_writer=True).profile(sql, 1)
    except Exception:
        return  # no statement
    if profile.kind is not Kind.READ:
        return
    before = db.serialize("main")
    try:
        db.execute(sql).fetchall()
    except apsw.Error:
        return
    assert db.serialize("main") == before
    assert not db.in_transaction


def test_the_cache_of_profiles_is_bounded_and_keeps_what_was_learnt(db: apsw.Connection) -> None:
    profiler = Profiler(db, on_writer=True)
    cache = ProfileCache(100)
    for i in range(1000):
        cache.put(profiler.profile(f"SELECT {i}", 1))
        assert len(cache) <= 100
    assert cache.get("SELECT 999") is not None
    old = cache.get("SELECT 999")
    assert old is not None
    cache.all_stale()
    assert old.stale
    cache.put(profiler.profile("SELECT 999", 2))
    new = cache.get("SELECT 999")
    assert new is not None
    assert new is not old
    assert new.cost is old.cost
    assert not new.stale
