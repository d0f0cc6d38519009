"""Rows: tuples that also answer by column name."""

from __future__ import annotations

import copy
import enum
import pickle

import pytest

from millpond.rows import Row, row_type


def row_of(**columns: object) -> Row:
    return row_type(tuple(columns))(tuple(columns.values()))


def test_a_row_answers_by_position_name_and_attribute() -> None:
    row = row_of(id=1, body="hi")
    assert (row[0], row["body"], row.body, row[-1]) == (1, "hi", "hi", "hi")
    assert row[:1] == (1,)
    assert type(row[:1]) is tuple


def test_a_row_is_a_tuple_in_all_that_tuples_do() -> None:
    row = row_of(id=1, body="hi")
    number, text = row
    assert (number, text) == (1, "hi")
    assert row == (1, "hi")
    assert (1, "hi") == row  # noqa: SIM300  # the tuple's own == is asked first
    assert hash(row) == hash((1, "hi"))
    assert {row: "found"}[(1, "hi")] == "found"
    assert "hi" in row
    assert len(row) == 2
    assert row < (2,)
    match row:
        case (1, body):
            assert body == "hi"
        case _:
            pytest.fail("a row matches as a tuple")


def test_rows_with_other_names_but_the_same_values_are_equal() -> None:
    assert row_of(a=1) == row_of(b=1)


def test_names_values_items_and_dict_are_in_the_columns_order() -> None:
    row = row_of(b=1, a=2)
    assert row.keys() == ("b", "a")
    assert row.values() == (1, 2)
    assert row.items() == (("b", 1), ("a", 2))
    assert list(row.asdict()) == ["b", "a"]
    assert dict(row) == row.asdict() == {"b": 1, "a": 2}


def test_a_row_shows_its_names_and_values() -> None:
    assert repr(row_of(id=1, name="a")) == "Row(id=1, name='a')"
    assert repr(row_of(**{"count(*)": 3})) == "Row(count(*)=3)"
    assert type(row_of(id=1)).__name__ == "Row"


@pytest.mark.parametrize("name", ["count", "index", "keys", "values", "items", "asdict", "_names", "_index"])
def test_a_column_named_like_a_method_only_by_brackets(name: str) -> None:
    row = row_of(**{name: "the column"})
    assert row[name] == "the column"
    assert getattr(row, name) is not row[name]
    assert row.keys() == (name,)
    assert row.asdict() == {name: "the column"}


@pytest.mark.parametrize("name", ["count(*)", "a b", "1", "", "naïve-ish"])
def test_a_column_that_is_no_identifier_only_by_brackets(name: str) -> None:
    row = row_of(**{name: 5})
    assert row[name] == 5
    with pytest.raises(AttributeError, match="only by row"):
        getattr(row, name)


def test_a_keyword_is_an_attribute_too_for_those_who_can_write_it() -> None:
    row = row_of(**{"class": 5})
    assert (row["class"], getattr(row, "class")) == (5, 5)


@pytest.mark.parametrize(
    "name", ["__del__", "__bool__", "__qualname__", "__class__", "__slots__", "__doc__", "__iter__", "__set_name__"]
)
def test_a_hostile_column_name_does_not_become_behaviour(name: str) -> None:
    row = row_of(**{name: "hostile"})
    assert row[name] == "hostile"
    assert row == ("hostile",)
    assert bool(row)
    assert list(row) == ["hostile"]
    assert type(row).__qualname__ == "Row"


def test_of_columns_with_the_same_name_the_first_is_meant() -> None:
    row = row_type(("1", "1"))((7, 8))
    assert row["1"] == 7
    assert tuple(row) == (7, 8)
    assert row.items() == (("1", 7), ("1", 8))
    assert row.asdict() == {"1": 7}
    assert row_type(("id", "id"))((7, 8)).id == 7


def test_an_unknown_name_is_answered_with_the_nearest_and_all_columns() -> None:
    row = row_of(id=1, author=2, body="hi")
    with pytest.raises(KeyError) as by_key:
        row["auther"]
    with pytest.raises(AttributeError) as by_attribute:
        row.auther  # noqa: B018  # the access is what is tested
    for error in (by_key, by_attribute):
        assert "no column 'auther'; nearest: author; columns: id, author, body" in str(error.value)
    assert by_key.value.__cause__ is None
    assert by_key.value.__suppress_context__


def test_a_name_in_the_wrong_case_is_found_as_the_nearest() -> None:
    with pytest.raises(KeyError, match="nearest: ID;"):
        row_of(ID=1, i=2)["id"]


def test_a_name_like_no_other_has_no_nearest() -> None:
    with pytest.raises(KeyError) as error:
        row_of(id=1)["zzzzzz"]
    assert "nearest" not in str(error.value)


def test_an_error_about_a_wide_row_stays_readable() -> None:
    row = row_type(tuple(f"column_{i}" for i in range(2_000)))(tuple(range(2_000)))
    with pytest.raises(AttributeError, match="column_19 and 1,980 more") as error:
        row.zzz  # noqa: B018  # the access is what is tested
    assert len(str(error.value)) < 400


def test_an_index_out_of_range_and_a_wrong_kind_of_key_are_tuple_errors() -> None:
    with pytest.raises(IndexError):
        row_of(id=1)[1]
    with pytest.raises(TypeError):
        row_of(id=1)[1.0]  # type: ignore[call-overload]  # wrong on purpose


def test_true_and_an_enum_member_are_keys_as_for_tuples_and_dicts() -> None:
    class Column(enum.StrEnum):
        BODY = "body"

    row = row_of(id=1, body="hi")
    assert row[True] == "hi"
    assert row[Column.BODY] == "hi"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_rows_pickle_with_their_names(protocol: int) -> None:
    row = row_type(("id", "id", "count"))((1, 2, [3]))
    again = pickle.loads(pickle.dumps(row, protocol))
    assert again == row
    assert type(again) is type(row)
    assert again.keys() == ("id", "id", "count")


def test_rows_copy_as_tuples_do() -> None:
    row = row_of(id=1, tags=["a"])
    assert copy.copy(row) == row
    deep = copy.deepcopy(row)
    assert deep == row
    assert deep.tags is not row.tags
    assert deep.keys() == row.keys()


def test_rows_hold_nothing_but_their_values() -> None:
    row = row_of(id=1)
    assert not hasattr(row, "__dict__")
    with pytest.raises(AttributeError):
        setattr(row, "id", 2)  # noqa: B010  # as type checkers forbid `row.id = 2`


def test_the_same_columns_have_the_same_class_and_others_another() -> None:
    assert row_type(("a", "b")) is row_type(("a", "b"))
    assert row_type(("a", "b")) is not row_type(("b", "a"))
    assert issubclass(row_type(("a",)), Row)


def test_classes_are_kept_for_a_bounded_number_of_column_sets() -> None:
    most = row_type.cache_info().maxsize
    assert most == 1_000
    for i in range(most + 10):
        row_type((f"only_here_{i}",))
    assert row_type.cache_info().currsize == most


def test_a_row_without_columns_is_an_empty_tuple() -> None:
    row = row_type(())(())
    assert tuple(row) == ()
    assert repr(row) == "Row()"
    assert row.asdict() == {}
