"""Settings from outside: the environment, millpond.toml, pyproject.toml."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from millpond.configuration import load
from millpond.errors import SettingsError
from millpond.settings import Settings


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A repository: the search ends here, whatever lies above."""
    (tmp_path / ".git").mkdir()
    return tmp_path


def refusal(
    explicit: Settings | Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None, start: Path = Path()
) -> SettingsError:
    with pytest.raises(SettingsError) as error:
        load(explicit, environ or {}, start)
    assert len(str(error.value)) <= 160
    assert "\n" not in str(error.value)
    return error.value


def test_without_anything_the_defaults_are_in_force(home: Path) -> None:
    assert load(None, {}, home) == Settings()
    assert load(None, {"PATH": "/bin", "XMILLPOND_MAX_QUEUE": "5"}, home) == Settings()


def test_millpond_toml_holds_settings(home: Path) -> None:
    (home / "millpond.toml").write_text('max_connections = 4\ntimeout_s = 5\ninline = "off"\nforeign_keys = false\n')
    expected = Settings(max_connections=4, timeout_s=5, inline="off", foreign_keys=False)
    assert load(None, {}, home) == expected


def test_pyproject_toml_holds_them_in_a_table_of_its_own(home: Path) -> None:
    (home / "pyproject.toml").write_text("[tool.ruff]\nline-length = 120\n[tool.millpond]\nmax_queue = 7\n")
    assert load(None, {}, home) == Settings(max_queue=7)


def test_tables_of_tools_are_no_settings(home: Path) -> None:
    (home / "pyproject.toml").write_text(
        "[tool.millpond]\nmax_queue = 7\n[tool.millpond.stress]\nworkers = 5\n[[tool.millpond.alerts]]\nname = 'a'\n"
    )
    assert load(None, {}, home) == Settings(max_queue=7)


def test_millpond_toml_comes_before_pyproject_toml(home: Path) -> None:
    (home / "pyproject.toml").write_text("[tool.millpond]\nmax_queue = 7\nmax_read_queue = 7\n")
    (home / "millpond.toml").write_text("max_queue = 8\n")
    assert load(None, {}, home) == Settings(max_queue=8)


def test_the_nearest_file_above_counts_alone(home: Path) -> None:
    (home / "millpond.toml").write_text("max_queue = 7\nmax_read_queue = 7\n")
    below = home / "src" / "bot"
    below.mkdir(parents=True)
    assert load(None, {}, below) == Settings(max_queue=7, max_read_queue=7)
    (home / "src" / "pyproject.toml").write_text("[project]\nname = 'without a table'\n")
    assert load(None, {}, below) == Settings(max_queue=7, max_read_queue=7)
    (home / "src" / "millpond.toml").write_text("max_queue = 8\n")
    assert load(None, {}, below) == Settings(max_queue=8)


@pytest.mark.parametrize("mark", ["folder", "file"])
def test_the_search_ends_at_the_repository(tmp_path: Path, mark: str) -> None:
    (tmp_path / "millpond.toml").write_text("max_queue = 7\n")
    repository = tmp_path / "repository"
    repository.mkdir()
    if mark == "folder":
        (repository / ".git").mkdir()
    else:
        (repository / ".git").write_text("gitdir: elsewhere")
    assert load(None, {}, repository) == Settings()
    assert load(None, {}, tmp_path) == Settings(max_queue=7)


def test_a_relative_start_is_searched_upwards_too(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "millpond.toml").write_text("max_queue = 7\n")
    (home / "below").mkdir()
    monkeypatch.chdir(home / "below")
    assert load(None, {}, Path()) == Settings(max_queue=7)


def test_the_environment_comes_before_the_file(home: Path) -> None:
    (home / "millpond.toml").write_text("max_queue = 7\nmax_read_queue = 7\n")
    assert load(None, {"MILLPOND_MAX_QUEUE": "9"}, home) == Settings(max_queue=9, max_read_queue=7)


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("MILLPOND_MAX_CONNECTIONS", "5", "max_connections", 5),
        ("MILLPOND_MAX_QUEUE", " 1_000 ", "max_queue", 1000),
        ("MILLPOND_TIMEOUT_S", "2.5", "timeout_s", 2.5),
        ("MILLPOND_TIMEOUT_S", "3", "timeout_s", 3.0),
        ("MILLPOND_FOREIGN_KEYS", "No", "foreign_keys", False),
        ("MILLPOND_FOREIGN_KEYS", "0", "foreign_keys", False),
        ("MILLPOND_STRICT_DATETIMES", "true", "strict_datetimes", True),
        ("MILLPOND_STRICT_DATETIMES", "ON", "strict_datetimes", True),
        ("MILLPOND_DURABILITY", "normal", "durability", "normal"),
        ("MILLPOND_INLINE", " off", "inline", "off"),
    ],
)
def test_text_of_the_environment_becomes_what_the_field_is(
    home: Path, name: str, text: str, field: str, value: object
) -> None:
    found = getattr(load(None, {name: text}, home), field)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_variable_counts_as_not_set(home: Path, text: str) -> None:
    assert load(None, {"MILLPOND_TIMEOUT_S": text}, home) == Settings()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("MILLPOND_MAX_QUEUE", "many", "MILLPOND_MAX_QUEUE='many' is not a whole number"),
        ("MILLPOND_MAX_QUEUE", "1.5", "MILLPOND_MAX_QUEUE='1.5' is not a whole number"),
        ("MILLPOND_TIMEOUT_S", "5s", "MILLPOND_TIMEOUT_S='5s' is not a number"),
        ("MILLPOND_TIMEOUT_S", "inf",
         "MILLPOND_TIMEOUT_S: timeout_s=inf: must be a number from 0.001 to 86,400 (seconds)"),
        ("MILLPOND_FOREIGN_KEYS", "maybe", "MILLPOND_FOREIGN_KEYS='maybe' is neither true nor false"),
        ("MILLPOND_DURABILITY", "FULL", "MILLPOND_DURABILITY: durability='FULL': must be one of 'full', 'normal'"),
        ("MILLPOND_MAX_CONNECTIONS", "99",
         "MILLPOND_MAX_CONNECTIONS: max_connections=99: must be a whole number from 2 to 20 (connections)"),
        ("MILLPOND_MAX_SIZE", "5", "MILLPOND_MAX_SIZE: unknown setting max_size; did you mean max_connections (2-20)?"),
        ("MILLPOND_ADAPTERS", "{}", "MILLPOND_ADAPTERS: adapters can only be given in code"),
    ],
)  # fmt: skip
def test_a_wrong_variable_is_named(home: Path, name: str, text: str, said: str) -> None:
    assert str(refusal(None, {name: text}, home)) == said


