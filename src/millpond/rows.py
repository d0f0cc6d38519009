"""Rows: tuples that also answer by column name."""

from __future__ import annotations

import difflib
import keyword
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, overload

__all__ = ["Row", "row_type"]


class Row(tuple[Any, ...]):
    """One row: `row[0]`, `row["body"]`, `row.body`. Equals, hashes, unpacks and matches as a tuple.

    A column whose name is also a method here (`count`, `index`, `keys`...) only by `row["count"]`. Of
    columns with the same name the first is meant. Each set of columns has a class of its own, so that
    making a row costs what making a tuple costs.
    """

    __slots__ = ()
    _names: tuple[str, ...] = ()
    _index: dict[str, int] = {}  # noqa: RUF012  # set once per class, by row_type

    def keys(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return self._names

    def values(self) -> tuple[Any, ...]:
        return tuple(self)

    def items(self) -> tuple[tuple[str, Any], ...]:
        return tuple(zip(self._names, self, strict=False))

    def asdict(self) -> dict[str, Any]:
        """A new dict by column name; of columns with the same name the first counts."""
        return {name: self[i] for name, i in self._index.items()}

    @overload
    def __getitem__(self, key: SupportsIndex | str, /) -> Any: ...
    @overload
    def __getitem__(self, key: slice, /) -> tuple[Any, ...]: ...
    def __getitem__(self, key: SupportsIndex | slice | str, /) -> Any:
        if key.__class__ is str:
            try:
                return tuple.__getitem__(self, self._index[key])  # type: ignore[index]  # a str, as just tested
            except KeyError:
                raise KeyError(_unknown(str(key), self._names)) from None
        return tuple.__getitem__(self, key)  # type: ignore[index]  # no str any more

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
    else:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(_unknown(name, self._names))

    def __repr__(self) -> str:
        return "Row(" + ", ".join(f"{name}={value!r}" for name, value in self.items()) + ")"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self._names, tuple(self))


_TAKEN = frozenset(dir(Row))


@lru_cache(maxsize=1_000)
def row_type(names: tuple[str, ...]) -> type[Row]:
    """The class for rows with these columns; making a row is `cls(values)`."""
    index: dict[str, int] = {}
    for i, name in enumerate(names):
        index.setdefault(name, i)
    space: dict[str, Any] = {"__slots__": (), "_names": names, "_index": index, "__module__": __name__}
    for name, i in index.items():
        if name not in _TAKEN and name.isidentifier() and not keyword.iskeyword(name):
            space[name] = property(itemgetter(i))
    return type("Row", (Row,), space)


def _rebuild(names: tuple[str, ...], values: tuple[Any, ...]) -> Row:
    return row_type(names)(values)


def _unknown(name: str, names: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    nearest = f"; nearest: {near[0]}" if near else ""
    return f"no column {name!r}{nearest}; columns: {', '.join(names)}"
