"""A warning points at the caller's line, wherever the statement runs."""

from __future__ import annotations

import datetime as dt
import sys
import warnings
from pathlib import Path

import pytest

import millpond.sync
from millpond import Database

NAIVE = dt.datetime(2026, 1, 2)  # noqa: DTZ001  # that is the point


def the_only(caught: list[warnings.WarningMessage]) -> tuple[str, int]:
    (one,) = [one for one in caught if "without a time zone" in str(one.message)]
    return Path(one.filename).name, one.lineno


def line() -> int:
    return sys._getframe(1).f_lineno


@pytest.mark.parametrize("way", ["execute", "fetch", "write", "transaction", "many"])
async def test_a_naive_datetime_is_warned_about_where_it_is_given(way: str, db_path: str) -> None:
    async with Database(db_path) as db:
        await db.execute("CREATE TABLE x(a)")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            match way:
                case "execute":
                    here = line() + 1
                    await db.execute("INSERT INTO x VALUES (?)", (NAIVE,))
                case "fetch":
                    here = line() + 1
                    await db.fetch_all("SELECT ?", (NAIVE,))
                case "write":
                    here = line() + 1
                    await db.write(lambda tx: tx.execute("INSERT INTO x VALUES (?)", (NAIVE,)))
                case "transaction":
                    async with db.transaction() as tx:
                        here = line() + 1
                        await tx.execute("INSERT INTO x VALUES (?)", (NAIVE,))
                case _:
                    here = line() + 1
                    await db.execute_many("INSERT INTO x VALUES (?)", [(NAIVE,)])
        assert the_only(caught) == ("test_warned_lines.py", here)


@pytest.mark.parametrize("way", ["execute", "fetch", "transaction"])
def test_the_same_in_threads(way: str, db_path: str) -> None:
    with millpond.sync.Database(db_path) as db:
        db.execute("CREATE TABLE x(a)")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            match way:
                case "execute":
                    here = line() + 1
                    db.execute("INSERT INTO x VALUES (?)", (NAIVE,))
                case "fetch":
                    here = line() + 1
                    db.fetch_all("SELECT ?", (NAIVE,))
                case _:
                    with db.transaction() as tx:
                        here = line() + 1
                        tx.execute("INSERT INTO x VALUES (?)", (NAIVE,))
        assert the_only(caught) == ("test_warned_lines.py", here)


def test_a_forgotten_database_is_warned_about_at_the_line_that_forgets_it(db_path: str) -> None:
    db = millpond.sync.Database(db_path)
    db.open()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        here = line() + 1
        del db
    (one,) = [one for one in caught if "unclosed database" in str(one.message)]
    assert (Path(one.filename).name, one.lineno) == ("test_warned_lines.py", here)
