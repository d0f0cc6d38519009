"""A column that has no name of its own is called by its number: its expression may hold data."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from millpond.errors import DataError
from millpond.into import maker


@dataclass
class User:
    name: str


def texts(error: DataError) -> str:
    return " ".join([str(error), *error.__notes__])


def test_a_value_that_does_not_fit() -> None:
    with pytest.raises(DataError, match="column number 1 of type TEXT does not fit into=int") as caught:
        maker(int, ("'secretval'",))(("secretval",))
    assert "secretval" not in texts(caught.value)


def test_columns_that_are_too_many_or_unknown() -> None:
    with pytest.raises(DataError) as caught:
        maker(int, ("'secretval'", "id"))
    assert str(caught.value).endswith("number 1, id")
    with pytest.raises(DataError) as other:
        maker(User, ("name", "'secretval'"))
    assert "User has no field for column number 2" in str(other.value)
    assert "secretval" not in texts(caught.value) + texts(other.value)


def test_a_named_column_is_called_by_its_name() -> None:
    with pytest.raises(DataError, match="column 'age' of type TEXT does not fit into=int"):
        maker(int, ("age",))(("x",))
