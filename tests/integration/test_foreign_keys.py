"""What is told of a foreign key that a write breaks: both tables, though SQLite names none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from millpond import Database, errors

SCHEMA = """
CREATE TABLE parent(id INTEGER PRIMARY KEY);
CREATE TABLE pair(a, b, PRIMARY KEY (a, b));
CREATE TABLE child(id INTEGER PRIMARY KEY, p REFERENCES parent);
CREATE TABLE two(x, y, FOREIGN KEY (x, y) REFERENCES pair(a, b));
CREATE TABLE later(id INTEGER PRIMARY KEY, p REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO parent VALUES (1);
INSERT INTO child VALUES (1, 1);
"""


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("INSERT INTO child(p) VALUES (9)", "breaks FOREIGN KEY child(p) -> parent"),
        ("INSERT INTO two VALUES (8, 9)", "breaks FOREIGN KEY two(x, y) -> pair(a, b)"),
        ("DELETE FROM parent", "child(p) -> parent"),
    ],
)
async def test_both_tables_are_named(db_path: str, sql: str, told: str) -> None:
    async with Database(db_path) as db:
        await db.execute_script(SCHEMA)
        for call in (db.execute(sql), db.write(lambda tx: tx.execute(sql))):
            with pytest.raises(errors.ForeignKeyViolation) as caught:
                await call
            assert told in str(caught.value) + " ".join(caught.value.__notes__)
            assert caught.value.extended_code == 787


async def by_execute(db: Database, sql: str) -> None:
    await db.execute(sql)


async def by_write(db: Database, sql: str) -> None:
    await db.write(lambda tx: tx.execute(sql))


async def by_transaction(db: Database, sql: str) -> None:
    async with db.transaction() as tx:
        await tx.execute(sql)


@pytest.mark.parametrize("way", [by_execute, by_write, by_transaction])
async def test_a_deferred_key_is_named_too(db_path: str, way: Callable[[Database, str], Awaitable[None]]) -> None:
    async with Database(db_path) as db:
        await db.execute_script(SCHEMA)
        with pytest.raises(errors.ForeignKeyViolation) as told:
            await way(db, "INSERT INTO later(p) VALUES (9)")
        assert str(told.value).endswith(" leaves a deferred foreign key violated: later -> parent")
        assert (told.value.extended_code, told.value.applied) == (787, "no")
        assert await db.fetch_value("SELECT count(*) FROM later") == 0
        await way(db, "INSERT INTO later(p) VALUES (1)")


async def test_several_that_it_can_be_are_listed(db_path: str) -> None:
    async with Database(db_path) as db:
        await db.execute_script(SCHEMA)
        await db.execute("CREATE TABLE last(p REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)")

        with pytest.raises(errors.ForeignKeyViolation) as caught:
            await db.write(lambda tx: [tx.execute(f"INSERT INTO {name} VALUES (9, 9)") for name in ("later",)]
                           + [tx.execute("INSERT INTO last VALUES (9)")])  # fmt: skip
        notes = " ".join(caught.value.__notes__)
        assert "later -> parent" in notes
        assert "last -> parent" in notes
