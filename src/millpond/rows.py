"""Rows: tuples that also answer by column name."""

from __future__ import annotations

import collections
import difflib
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, overload

__all__ = ["Row", "row_type"]

_item = tuple.__getitem__


class Row(tuple[Any, ...]):
    """One row: `row[0]`, `row["body"]`, `row.body`. Equals, hashes, unpacks and matches as a tuple.

    A column whose name is also a method here (`count`, `index`, `keys`...) or no identifier (`count(*)`)
    only by `row["count"]`. Of columns with the same name the first is meant. Each set of columns has a
    class of its own, so that making a row costs little more than making a tuple.
    """

    __slots__ = ()
    _names: tuple[str, ...] = ()
    _index: dict[str, int] = {}  # noqa: RUF012  # set once per class, by row_type

    def keys(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return self._names

    def values(self) -> tuple[Any, ...]:
        """The values, in order, as a plain tuple."""
        return tuple(self)

    def items(self) -> tuple[tuple[str, Any], ...]:
        """Pairs of name and value, in order; columns with the same name are all there."""
        return tuple(zip(self._names, self, strict=False))

    def asdict(self) -> dict[str, Any]:
        """A new dict by column name; of columns with the same name the first counts."""
        return {name: self[i] for name, i in self._index.items()}

    @overload
    def __getitem__(self, key: SupportsIndex | str, /) -> Any: ...
    @overload
    def __getitem__(self, key: slice, /) -> tuple[Any, ...]: ...
    def __getitem__(self, key: SupportsIndex | slice | str, /) -> Any:
        if key.__class__ is int:  # isinstance costs 20 ns more, of 130
            return _item(self, key)
        if isinstance(key, str):
            try:
                return _item(self, self._index[key])
            except KeyError:
                raise KeyError(_unknown(key, self._names)) from None
        return _item(self, key)

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

# What a namedtuple's fields are. property(itemgetter(i)) would go through Row.__getitem__: 197 ns against 33 (tried).
_attribute: Any = type(vars(collections.namedtuple("_Pattern", "field"))["field"])


@lru_cache(maxsize=1_000)
def row_type(names: tuple[str, ...]) -> type[Row]:
    """The class for rows with these columns. Making a row is `cls(values)`: about 100 ns for 4 columns."""
    index: dict[str, int] = {}
    for i, name in enumerate(names):
        index.setdefault(name, i)
    space: dict[str, Any] = {"__slots__": (), "_names": names, "_index": index, "__module__": __name__}
    for name, i in index.items():
        # A file may be hostile: a column `__del__` or `__bool__` must not become the class's behaviour.
        if name.isidentifier() and name not in _TAKEN and not name.startswith("__"):
            space[name] = _attribute(i, f"column {i}")
    return type("Row", (Row,), space)


def _rebuild(names: tuple[str, ...], values: tuple[Any, ...]) -> Row:
    return row_type(names)(values)


NAMED = 20
"""An error lists at most so many columns."""


def _unknown(name: str, names: tuple[str, ...]) -> str:
    if name in names:
        return f"column {name!r} only by row[{name!r}]"
    near = None if name.startswith("__") else _nearest(name, names)
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return (
        f"no column {name!r}" + (f"; nearest: {near}" if near else "") + f"; columns: {', '.join(names[:NAMED])}{more}"
    )


def _nearest(name: str, names: tuple[str, ...]) -> str | None:
    """The name that was probably meant; SQLite does not care about case, Python does."""
    folded = {known.casefold(): known for known in reversed(names)}
    found = difflib.get_close_matches(name.casefold(), folded, 1)
    return folded[found[0]] if found else None