def test_the_variable_at_fault_is_the_same_in_every_order(home: Path) -> None:
    wrong = {"MILLPOND_TIMEOUT_S": "x", "MILLPOND_MAX_QUEUE": "x"}
    assert str(refusal(None, wrong, home)) == str(refusal(None, dict(reversed(wrong.items())), home))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_queue = 0", "millpond.toml: max_queue=0: must be a whole number from 1 to 10,000,000 (calls)"),
        ("max_queue = '5'", "millpond.toml: max_queue='5': must be a whole number from 1 to 10,000,000 (calls)"),
        ("max_queue = [5]", "millpond.toml: max_queue=[5]: must be a whole number from 1 to 10,000,000 (calls)"),
        ("max_queue.is = 5", "millpond.toml: max_queue={'is': 5}: must be a whole number from 1 to 10,000,000 (calls)"),
        ("max_queue = true", "millpond.toml: max_queue=True: must be a whole number from 1 to 10,000,000 (calls)"),
        ("max_size = 5", "millpond.toml: unknown setting max_size; did you mean max_connections (2-20)?"),
        ("queues = [5]", "millpond.toml: unknown setting queues"),
    ],
)
def test_a_wrong_value_in_a_file_is_named_with_the_file(home: Path, text: str, said: str) -> None:
    (home / "millpond.toml").write_text(text)
    assert str(refusal(start=home)).startswith(said)


def test_a_file_that_is_no_toml_is_named_without_its_folder(home: Path) -> None:
    (home / "millpond.toml").write_text("max_queue 5")
    error = refusal(start=home)
    assert str(error).startswith("millpond.toml is not valid TOML: ")
    assert error.path == str(home / "millpond.toml")
    (home / "millpond.toml").write_bytes(b"\xff")
    assert "is not valid TOML" in str(refusal(start=home))


def test_a_file_that_cannot_be_read_is_named_without_its_folder(home: Path) -> None:
    (home / "millpond.toml").mkdir()
    assert str(refusal(start=home)) == "millpond.toml cannot be read: Is a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may look everywhere")
def test_a_folder_that_may_not_be_looked_into_says_nothing(home: Path) -> None:
    closed = home / "closed"
    closed.mkdir()
    closed.chmod(0)
    try:
        assert load(None, {}, closed) == Settings()
    finally:
        closed.chmod(0o700)


def test_a_folder_that_refuses_to_be_asked_says_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exists = Path.exists

    def refuse(path: Path) -> bool:
        if path.parent.name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    (home / "millpond.toml").write_text("max_queue = 7\n")
    monkeypatch.setattr(Path, "exists", refuse)
    assert load(None, {}, home / "closed") == Settings(max_queue=7)


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\nother = 1"])
def test_a_project_without_our_table_says_nothing(home: Path, text: str) -> None:
    (home / "pyproject.toml").write_text(text)
    assert load(None, {}, home) == Settings()


def test_a_table_that_is_none_is_refused(home: Path) -> None:
    (home / "pyproject.toml").write_text("[tool]\nmillpond = 3\n")
    assert str(refusal(start=home)) == "pyproject.toml: tool.millpond must be a table, not int"


def test_a_settings_object_wins_outright(home: Path) -> None:
    (home / "millpond.toml").write_text("not even toml")
    settings = Settings(max_queue=5)
    assert load(settings, {"MILLPOND_MAX_QUEUE": "x"}, home) is settings


def test_a_mapping_comes_before_the_environment_and_the_file(home: Path) -> None:
    (home / "millpond.toml").write_text("max_queue = 7\nmax_read_queue = 7\n")
    found = load({"max_queue": 5}, {"MILLPOND_MAX_QUEUE": "9", "MILLPOND_TIMEOUT_S": "9"}, home)
    assert found == Settings(max_queue=5, max_read_queue=7, timeout_s=9.0)
    assert load({}, {"MILLPOND_MAX_QUEUE": "9"}, home).max_queue == 9


def test_what_is_neither_is_refused(home: Path) -> None:
    wrong: Any = [("max_queue", 5)]
    assert str(refusal(wrong, start=home)) == "settings are a Settings object or a mapping, not list"


def test_sources_that_contradict_each_other_are_all_named(home: Path) -> None:
    (home / "millpond.toml").write_text("max_connections = 3\n")
    error = refusal({"timeout_s": 5}, {"MILLPOND_MIN_CONNECTIONS": "10"}, home)
    assert str(error) == (
        "millpond.toml, MILLPOND_MIN_CONNECTIONS, the mapping given: min_connections=10 is more than max_connections=3"
    )


def test_a_wrong_mapping_is_told_as_such(home: Path) -> None:
    (home / "millpond.toml").write_text("max_connections = 3\n")
    assert str(refusal({"max_size": 5}, start=home)).startswith("the mapping given: unknown setting max_size;")
