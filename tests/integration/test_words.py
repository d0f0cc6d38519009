"""The words of errors fit the call: its method, its line, and whether there is anything to await."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

import millpond
import millpond.sync
from millpond import Database, WouldWaitForItself

INSERT = "INSERT INTO t VALUES (1)"


@pytest_asyncio.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "a.db") as db:
        await db.execute("CREATE TABLE t(n)")
        yield db


@pytest.fixture
def twin(tmp_path: Path) -> Iterator[millpond.sync.Database]:
    with millpond.sync.Database(tmp_path / "b.db") as twin:
        twin.execute("CREATE TABLE t(n)")
        yield twin


def line() -> int:
    return sys._getframe(1).f_lineno


async def test_inside(db: Database) -> None:
    async with db.transaction():
        opened = line() - 1
        with pytest.raises(WouldWaitForItself) as caught:
            await db.execute(INSERT)
        assert str(caught.value) == (
            f"db.execute(...) at test_words.py:{opened + 3} in test_inside() inside the transaction opened at "
            f"test_words.py:{opened} in test_inside()"
        )
        assert "`tx.execute(...)`" in (caught.value.hint or "")
        calls: dict[str, Any] = {
            "fetch_value": lambda: db.fetch_value(INSERT + " RETURNING n"),
            "execute_many": lambda: db.execute_many("INSERT INTO t VALUES (?)", [(1,)]),
            "execute_script": lambda: db.execute_script(INSERT),
            "write": lambda: db.write(lambda tx: None),
            "transaction": db.transaction().__aenter__,
        }
        for name, call in calls.items():
            with pytest.raises(WouldWaitForItself, match=rf"^db\.{name}\(") as caught:
                await call()
            hint = caught.value.hint or ""
            for method in re.findall(r"`(?:async with )?tx\.(\w+)\(", hint):
                assert hasattr(millpond.scopes.TransactionScope, method), hint
            assert "tx.write" not in hint
            assert "tx.transaction" not in hint


async def test_a_task_started_inside_is_told_in_words_of_its_own(db: Database) -> None:
    async def log() -> None:
        await db.execute(INSERT)

    async with db.transaction():
        task = asyncio.create_task(log())
        with pytest.raises(WouldWaitForItself) as caught:
            await asyncio.wait_for(asyncio.shield(task), 5)
        assert "in log() in a task started inside the transaction opened at test_words.py" in str(caught.value)
        assert "for ever" not in (caught.value.hint or "")
        assert "forever" not in (caught.value.hint or "")
        bare = asyncio.create_task(db.execute(INSERT))  # type: ignore[var-annotated, unused-ignore]  # a bare call
        with pytest.raises(WouldWaitForItself, match=r"^db\.execute\(\.\.\.\) in a task started"):
            await bare
    await log()
    assert await db.fetch_value("SELECT count(*) FROM t") == 1


def words(error: millpond.Error) -> str:
    return " ".join([str(error), *error.__notes__, error.hint or ""])


def test_threads_are_told_nothing_of_await(twin: millpond.sync.Database, tmp_path: Path) -> None:
    closed = millpond.sync.Database(tmp_path / "c.db")
    with twin.transaction() as tx:
        calls: list[Any] = [
            lambda: twin.execute("SELECT 1; SELECT 2"),
            lambda: twin.execute_script("VACUUM"),
            lambda: twin.execute("BEGIN"),
            lambda: tx.execute("COMMIT"),
            lambda: tx.execute("SELECT 1; SELECT 2"),
            lambda: twin.transaction().__enter__(),
            lambda: twin.write(lambda tx: None),
            lambda: closed.execute(INSERT),
        ]
        found = []
        for call in calls:
            with pytest.raises(millpond.Error) as caught:
                call()
            found.append(words(caught.value))
    with pytest.raises(millpond.Error) as caught:
        tx.execute(INSERT)
    found.append(words(caught.value))
    with pytest.raises(millpond.Error) as caught:
        twin.execute_script("VACUUM")
    found.append(words(caught.value))
    for text in found:
        assert "hint: " in text, text
        assert not re.search(r"\bawait \w+\.|\basync (with|for)\b", text), text
