"""Which migrations are applied, decided without a file or a database."""

from __future__ import annotations

import pytest

from millpond.errors import MigrationError
from millpond.migrations.plan import Recorded, Source, passed_over, pending, source


def made(name: str, text: str = "SELECT 1") -> Source:
    return source(name, f"/app/migrations/{name}", text.encode())


def row(one: Source) -> Recorded:
    return (one.migration.number, one.migration.name, one.sha256)


ONE, TWO, TEN = made("0001_user.sql"), made("2_tags.py", "def migrate(tx): ..."), made("0010_index.sql")


def test_they_run_in_the_order_of_their_numbers() -> None:
    assert pending([TEN, TWO, ONE], []) == [ONE, TWO, TEN]


def test_what_was_applied_is_not_applied_again() -> None:
    assert pending([ONE, TWO, TEN], [row(ONE), row(TWO)]) == [TEN]
    assert pending([ONE], [row(ONE)]) == []
    assert pending([], []) == []


@pytest.mark.parametrize(
    "name", ["README.md", "0001.sql", "user.sql", "0001_user.sql~", "1_user.txt", "old", "²_x.sql"]
)
def test_what_is_no_migration_is_refused(name: str) -> None:
    with pytest.raises(MigrationError, match="is no migration") as caught:
        made(name)
    assert caught.value.applied == "no"


def test_hidden_files_and_pythons_own_are_passed_over() -> None:
    assert [name for name in (".gitkeep", "__pycache__", "__init__.py", "0001_x.py") if not passed_over(name)] == [
        "0001_x.py"
    ]


def test_two_of_one_number_are_refused() -> None:
    with pytest.raises(MigrationError, match=r"0001_user\.sql and 1_other\.sql have the same number"):
        pending([made("1_other.sql"), ONE], [])


def test_a_changed_one_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"0001_user\.sql was changed after it was applied"):
        pending([made("0001_user.sql", "SELECT 2")], [row(ONE)])


def test_one_that_is_gone_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"0001_user\.sql was applied to this database, and is gone"):
        pending([TWO], [row(ONE), row(TWO)])


def test_one_that_comes_too_late_is_refused() -> None:
    with pytest.raises(MigrationError, match=r"2_tags\.py was never applied, but number 10 was"):
        pending([ONE, TWO, TEN], [row(ONE), row(TEN)])


def test_line_ends_and_a_byte_order_mark_are_no_change() -> None:
    assert made("1_x.sql", "\ufeffSELECT 1;\r\nSELECT 2").sha256 == made("1_x.sql", "SELECT 1;\nSELECT 2").sha256


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(MigrationError, match="is not UTF-8 text"):
        source("0001_x.sql", "/x", b"\xff\xfe")


def test_a_line_is_short_whatever_the_name() -> None:
    long = made(f"0001_{'x' * 300}.sql")
    with pytest.raises(MigrationError) as caught:
        pending([long, made(f"01_{'y' * 300}.sql")], [])
    assert len(str(caught.value)) <= 160
