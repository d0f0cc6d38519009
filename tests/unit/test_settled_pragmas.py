"""A pragma that asks for what is so already."""

from __future__ import annotations

import pytest

from millpond.statements.pragmas import asks_writer, is_so_already, setting_of


@pytest.mark.parametrize(
    ("name", "value", "now"),
    [
        ("foreign_keys", "ON", 1), ("foreign_keys", "1", 1), ("foreign_keys", "true", 1), ("foreign_keys", "off", 0),
        ("journal_mode", "WAL", "wal"), ("synchronous", "FULL", 2), ("synchronous", "2", 2),
        ("synchronous", "normal", 1), ("locking_mode", "NORMAL", "normal"),
    ],
)  # fmt: skip
def test_what_is_so_already(name: str, value: str, now: object) -> None:
    assert is_so_already(name, value, {name: now})


@pytest.mark.parametrize(
    ("name", "value", "now"),
    [
        ("foreign_keys", "OFF", 1), ("foreign_keys", "0", 1), ("journal_mode", "DELETE", "wal"),
        ("synchronous", "NORMAL", 2), ("synchronous", "OFF", 1), ("locking_mode", "EXCLUSIVE", "normal"),
        ("user_version", "3", 3),
    ],
)  # fmt: skip
def test_what_is_not(name: str, value: str, now: object) -> None:
    assert not is_so_already(name, value, {name: now})
    assert not is_so_already(name, value, {})


def test_questions_about_the_writer_and_settings() -> None:
    assert asks_writer("synchronous", None)
    assert not asks_writer("synchronous", "2")
    assert not asks_writer("wal_checkpoint", None)
    assert (setting_of("foreign_keys"), setting_of("user_version")) == ("foreign_keys", None)
