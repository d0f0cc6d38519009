"""Laws of rows: whatever the columns are called, a row is its tuple and its names."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.rows import Row, row_type

# Names that a file may hold: any text, and those that Python takes to mean something.
NAMES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(sorted(set(dir(Row)) | {"id", "ID", "class", "__del__", "__call__", "__mro__", "_rebuild"})),
)
VALUES = st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8), st.binary(max_size=8))
ROWS = st.lists(st.tuples(NAMES, VALUES), max_size=8)


def made(columns: list[tuple[str, object]]) -> tuple[tuple[str, ...], tuple[object, ...], Row]:
    names = tuple(name for name, _ in columns)
    values = tuple(value for _, value in columns)
    return names, values, row_type(names)(values)


@given(ROWS)
def test_a_row_is_its_tuple(columns: list[tuple[str, object]]) -> None:
    names, values, row = made(columns)
    assert row == values
    assert values == row
    assert hash(row) == hash(values)
    assert tuple(row) == row.values() == values
    assert [*row] == [*values]
    assert row.keys() == names
    assert row[:] == values
    assert [row[i] for i in range(len(values))] == [*values]


@given(ROWS)
def test_a_name_means_the_first_column_that_has_it(columns: list[tuple[str, object]]) -> None:
    names, values, row = made(columns)
    for name in names:
        assert row[name] is values[names.index(name)]
        if name in vars(type(row)) and not name.startswith("_"):
            assert getattr(row, name) is row[name]
    assert row.asdict() == {name: values[names.index(name)] for name in names}


@given(ROWS)
def test_pickling_and_copying_change_nothing(columns: list[tuple[str, object]]) -> None:
    names, values, row = made(columns)
    for again in (pickle.loads(pickle.dumps(row)), copy.copy(row), copy.deepcopy(row)):
        assert again == values
        assert again.keys() == names
        assert type(again) is type(row)
        assert repr(again) == repr(row)


@given(ROWS, st.text(max_size=12))
def test_a_name_that_is_no_column_is_always_a_key_error(columns: list[tuple[str, object]], name: str) -> None:
    names, _, row = made(columns)
    if name in names:
        return
    with pytest.raises(KeyError) as error:
        row[name]
    assert repr(name) in error.value.args[0]
