"""Parameters: what may be given, and how values that SQLite does not know are stored."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import pathlib
import types
import uuid
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from millpond.errors import ParameterError
from millpond.parameters import Adapters, Converters, check
from millpond.rows import row_type

SECRET = "hunter2"
AWARE = dt.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC)
NAIVE = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001  # a naive one is what is tested


def refusal(params: object, sql: str | None = None) -> ParameterError:
    with pytest.raises(ParameterError) as error:
        check(params, sql)
    assert SECRET not in str(error.value) + "".join(error.value.__notes__)
    assert len(str(error.value)) <= 160
    return error.value


@pytest.mark.parametrize(
    "params",
    [
        None,
        (),
        [1],
        {"a": 1},
        range(3),
        collections.deque([1]),
        collections.UserList([1]),
        collections.ChainMap({"a": 1}),
        types.MappingProxyType({"a": 1}),
        row_type(("a",))((1,)),
        array.array("i", [1]),
    ],
    ids=lambda params: type(params).__name__,
)
def test_sequences_and_mappings_are_taken_as_they_are(params: object) -> None:
    assert check(params) is params


@pytest.mark.parametrize("text", [SECRET, SECRET.encode(), bytearray(b"hunter2"), memoryview(b"hunter2")])
def test_a_bare_text_is_refused_with_the_line_to_write(text: Any) -> None:
    error = refusal(text, "SELECT * FROM user WHERE name = ?")
    kind = type(text).__name__
    assert str(error) == f"a {kind} was passed where a sequence of parameters is wanted"
    assert error.detail == f"SELECT * FROM user WHERE name = ?; parameters: {kind} of length 7"
    assert error.hint == 'Write (name,) with the comma, or [name], or {"name": name} with :name.'
    assert error.sql == "SELECT * FROM user WHERE name = ?"
    assert error.code == "parameters"


@pytest.mark.parametrize("params", [{SECRET}, frozenset({SECRET}), {SECRET: 1}.keys()])
def test_a_set_is_refused_for_it_has_no_order(params: object) -> None:
    error = refusal(params)
    assert "no first and no second" in str(error)
    assert "a tuple or a list" in str(error.hint)


@pytest.mark.parametrize("params", [iter([SECRET]), (part for part in [SECRET]), map(str, [SECRET])])
def test_an_iterator_is_refused_for_it_can_be_read_once(params: Iterator[str]) -> None:
    error = refusal(params)
    assert "read only once" in str(error)
    assert "tuple(...)" in str(error.hint)
    assert list(params) == [SECRET], "and it was not read"


def test_other_iterables_are_refused_with_the_way_to_write_it() -> None:
    error = refusal({"a": SECRET}.values())
    assert str(error) == "parameters are a sequence or a mapping, not dict_values"
    assert "tuple(...)" in str(error.hint)


@pytest.mark.parametrize("params", [5, 1.5, True, AWARE, object(), len])
def test_a_single_value_is_refused_with_the_comma(params: object) -> None:
    error = refusal(params)
    assert str(error) == f"parameters are a sequence or a mapping, not {type(params).__name__}"
    assert "(value,)" in str(error.hint)


def test_literals_in_the_statement_are_not_shown() -> None:
    refusal("a", f"SELECT * FROM user WHERE password = '{SECRET}'")


class Colour(enum.Enum):
    RED = "red"
    PRICE = decimal.Decimal("1.5")
    NOTHING = None


class Scalar:
    """As numpy's: not one of Python's numbers, but holding one."""

    shape = ()

    def __init__(self, held: object) -> None:
        self.held = held

    def item(self) -> object:
        return self.held


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (AWARE, "2026-01-02T03:04:05.000006+00:00"),
        (AWARE.replace(microsecond=0), "2026-01-02T03:04:05+00:00"),
        (AWARE.astimezone(dt.timezone(dt.timedelta(hours=8))), "2026-01-02T03:04:05.000006+00:00"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(3, 4, 5), "03:04:05"),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Colour.RED, "red"),
        (Colour.PRICE, "1.5"),
        (Colour.NOTHING, None),
        (pathlib.PurePosixPath("/a/b"), "/a/b"),
        ({"a": [1, None, "ü"]}, '{"a":[1,null,"ü"]}'),
        ([], "[]"),
        ((1, 2), "[1,2]"),
        (collections.OrderedDict(a=1), '{"a":1}'),
        ([AWARE, uuid.UUID(int=1), Colour.RED, {1: dt.date(2026, 1, 2)}],
         '["2026-01-02T03:04:05.000006+00:00","00000000-0000-0000-0000-000000000001","red",{"1":"2026-01-02"}]'),
        (Scalar(5), 5),
        (Scalar(AWARE), "2026-01-02T03:04:05.000006+00:00"),
        ([Scalar(1.5)], "[1.5]"),
    ],
)  # fmt: skip
def test_values_of_other_types_and_how_they_are_stored(value: object, stored: object) -> None:
    assert Adapters({}).adapt(value, 1) == stored


def test_a_naive_datetime_is_stored_as_it_is_with_one_warning() -> None:
    adapters = Adapters({})
    with pytest.warns(UserWarning, match="parameter 3 is a datetime without a time zone") as seen:
        assert adapters.adapt(NAIVE, 3) == "2026-01-02T03:04:05"
    assert len(seen) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert adapters.adapt(NAIVE, 3) == "2026-01-02T03:04:05"
    with pytest.warns(UserWarning, match="parameter 1"):
        Adapters({}).adapt(NAIVE, 1)


def test_a_naive_datetime_is_refused_in_strict_mode() -> None:
    adapters = Adapters({}, strict_datetimes=True)
    with pytest.raises(ParameterError, match="parameter 2 is a datetime without a time zone") as error:
        adapters.adapt(NAIVE, 2)
    assert "datetime.now(UTC)" in str(error.value.hint)
    assert adapters.adapt(AWARE, 2) == "2026-01-02T03:04:05.000006+00:00"
    with pytest.raises(ParameterError):
        adapters.adapt({"sent": NAIVE}, 2)


def test_a_time_zone_that_says_nothing_is_naive() -> None:
    class Unknown(dt.tzinfo):
        def utcoffset(self, _: dt.datetime | None) -> None:
            return None

        dst = utcoffset

        def tzname(self, _: dt.datetime | None) -> str:
            return "unknown"

    with pytest.raises(ParameterError, match="without a time zone"):
        Adapters({}, strict_datetimes=True).adapt(NAIVE.replace(tzinfo=Unknown()), 1)


def test_a_datetime_that_leaves_the_calendar_in_utc_is_refused() -> None:
    early = dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=14)))
    with pytest.raises(ParameterError, match="parameter 1 is a datetime that has no date in UTC"):
        Adapters({}).adapt(early, 1)


class Money:
    pass


class Euro(Money):
    pass


class Moment(dt.datetime):
    pass


def test_the_users_adapter_comes_first_and_the_nearest_class_before_all() -> None:
    adapters = Adapters({Money: lambda _: "money", dt.datetime: lambda value: int(value.timestamp()), dt.date: str})
    assert adapters.adapt(Euro(), 1) == "money"
    assert adapters.adapt(AWARE, 1) == 1_767_323_045
    assert adapters.adapt(Moment(2026, 1, 2, tzinfo=dt.UTC), 1) == 1_767_312_000
    assert adapters.adapt(dt.date(2026, 1, 2), 1) == "2026-01-02"
    assert Adapters({dt.date: lambda _: "a date"}).adapt(AWARE, 1) == "2026-01-02T03:04:05.000006+00:00"
    assert Adapters({Moment: lambda _: "a moment"}).adapt(Moment(2026, 1, 2, tzinfo=dt.UTC), 1) == "a moment"


def test_subclasses_are_stored_as_their_nearest_class() -> None:
    assert Adapters({}).adapt(Moment(2026, 1, 2, tzinfo=dt.UTC), 1) == "2026-01-02T00:00:00+00:00"


def test_what_an_adapter_answers_is_adapted_again() -> None:
    assert Adapters({Money: lambda _: decimal.Decimal("1.5")}).adapt(Money(), 1) == "1.5"
    assert Adapters({Money: lambda _: bytearray(b"x")}).adapt(Money(), 1) == b"x"
    assert Adapters({Money: lambda _: memoryview(b"x")}).adapt(Money(), 1) == b"x"
    assert Adapters({Money: lambda _: None}).adapt(Money(), 1) is None


def test_an_adapter_may_replace_the_json_of_containers() -> None:
    assert Adapters({dict: ",".join}).adapt({"a": 1, "b": 2}, 1) == "a,b"


def test_adapters_apply_inside_of_json() -> None:
    assert Adapters({Money: lambda _: 5}).adapt({"price": [Euro()]}, 1) == '{"price":[5]}'


@pytest.mark.parametrize("answer", [lambda value: value, lambda _: Money(), lambda _: Euro()])
def test_an_adapter_that_goes_round_in_a_circle_is_refused(answer: Any) -> None:
    with pytest.raises(ParameterError, match=r"parameter 1 has type .*\.(Money|Euro), which SQLite cannot"):
        Adapters({Money: answer}).adapt(Money(), 1)


def test_an_adapter_that_goes_round_through_json_is_refused() -> None:
    with pytest.raises(ParameterError, match="parameter 1 of type list cannot be written as JSON"):
        Adapters({Money: lambda value: [value]}).adapt(Money(), 1)


def test_an_adapter_that_raises_is_named_and_its_error_is_the_cause() -> None:
    def fail(_: object) -> str:
        raise ValueError(SECRET)

    with pytest.raises(ParameterError) as error:
        Adapters({Money: fail}).adapt(Money(), 4)
    assert str(error.value) == f"parameter 4: the adapter of {__name__}.Money raised ValueError"
    assert isinstance(error.value.__cause__, ValueError)


def test_a_type_that_cannot_be_stored_is_named_with_what_to_do() -> None:
    with pytest.raises(ParameterError) as error:
        Adapters({}).adapt(Money(), 2)
    assert str(error.value) == f"parameter 2 has type {__name__}.Money, which SQLite cannot store"
    assert error.value.hint == f"Give Settings(adapters={{{__name__}.Money: ...}}), or pass text, a number or bytes."
    assert error.value.detail is None


def test_what_is_inside_or_came_of_another_type_is_told() -> None:
    with pytest.raises(ParameterError, match=r"has type set, which") as error:
        Adapters({}).adapt({"a": {SECRET}}, 1)
    assert error.value.detail == "it came out of a parameter of type dict"
    with pytest.raises(ParameterError, match=r"has type complex, which") as error:
        Adapters({Money: lambda _: 1j}).adapt(Money(), 1)
    assert error.value.detail == f"it came out of a parameter of type {__name__}.Money"


def test_the_hint_knows_what_a_type_can_do() -> None:
    class Dated:
        def isoformat(self) -> str:
            return SECRET

    for value, hint in ((Dated(), ".isoformat()"), (dt.timedelta(1), ".total_seconds()"), ({1}, "a list")):
        with pytest.raises(ParameterError) as error:
            Adapters({}).adapt(value, 1)
        assert str(error.value.hint).endswith(f"or pass {hint}.")


@pytest.mark.parametrize("held", [2**63, -(2**63) - 1])
def test_a_whole_number_beyond_64_bits_is_refused(held: int) -> None:
    with pytest.raises(ParameterError, match=r"parameter 3 of type .*Scalar is a whole number beyond 64 bits") as error:
        Adapters({}).adapt(Scalar(held), 3)
    assert str(held) not in str(error.value)
    assert Adapters({}).adapt(Scalar(2**63 - 1), 1) == 2**63 - 1
    assert Adapters({}).adapt([held], 1) == f"[{held}]", "JSON has no such bound"


def test_an_array_is_no_scalar() -> None:
    several = Scalar(5)
    several.shape = (1,)  # type: ignore[assignment]  # an array of numpy's has an item() as well
    with pytest.raises(ParameterError, match="Scalar, which SQLite cannot store"):
        Adapters({}).adapt(several, 1)


def circle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize("value", [{(1, 2): SECRET}, [float("nan"), SECRET], {"a": float("inf")}, circle()])
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(ParameterError) as error:
        Adapters({}).adapt(value, 1)
    assert str(error.value) == f"parameter 1 of type {type(value).__name__} cannot be written as JSON text"
    assert SECRET not in "".join(error.value.__notes__)
    assert error.value.__suppress_context__


@pytest.mark.parametrize("inner", [b"x", bytearray(b"x"), memoryview(b"x"), Money()])
def test_bytes_inside_of_json_are_refused(inner: object) -> None:
    with pytest.raises(ParameterError, match="parameter 1 of type dict holds bytes, which JSON cannot"):
        Adapters({Money: lambda _: b"x"}).adapt({"a": inner}, 1)


def test_a_long_name_of_a_type_does_not_break_the_line() -> None:
    with pytest.raises(ParameterError) as error:
        Adapters({}).adapt(type("A" * 300, (), {})(), 1)
    assert len(str(error.value)) <= 160


def test_dataclasses_are_not_guessed_at() -> None:
    @dataclasses.dataclass
    class Point:
        x: int

    with pytest.raises(ParameterError, match="Point, which SQLite cannot store"):
        Adapters({}).adapt(Point(1), 1)


def test_converters_are_found_by_declared_type() -> None:
    converters = Converters({"timestamp": float, "unsigned big int": int, "JSON": str})
    assert converters
    assert converters.for_columns(("TIMESTAMP", None, "TEXT", "json")) == (float, None, None, str)
    assert converters.for_columns(("timestamp(3)", "TIMESTAMP WITH TIME ZONE", "UNSIGNED  BIG INT")) == (
        float,
        float,
        int,
    )


def test_without_a_matching_column_there_is_nothing_to_convert() -> None:
    assert not Converters({})
    assert Converters({}).for_columns(("TEXT",)) is None
    assert Converters({"JSON": str}).for_columns(("TEXT", None, "", "(3)")) is None
    assert Converters({"JSON": str}).for_columns(()) is None


def test_a_converter_that_is_falsy_is_a_converter() -> None:
    class Empty(dict[Any, Any]):
        def __call__(self, value: Any) -> Any:
            return value

    convert = Empty()
    assert Converters({"JSON": convert}).for_columns(("JSON",)) == (convert,)
