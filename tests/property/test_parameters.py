"""Laws of parameters: what is stored is read back as it was, sorts as it did, and is never shown."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import pathlib
import traceback
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from millpond.errors import DataError, ParameterError
from millpond.into import maker
from millpond.parameters import Adapters, check


class Colour(enum.Enum):
    RED = "red"
    GREEN = 2


# Fixed ones: the hour that a named zone has twice equals nothing in another zone.
ZONES = st.builds(dt.timezone, st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)))
MOMENTS = st.datetimes(dt.datetime(1, 1, 3), dt.datetime(9999, 12, 29), timezones=ZONES)  # noqa: DTZ001  # bounds
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
CONTAINERS = st.lists(JSON, max_size=4) | st.dictionaries(st.text(), JSON, max_size=4)


def there_and_back(value: Any) -> Any:
    into: Any = type(value)
    return maker(into, ("n",))((Adapters({}).adapt(value, 1),))


@given(
    MOMENTS
    | st.dates()
    | st.times()
    | st.uuids()
    | st.decimals(allow_nan=False)
    | st.sampled_from(Colour)
)  # fmt: skip
def test_what_is_stored_is_read_back_as_it_was(value: Any) -> None:
    assert there_and_back(value) == value


@given(CONTAINERS)
def test_containers_are_read_back_from_their_json(value: Any) -> None:
    stored = Adapters({}).adapt(value, 1)
    assert isinstance(stored, str)
    assert json.loads(stored) == value
    holder = dataclasses.make_dataclass("Holder", [("field", type(value))])
    assert maker(holder, ("field",))((stored,)) == holder(value)


@given(MOMENTS, MOMENTS)
@example(dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=dt.UTC))
def test_moments_sort_as_text_as_they_do_in_time(one: dt.datetime, other: dt.datetime) -> None:
    one, other = one.astimezone(dt.UTC), other.astimezone(dt.UTC)  # of one zone Python compares the clocks' faces
    stored = [Adapters({}).adapt(moment, 1) for moment in (one, other)]
    assert all(isinstance(text, str) and text.endswith("+00:00") for text in stored)
    assert (str(stored[0]) < str(stored[1])) == (one < other)
    assert (stored[0] == stored[1]) == (one == other)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_paths_are_stored_as_text(text: str) -> None:
    path = pathlib.PurePosixPath(text)
    assert Adapters({}).adapt(path, 1) == str(path)


SECRET = "hunter2"
SECRETS = st.text().map(lambda text: f"{text[:5]}{SECRET}{text[5:]}")


@given(SECRETS, st.sampled_from([str, str.encode, lambda text: {text}, lambda text: iter([text])]), st.integers(1, 99))
def test_a_refused_value_is_never_shown(secret: str, wrap: Callable[[str], Any], number: int) -> None:
    adapters = Adapters({})
    calls: list[Callable[[], object]] = [
        lambda: check(wrap(secret), f"SELECT '{SECRET}'"),
        lambda: adapters.adapt({secret}, number),
        lambda: adapters.adapt({secret: [{secret}]}, number),
        lambda: adapters.adapt({secret: secret.encode("utf-8", "replace")}, number),
        lambda: adapters.adapt({(secret, secret): 1}, number),
        lambda: maker(Colour, ("n",))((secret,)),
        lambda: maker(Colour, ("n",))((secret.encode("utf-8", "replace"),)),
    ]
    for call in calls:
        with pytest.raises((ParameterError, DataError)) as error:
            call()
        assert SECRET not in "".join(traceback.format_exception_only(error.value))
        assert "\n" not in str(error.value)
        assert len(str(error.value)) <= 160
        assert error.value.__cause__ is None
        assert error.value.__context__ is None or error.value.__suppress_context__


@given(st.integers())
def test_whole_numbers_pass_within_64_bits_and_not_beyond(number: int) -> None:
    class Held:
        shape = ()

        def item(self) -> int:
            return number

    if -(2**63) <= number < 2**63:
        assert Adapters({}).adapt(Held(), 1) == number
    else:
        with pytest.raises(ParameterError, match="beyond 64 bits"):
            Adapters({}).adapt(Held(), 1)


SCALARS = [dt.datetime, dt.date, dt.time, uuid.UUID, decimal.Decimal, bool, int, float, str, bytes, Colour]


@given(st.sampled_from(SCALARS), st.none() | st.integers() | st.floats() | st.text() | st.binary())
def test_whatever_a_column_holds_it_is_converted_or_a_data_error(into: Any, stored: Any) -> None:
    try:
        found = maker(into, ("n",))((stored,))
    except DataError:
        return
    assert found is None if stored is None else isinstance(found, into)
