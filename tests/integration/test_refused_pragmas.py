"""A pragma that is refused has no effect: SQLite lets most of them act while they are only prepared."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import apsw
import pytest

from millpond import Database, errors
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.profiler import Profiler
from millpond.scheduling.fair_queue import Priority
from millpond.statements.profile import Kind

REFUSED = [
    "locking_mode = EXCLUSIVE", "query_only = ON", "synchronous = OFF", "writable_schema = ON", "busy_timeout = 5",
    "wal_autocheckpoint = 10", "read_uncommitted = 1", "journal_mode = DELETE", "main.locking_mode(EXCLUSIVE)",
]  # fmt: skip
"""Refused by every route."""

REFUSED_INSIDE = [
    "ignore_check_constraints = ON", "trusted_schema = ON", "foreign_keys = OFF", "recursive_triggers = ON",
    "legacy_alter_table = ON", "automatic_index = OFF", "cell_size_check = ON", "defer_foreign_keys = ON",
    "reverse_unordered_selects = ON", "secure_delete = ON", "journal_size_limit = 5", "temp_store = MEMORY",
    "cache_size = 77", "case_sensitive_like = ON", "threads = 2", "analysis_limit = 9", "cache_spill = 3",
]  # fmt: skip
"""Refused inside a transaction, since each connection must run them."""

NAMES = sorted({text.split()[0].split("(")[0].removeprefix("main.") for text in (*REFUSED, *REFUSED_INSIDE)})


def values(connection: Connection) -> dict[str, Any]:
    found = {name: connection.db.pragma(name) for name in NAMES if name != "case_sensitive_like"}
    found["case_sensitive_like"] = connection.db.execute("SELECT 'a' LIKE 'A'").fetchall()
    return found


async def state(db: Database) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The values on the writer's connection, a lane's, and the inline reader's."""
    engine = db._engine
    assert engine is not None
    assert engine.inline is not None
    # "normal", since how a "full" one is synced depends on where it runs
    written = await db.write(lambda tx: values(tx._connection), durability="normal")
    session = await db._session("look", Priority.NORMAL, 5, "here")
    read = await db._step(session, "look", values, 5)
    session.give_back(lambda _connection: None)
    return written, read, values(engine.inline.connection)


async def by_execute(db: Database, sql: str) -> None:
    await db.execute(sql)


async def by_fetch_all(db: Database, sql: str) -> None:
    await db.fetch_all(sql)


async def by_explain(db: Database, sql: str) -> None:
    await db.fetch_all(f"EXPLAIN {sql}")


async def by_script(db: Database, sql: str) -> None:
    await db.execute_script(f"{sql}; INSERT INTO t VALUES (1);")


async def by_second_of_script(db: Database, sql: str) -> None:
    await db.execute_script(f"INSERT INTO t VALUES (1); {sql};")


async def by_two_in_one(db: Database, sql: str) -> None:
    await db.execute(f"SELECT 1; {sql}")


async def by_transaction(db: Database, sql: str) -> None:
    async with db.transaction() as tx:
        await tx.execute(sql)


async def by_function(db: Database, sql: str) -> None:
    await db.write(lambda tx: tx.execute(sql))


async def by_snapshot(db: Database, sql: str) -> None:
    async with db.snapshot() as snapshot:
        await snapshot.fetch_all(sql)


INSIDE = [by_script, by_second_of_script, by_two_in_one, by_transaction, by_function]
ALL = [by_execute, by_fetch_all, by_explain, by_snapshot, *INSIDE]


@pytest.mark.parametrize(
    ("route", "pragma"),
    [(route, pragma) for route in ALL for pragma in REFUSED if (route, pragma) != (by_explain, REFUSED[7])]
    + [(route, pragma) for route in INSIDE for pragma in REFUSED_INSIDE],
)
async def test_a_refused_pragma_has_no_effect(
    db_path: str, route: Callable[[Database, str], Awaitable[None]], pragma: str
) -> None:
    async with Database(db_path) as db:
        await db.execute("CREATE TABLE t(x CHECK (x > 0))")
        before = await state(db)
        with pytest.raises(errors.Error):
            await route(db, f"PRAGMA {pragma}")
        assert await state(db) == before
        await db.execute("INSERT INTO t VALUES (2)", timeout=5)
        with pytest.raises(errors.CheckViolation):
            await db.execute("INSERT INTO t VALUES (-2)")
        assert await db.fetch_value("SELECT count(*) FROM t") == 1
        assert await state(db) == before


async def test_a_pragma_that_is_allowed_still_has_its_effect_everywhere(db_path: str) -> None:
    async with Database(db_path) as db:
        await db.execute("PRAGMA ignore_check_constraints = ON")
        await db.execute("PRAGMA cache_size = 77")
        written, read, _ = await state(db)
        assert (written["ignore_check_constraints"], read["ignore_check_constraints"]) == (1, 1)
        assert (written["cache_size"], read["cache_size"]) == (77, 77)
        assert await db.fetch_value("PRAGMA journal_size_limit = 12345") == 12345
        await db.execute("PRAGMA user_version = 5")
        assert await db.fetch_value("PRAGMA user_version") == 5


@pytest.mark.parametrize("limit", ["soft_heap_limit", "hard_heap_limit"])
def test_looking_at_a_limit_of_the_process_does_not_set_it(limit: str) -> None:
    db = apsw.Connection(":memory:")
    profile = Profiler(db, on_writer=True).profile(f"PRAGMA {limit} = 123456789", 0)
    assert (profile.kind, profile.names) == (Kind.EVERYWHERE, (limit,))
    assert db.pragma(limit) == 0


@pytest.mark.parametrize(
    ("sql", "kind", "names"),
    [
        ("PRAGMA secure_delete = ON", Kind.WRITER_ONLY, ("secure_delete",)),
        ("PRAGMA aux.secure_delete = ON", Kind.WRITER_ONLY, ("secure_delete",)),
        ("PRAGMA mmap_size = 0", Kind.EVERYWHERE, ("mmap_size",)),
        ("PRAGMA threads(2)", Kind.EVERYWHERE, ("threads",)),
        ("PRAGMA foreign_keys = ON", Kind.EVERYWHERE, ()),
        ("PRAGMA journal_mode = WAL", Kind.WRITER_ONLY, ("journal_mode",)),
        ("PRAGMA user_version = 3", Kind.WRITE, ()),
        ("EXPLAIN PRAGMA user_version = 3", Kind.READ, ("addr", "opcode", "p1", "p2", "p3", "p4", "p5", "comment")),
    ],
)
def test_what_a_pragma_is_and_answers_is_known_without_its_effect(sql: str, kind: Kind, names: tuple[str, ...]) -> None:
    db = apsw.Connection(":memory:")
    db.execute("ATTACH ':memory:' AS aux")
    profile = Profiler(db, on_writer=True).profile(sql, 0)
    assert (profile.kind, profile.names) == (kind, names)
