"""Bad input: the right error with its hint, neighbours unharmed, nothing changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import millpond
from millpond import Database

DDL = """
CREATE TABLE user(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, age INTEGER CHECK (age >= 0));
CREATE TABLE message(id INTEGER PRIMARY KEY, author INTEGER NOT NULL REFERENCES user(id), body TEXT);
CREATE TABLE late(id INTEGER PRIMARY KEY, user INTEGER REFERENCES user(id) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO user VALUES (1, 'ada', 36);
"""


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db") as db:
        await db.execute_script(DDL)
        yield db


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", []))


@pytest.mark.parametrize(
    ("sql", "params", "kind", "text"),
    [
        ("SELEC 1", None, millpond.ProgrammingError, "syntax error"),
        ("", None, millpond.ProgrammingError, "no statement"),
        ("-- nothing", None, millpond.ProgrammingError, "no statement"),
        ("SELECT 1; SELECT 2", None, millpond.ProgrammingError, "more than one statement"),
        ("SELECT * FROM usr", None, millpond.NoSuchTable, "nearest: user"),
        ("SELECT nam FROM user", None, millpond.NoSuchColumn, "nearest: name"),
        ("SELECT ?", (), millpond.ParameterError, "1"),
        ("SELECT ?", (1, 2), millpond.ParameterError, "2"),
        ("SELECT :a", {"b": 1}, millpond.ParameterError, "a"),
        ("SELECT ?", "a", millpond.ParameterError, "str"),
        ("SELECT ?", {1}, millpond.ParameterError, "set"),
        ("SELECT ?", (object(),), millpond.ParameterError, "object"),
        ("SELECT ?", (2**64,), millpond.ParameterError, "64"),
        ("INSERT INTO user VALUES (2, 'ada', 1)", None, millpond.UniqueViolation, "user.name"),
        ("INSERT INTO user VALUES (1, 'bob', 1)", None, millpond.UniqueViolation, "user.id"),
        ("INSERT INTO user VALUES (2, NULL, 1)", None, millpond.NotNullViolation, "user.name"),
        ("INSERT INTO user VALUES (2, 'bob', -1)", None, millpond.CheckViolation, "age"),
        ("INSERT INTO message VALUES (1, 99, 'x')", None, millpond.ForeignKeyViolation, "FOREIGN KEY"),
        ("INSERT INTO late VALUES (1, 99)", None, millpond.ForeignKeyViolation, "deferred"),
        ("BEGIN", None, millpond.TransactionControl, "BEGIN"),
        ("COMMIT", None, millpond.TransactionControl, "COMMIT"),
        ("SAVEPOINT a", None, millpond.TransactionControl, "SAVEPOINT"),
        ("PRAGMA journal_mode = DELETE", None, millpond.NotSupportedError, "journal_mode"),
        ("PRAGMA synchronous = OFF", None, millpond.NotSupportedError, "synchronous"),
    ],
)
async def test_a_wrong_statement_gets_its_own_error(
    db: Database, sql: str, params: object, kind: type[millpond.Error], text: str
) -> None:
    with pytest.raises(kind) as caught:
        await db.execute(sql, params)
    line = str(caught.value)
    assert text in line, line
    assert "\n" not in line
    assert len(line) <= 160
    assert await db.fetch_all("SELECT * FROM user") == [(1, "ada", 36)]
    assert (await db.health()).status == "ok"


async def test_a_write_that_failed_says_that_nothing_was_applied(db: Database) -> None:
    with pytest.raises(millpond.UniqueViolation) as caught:
        await db.execute("INSERT INTO user VALUES (2, 'ada', 1)")
    assert caught.value.applied == "no"
    assert "ON CONFLICT" in notes(caught.value)


async def test_parameters_never_reach_the_text_of_an_error(db: Database) -> None:
    with pytest.raises(millpond.Error) as caught:
        await db.execute("INSERT INTO user(id, name) VALUES (1, 'secret-literal')")
    text = str(caught.value) + notes(caught.value)
    assert "secret" not in text
    with pytest.raises(millpond.Error) as caught:
        await db.execute("INSERT INTO user(id, name) VALUES (?, ?)", (1, "secret-parameter"))
    assert "secret" not in str(caught.value) + notes(caught.value) + repr(caught.value.sql)


async def test_a_poisoned_job_among_24_good_ones_fails_alone(db: Database) -> None:
    async def write(i: int) -> None:
        await db.execute("INSERT INTO user(id, name) VALUES (?, ?)", (100 + i, "ada" if i == 13 else f"u{i}"))

    found = await asyncio.gather(*(write(i) for i in range(25)), return_exceptions=True)
    assert [i for i, e in enumerate(found) if e is not None] == [13]
    assert isinstance(found[13], millpond.UniqueViolation)
    assert await db.fetch_value("SELECT count(*) FROM user") == 25


@pytest.mark.parametrize("clause", ["ROLLBACK", "FAIL", "ABORT"])
async def test_a_conflict_clause_of_one_does_not_touch_the_others(db: Database, clause: str) -> None:
    async def good(i: int) -> None:
        await db.execute("INSERT INTO user(id, name) VALUES (?, ?)", (100 + i, f"u{i}"))

    async def bad() -> None:
        await db.execute(
            f"INSERT OR {clause} INTO user(id, name) SELECT value, CASE value WHEN 3 THEN 'ada' ELSE 'v' || value END "
            "FROM (SELECT 2 AS value UNION ALL SELECT 3)"
        )

    found = await asyncio.gather(
        *(good(i) for i in range(12)), bad(), *(good(i) for i in range(12, 24)), return_exceptions=True
    )
    assert [i for i, e in enumerate(found) if e is not None] == [12]
    assert isinstance(found[12], millpond.UniqueViolation)
    assert await db.fetch_value("SELECT count(*) FROM user") == 25


async def test_a_trigger_that_rolls_back_does_not_touch_the_others(db: Database) -> None:
    await db.execute(
        "CREATE TRIGGER no BEFORE INSERT ON user WHEN new.name = 'evil' BEGIN SELECT RAISE(ROLLBACK, 'no evil'); END"
    )

    async def write(i: int) -> None:
        await db.execute("INSERT INTO user(name) VALUES (?)", ("evil" if i == 5 else f"u{i}",))

    found = await asyncio.gather(*(write(i) for i in range(10)), return_exceptions=True)
    assert [i for i, e in enumerate(found) if e is not None] == [5]
    assert await db.fetch_value("SELECT count(*) FROM user") == 10


async def test_a_function_that_ends_the_transaction_fails_alone(db: Database) -> None:
    """The statement is not known to end it until it does: the others run again, by themselves."""

    def deadly(tx: millpond.Transaction) -> None:
        tx.execute("INSERT OR ROLLBACK INTO user(name) VALUES ('ada')")

    def good(tx: millpond.Transaction) -> None:
        tx.execute("INSERT INTO user(name) VALUES (lower(hex(randomblob(8))))")

    found = await asyncio.gather(*(db.write(deadly if i == 7 else good) for i in range(20)), return_exceptions=True)
    assert [i for i, e in enumerate(found) if isinstance(e, BaseException)] == [7]
    assert isinstance(found[7], millpond.UniqueViolation)
    assert await db.fetch_value("SELECT count(*) FROM user") == 20
    assert db.stats().reruns > 0


async def test_a_function_that_raises_is_undone_and_its_own_error_comes_out(db: Database) -> None:
    class Mine(Exception):
        pass

    def fails(tx: millpond.Transaction) -> None:
        tx.execute("DELETE FROM user")
        raise Mine

    found = await asyncio.gather(
        db.write(fails), db.execute("INSERT INTO user(name) VALUES ('b')"), return_exceptions=True
    )
    assert isinstance(found[0], Mine)
    assert await db.fetch_value("SELECT count(*) FROM user") == 2


async def test_a_function_can_catch_what_its_statement_raised(db: Database) -> None:
    def careful(tx: millpond.Transaction) -> str:
        try:
            tx.execute("INSERT INTO user(name) VALUES ('ada')")
        except millpond.UniqueViolation as exc:
            return type(exc).__name__
        return "none"

    assert await db.write(careful) == "UniqueViolation"
    with pytest.raises(millpond.ParameterError):
        await db.write(lambda tx: tx.execute("INSERT INTO user(name) VALUES (:a)", {"b": 1}))


async def test_a_function_that_uses_tx_after_its_end_is_told(db: Database) -> None:
    kept = []
    await db.write(kept.append)
    with pytest.raises(millpond.ProgrammingError, match="over"):
        kept[0].execute("DELETE FROM user")
    assert await db.fetch_value("SELECT count(*) FROM user") == 1


async def test_an_async_function_given_to_write_is_refused(db: Database) -> None:
    async def wrong(tx: object) -> None: ...

    with pytest.raises(millpond.ProgrammingError, match="awaitable"):
        await db.write(wrong)


async def test_a_transaction_typed_by_hand_inside_a_function_is_refused_and_undone(db: Database) -> None:
    def wrong(tx: millpond.Transaction) -> None:
        tx.execute("DELETE FROM user")
        tx.execute("COMMIT")

    with pytest.raises(millpond.TransactionControl):
        await db.write(wrong)
    assert await db.fetch_value("SELECT count(*) FROM user") == 1


async def test_a_script_that_fails_leaves_nothing(db: Database) -> None:
    with pytest.raises(millpond.NoSuchTable):
        await db.execute_script(
            "INSERT INTO user(name) VALUES ('b'); CREATE TABLE x(a); INSERT INTO nowhere VALUES (1)"
        )
    assert await db.fetch_value("SELECT count(*) FROM user") == 1
    with pytest.raises(millpond.NoSuchTable):
        await db.fetch_all("SELECT * FROM x")


async def test_execute_many_is_all_or_none(db: Database) -> None:
    with pytest.raises(millpond.UniqueViolation):
        await db.execute_many("INSERT INTO user(name) VALUES (?)", [("b",), ("c",), ("ada",)])
    assert await db.fetch_value("SELECT count(*) FROM user") == 1
    with pytest.raises(millpond.ParameterError):
        await db.execute_many("INSERT INTO user(name) VALUES (?)", ["bob"])
    with pytest.raises(millpond.ParameterError):
        await db.execute_many("INSERT INTO user(name) VALUES (?)", "bob")

    async def rows() -> AsyncIterator[tuple[str]]:
        for i in range(10):
            yield (f"n{i}",)

    assert (await db.execute_many("INSERT INTO user(name) VALUES (?)", rows())).rowcount == 10


async def test_nested_transactions_are_told_how_to_nest(db: Database) -> None:
    async with db.transaction() as tx:
        await tx.execute("INSERT INTO user(name) VALUES ('b')")
        with pytest.raises(millpond.WouldWaitForItself) as caught:
            async with db.transaction():
                pass
        assert "savepoint" in notes(caught.value)
    assert await db.fetch_value("SELECT count(*) FROM user") == 2


async def test_a_transaction_is_used_only_in_its_block(db: Database) -> None:
    tx = db.transaction()
    with pytest.raises(millpond.ProgrammingError, match="not begun"):
        await tx.execute("DELETE FROM user")
    async with tx:
        pass
    with pytest.raises(millpond.ProgrammingError, match="over"):
        await tx.execute("DELETE FROM user")
    with pytest.raises(millpond.ProgrammingError, match="already"):
        async with tx:
            pass


async def test_a_deferred_violation_at_the_end_of_a_transaction_is_its_own(db: Database) -> None:
    async def transaction(user: int) -> None:
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO late(user) VALUES (?)", (user,))
            await asyncio.sleep(0)

    found = await asyncio.gather(*(transaction(99 if i == 3 else 1) for i in range(8)), return_exceptions=True)
    assert [i for i, e in enumerate(found) if e is not None] == [3]
    assert isinstance(found[3], millpond.ForeignKeyViolation)
    assert await db.fetch_value("SELECT count(*) FROM late") == 7


async def test_whatever_method_is_used_the_statement_decides_the_route(db: Database) -> None:
    assert await db.fetch_all("INSERT INTO user(name) VALUES ('r') RETURNING name") == [("r",)]
    assert (
        await db.fetch_value("WITH w AS (SELECT 'cte' AS n) INSERT INTO user(name) SELECT n FROM w RETURNING name")
        == "cte"
    )
    assert (await db.execute("SELECT * FROM user")).rowcount == -1
    assert await db.fetch_value("PRAGMA user_version") == 0
    await db.execute("PRAGMA user_version = 7")
    assert await db.fetch_value("PRAGMA user_version") == 7
    assert await db.fetch_value("PRAGMA journal_mode") == "wal"
    assert len(await db.fetch_all("PRAGMA table_info(user)")) == 3
    assert [row async for row in db.iterate("UPDATE user SET age = 1 RETURNING id")] != []
    await db.execute("VACUUM")
    await db.execute("ANALYZE")
    await db.execute("PRAGMA optimize")
    await db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (await db.fetch_value("EXPLAIN QUERY PLAN SELECT 1")) is not None


async def test_attach_is_seen_by_every_connection(db: Database, tmp_path: Path) -> None:
    for _ in range(5):
        await db.fetch_all("SELECT 1")
    await db.execute("ATTACH ? AS other", (str(tmp_path / "b.db"),))
    await db.execute("CREATE TABLE other.t(a)")
    await db.execute("INSERT INTO other.t VALUES (5)")
    for _ in range(5):
        assert await db.fetch_value("SELECT a FROM other.t") == 5
    async with db.snapshot() as snap:
        assert await snap.fetch_value("SELECT a FROM other.t") == 5
    await db.execute("PRAGMA foreign_keys = OFF")
    await db.execute("INSERT INTO message VALUES (1, 99, 'x')")


async def test_temporary_tables_are_found_where_they_are(db: Database) -> None:
    await db.execute("CREATE TEMP TABLE scratch(a)")
    await db.execute("INSERT INTO scratch VALUES (1)")
    assert await db.fetch_value("SELECT a FROM scratch") == 1


async def test_rows_follow_a_changed_schema(db: Database) -> None:
    for _ in range(5):
        assert (await db.fetch_all("SELECT * FROM user"))[0].keys() == ("id", "name", "age")
    await db.execute("ALTER TABLE user RENAME COLUMN age TO years")
    await db.execute("ALTER TABLE user ADD COLUMN mail TEXT")
    for _ in range(5):
        assert (await db.fetch_all("SELECT * FROM user"))[0].keys() == ("id", "name", "years", "mail")


async def test_rows_follow_a_schema_that_another_process_changed(db: Database, tmp_path: Path) -> None:
    from .outside import ask

    for _ in range(5):
        await db.fetch_one("SELECT * FROM user")
    ask(tmp_path / "a.db", "ALTER TABLE user RENAME COLUMN age TO years")
    for _ in range(5):
        row = await db.fetch_one("SELECT * FROM user")
        assert row is not None
        assert row.years == 36


async def test_wrong_terms_are_refused_at_once(db: Database) -> None:
    with pytest.raises(millpond.ProgrammingError, match="timeout"):
        await db.fetch_all("SELECT 1", timeout=-1)
    with pytest.raises(millpond.ProgrammingError, match="durability"):
        await db.execute("DELETE FROM user", durability="maybe")
    with pytest.raises(millpond.ProgrammingError, match="priority"):
        await db.execute("DELETE FROM user", priority=9)
    with pytest.raises(millpond.ProgrammingError, match="function"):
        await db.write("no function")
    with pytest.raises(millpond.ProgrammingError, match="text"):
        await db.fetch_all(5)
    assert await db.fetch_value("SELECT count(*) FROM user") == 1
