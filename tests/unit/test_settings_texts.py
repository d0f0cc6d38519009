"""Errors about settings: what must be is said, however long what is was; no table is passed over without a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from millpond.configuration import load
from millpond.errors import SettingsError
from millpond.settings import Settings

LONG = "x" * 300


@pytest.mark.parametrize(
    ("values", "must"),
    [
        ({"durability": LONG}, "must be one of 'full', 'normal'"),
        ({"timeout_s": LONG}, "must be a number from 0.001 to 86,400 (seconds)"),
        ({"max_queue": 10**200}, "must be a whole number from 1 to 10,000,000 (calls)"),
        ({"foreign_keys": LONG}, "must be True or False"),
    ],
)
def test_a_long_wrong_value_leaves_room_for_what_must_be(values: dict[str, object], must: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.of(values, source=f"{LONG}.toml")
    assert str(caught.value).endswith(must)
    assert len(str(caught.value)) <= 160


def test_so_does_one_of_the_environment(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is neither true nor false"):
        load(None, {"MILLPOND_FOREIGN_KEYS": LONG}, tmp_path)
    with pytest.raises(SettingsError, match="is not a number"):
        load(None, {"MILLPOND_TIMEOUT_S": LONG}, tmp_path)


@pytest.mark.parametrize("table", ["millpond", "tool.millpond", "tool.millpond.stress"])
def test_a_table_for_settings_in_millpond_toml_is_refused(table: str, tmp_path: Path) -> None:
    (tmp_path / "millpond.toml").write_text(f"[{table}]\nmax_queue = 7\n")
    with pytest.raises(SettingsError, match="settings stand at its top") as caught:
        load(None, {}, tmp_path)
    assert "pyproject.toml" in (caught.value.hint or "")


def test_tables_of_tools_are_passed_over_still(tmp_path: Path) -> None:
    (tmp_path / "millpond.toml").write_text("max_queue = 7\n[stress]\nworkers = 5\n[tool.other]\nmax_queue = 8\n")
    assert load(None, {}, tmp_path) == Settings(max_queue=7)
