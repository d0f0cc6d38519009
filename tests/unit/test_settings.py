"""Settings: wrong names and values are refused at once, with what was meant."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from typing import Any

import pytest

from millpond.errors import SettingsError
from millpond.settings import Settings

FIELDS = {f.name: f for f in dataclasses.fields(Settings)}
NUMBERS = {name: f for name, f in FIELDS.items() if "range" in f.metadata}


def refusal(**values: Any) -> str:
    with pytest.raises(SettingsError) as error:
        Settings(**values)
    assert len(str(error.value)) <= 160
    assert isinstance(error.value, ValueError)
    return str(error.value)


def test_the_defaults_are_those_of_the_specification() -> None:
    settings = Settings()
    assert (settings.min_connections, settings.max_connections) == (2, 20)
    assert settings.durability == "full"
    assert settings.mmap_bytes == 0
    assert settings.foreign_keys
    assert not settings.trusted_schema


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_has_its_unit_and_its_reason_and_they_are_in_the_help(name: str) -> None:
    f = FIELDS[name]
    help_text = inspect.getdoc(Settings) or ""
    assert isinstance(f.metadata["unit"], str)
    assert f.metadata["reason"] in help_text
    assert f"\n{name} = " in help_text
    if "range" in f.metadata:
        assert f.metadata["unit"], "a number has a unit"


@pytest.mark.parametrize("name", NUMBERS)
def test_each_number_takes_its_bounds_and_nothing_beyond(name: str) -> None:
    least, most = NUMBERS[name].metadata["range"]
    others = {"max_connections": 20} if name == "min_connections" else {"min_connections": 1}
    for value in (least, most):
        assert getattr(Settings(**{**others, name: value}), name) == value
    step = 1 if NUMBERS[name].type == "int" else 1e-6
    for value in (least - step, most + most):
        assert refusal(**{name: value}).startswith(f"{name}={value!r}: must be a")


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["20", True, None, [20], float("nan"), float("inf"), 20j])
def test_no_number_takes_something_else(name: str, value: object) -> None:
    assert refusal(**{name: value}).startswith(f"{name}={value!r}: must be a")


@pytest.mark.parametrize("name", [name for name, f in NUMBERS.items() if f.type == "int"])
def test_whole_numbers_take_no_fractions(name: str) -> None:
    assert "must be a whole number from" in refusal(**{name: 20.0})


def test_a_refusal_names_the_field_the_value_and_the_range() -> None:
    assert refusal(max_connections=200) == "max_connections=200: must be a whole number from 2 to 20 (connections)"
    assert refusal(timeout_s=0) == "timeout_s=0: must be a number from 0.001 to 86,400 (seconds)"
    assert refusal(durability="none") == "durability='none': must be one of 'full', 'normal'"
    assert refusal(inline=True) == "inline=True: must be one of 'auto', 'off'"
    assert refusal(inline=["auto"]) == "inline=['auto']: must be one of 'auto', 'off'"
    assert refusal(foreign_keys=1) == "foreign_keys=1: must be True or False"
    assert refusal(min_connections=5, max_connections=4) == "min_connections=5 is more than max_connections=4"
    assert refusal(adapters=[str]) == "adapters: must be a mapping, not list"
    assert refusal(page_cache_kib="1" * 500).startswith("page_cache_kib='1111")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_size", "max_connections (2-20)"),
        ("min_size", "min_connections (1-20)"),
        ("pool_size", "max_connections (2-20)"),
        ("max_overflow", "max_connections (2-20)"),
        ("busy_timeout", "timeout_s (0.001-86,400 seconds)"),
        ("timeout", "timeout_s (0.001-86,400 seconds)"),
        ("command_timeout", "timeout_s (0.001-86,400 seconds)"),
        ("acquisition_timeout", "timeout_s (0.001-86,400 seconds)"),
        ("max_waiting", "max_queue (1-10,000,000 calls)"),
        ("synchronous", "durability ('full' or 'normal')"),
        ("cache_size", "page_cache_kib (16-16,777,216 KiB)"),
        ("idle_timeout", "idle_close_s (0.01-86,400 seconds)"),
        ("cached_statements", "statement_cache (0-16,384 statements)"),
        ("detect_types", "converters"),
        ("max_connection", "max_connections (2-20)"),
        ("MAX_CONNECTIONS", "max_connections (2-20)"),
        ("foreign_key", "foreign_keys"),
    ],
)
def test_other_libraries_words_and_typing_errors_are_understood(name: str, meant: str) -> None:
    expected = f"unknown setting {name}; did you mean {meant}?"
    assert refusal(**{name: 5}) == expected
    with pytest.raises(SettingsError) as error:
        Settings.of({name: 5})
    assert str(error.value) == expected
    with pytest.raises(SettingsError) as error:
        Settings().with_(**{name: 5})
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("journal_mode", "WAL"),
        ("isolation_level", "db.transaction()"),
        ("check_same_thread", "threads and tasks"),
        ("autocommit", "committed before it returns"),
        ("pool_recycle", "do not wear out"),
        ("row_factory", "Database(path, row_factory=...)"),
    ],
)
def test_what_needs_no_setting_is_explained(name: str, said: str) -> None:
    text = refusal(**{name: None})
    assert text.startswith(f"unknown setting {name}: not needed, ")
    assert said in text


def test_a_name_like_no_other_gets_the_list() -> None:
    with pytest.raises(SettingsError, match="unknown setting zzzzzz") as error:
        Settings.of({"zzzzzz": 1})
    assert "did you mean" not in str(error.value)
    assert all(name in str(error.value.hint) for name in FIELDS)


def test_every_word_of_another_library_leads_to_a_field() -> None:
    from millpond import settings

    assert set(settings._ALIASES.values()) <= set(FIELDS)
    assert not (set(settings._ALIASES) | set(settings._NEEDLESS)) & set(FIELDS)


def test_where_the_values_stand_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^bot\.toml: unknown setting max_size; did you mean"):
        Settings.of({"max_size": 5}, source="bot.toml")
    with pytest.raises(SettingsError, match=r"^bot\.toml: max_queue=0: must be") as error:
        Settings.of({"max_queue": 0}, source="bot.toml")
    assert error.value.__suppress_context__
    assert Settings.of({"max_queue": 5}, source="bot.toml") == Settings(max_queue=5)


def test_adapters_are_functions_by_type_that_sqlite_does_not_take() -> None:
    assert refusal(adapters={"complex": str}) == "adapters: 'complex' is not a type"
    assert refusal(adapters={complex: 5}) == "adapters[complex]: must be a function, not int"
    for kind in (int, str, float, bytes, bool, type(None)):
        assert "SQLite takes this type by itself" in refusal(adapters={kind: str})
    assert Settings(adapters={complex: str}).adapters == {complex: str}


def test_converters_are_functions_by_declared_type() -> None:
    assert refusal(converters={str: str}) == "converters: str is not a column's declared type as text"
    assert refusal(converters={"JSON": "json"}) == "converters['JSON']: must be a function, not str"
    assert Settings(converters={"JSON": str}).converters == {"JSON": str}


def test_what_the_caller_does_to_the_mapping_later_changes_nothing() -> None:
    adapters: dict[type, Any] = {complex: str}
    settings = Settings(adapters=adapters)
    adapters.clear()
    assert settings.adapters == {complex: str}


def test_settings_are_frozen_and_have_no_other_attributes() -> None:
    settings = Settings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.max_queue = 5  # type: ignore[misc]  # wrong on purpose
    assert not hasattr(settings, "__dict__")


def test_settings_are_given_by_name() -> None:
    with pytest.raises(TypeError):
        Settings(2, 20)  # type: ignore[call-arg]  # wrong on purpose


def test_the_signature_shows_the_fields() -> None:
    assert list(inspect.signature(Settings).parameters) == list(FIELDS)


def test_only_what_differs_from_the_defaults_is_shown() -> None:
    assert repr(Settings()) == "Settings()"
    assert repr(Settings(max_queue=5, inline="off")) == "Settings(max_queue=5, inline='off')"
    assert repr(Settings(adapters={complex: str})) == "Settings(adapters={<class 'complex'>: <class 'str'>})"


def test_copies_with_changes_are_checked_too() -> None:
    settings = Settings(max_queue=5)
    assert settings.with_(inline="off") == Settings(max_queue=5, inline="off")
    assert dataclasses.replace(settings, max_queue=6) == Settings(max_queue=6)
    for change in (settings.with_, lambda **values: dataclasses.replace(settings, **values)):
        with pytest.raises(SettingsError, match="max_queue=0"):
            change(max_queue=0)


def test_settings_pickle_and_copy() -> None:
    settings = Settings(max_queue=5, converters={"JSON": str})
    for again in (pickle.loads(pickle.dumps(settings)), copy.copy(settings), copy.deepcopy(settings)):
        assert again == settings
        assert again != Settings()
