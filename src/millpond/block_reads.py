"""The fetching methods of blocks: transactions and snapshots have the same."""

from __future__ import annotations

from typing import Any, Never, TypeVar, overload

from millpond.engine.sqlite.connection import ALL, ONE, VALUE, Shape
from millpond.rows import Row

__all__ = ["BlockReads", "ThreadBlockReads"]

T = TypeVar("T")


class BlockReads:
    """For tasks. `_run` is the block's own way to its connection."""

    _db: Any

    async def _run(self, sql: str, params: Any, shape: Shape, timeout: float | None) -> Any:
        raise AssertionError("each kind of block has its own")

    @overload
    async def fetch_all(
        self, sql: str, params: Any = ..., *, into: None = ..., timeout: float | None = ...
    ) -> list[Row]: ...
    @overload
    async def fetch_all(
        self, sql: str, params: Any = ..., *, into: type[T], timeout: float | None = ...
    ) -> list[T]: ...
    async def fetch_all(
        self,
        sql: str,
        params: Any = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: None = None,
    ) -> Any:
        """All rows."""
        if extra or into is not None or timeout is not None or priority is not None:
            self._db._given(sql, into, timeout, extra, "fetch_all", priority)
        found = await self._run(sql, params, ALL, timeout)
        return self._db._shaped(found, into) if into is not None or self._db._row_factory is not None else found

    @overload
    async def fetch_one(
        self, sql: str, params: Any = ..., *, into: None = ..., timeout: float | None = ...
    ) -> Row | None: ...
    @overload
    async def fetch_one(
        self, sql: str, params: Any = ..., *, into: type[T], timeout: float | None = ...
    ) -> T | None: ...
    async def fetch_one(
        self,
        sql: str,
        params: Any = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: None = None,
    ) -> Any:
        """The first row, or None."""
        if extra or into is not None or timeout is not None or priority is not None:
            self._db._given(sql, into, timeout, extra, "fetch_one", priority)
        found = await self._run(sql, params, ONE, timeout)
        if found is None or (into is None and self._db._row_factory is None):
            return found
        return self._db._shaped([found], into)[0]

    async def fetch_value(
        self, sql: str, params: Any = None, *extra: Never, timeout: float | None = None, priority: None = None
    ) -> Any:
        """The first column of the first row, or None."""
        if extra or timeout is not None or priority is not None:
            self._db._given(sql, None, timeout, extra, "fetch_value", priority)
        return await self._run(sql, params, VALUE, timeout)

    fetch_val = fetch_value


class ThreadBlockReads:
    """For threads."""

    _db: Any

    def _run(self, sql: str, params: Any, shape: Shape, timeout: float | None) -> Any:
        raise AssertionError("each kind of block has its own")

    @overload
    def fetch_all(self, sql: str, params: Any = ..., *, into: None = ..., timeout: float | None = ...) -> list[Row]: ...
    @overload
    def fetch_all(self, sql: str, params: Any = ..., *, into: type[T], timeout: float | None = ...) -> list[T]: ...
    def fetch_all(
        self,
        sql: str,
        params: Any = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: None = None,
    ) -> Any:
        """All rows."""
        if extra or into is not None or timeout is not None or priority is not None:
            self._db._given(sql, into, timeout, extra, "fetch_all", priority)
        return self._db._shaped(self._run(sql, params, ALL, timeout), into)

    @overload
    def fetch_one(
        self, sql: str, params: Any = ..., *, into: None = ..., timeout: float | None = ...
    ) -> Row | None: ...
    @overload
    def fetch_one(self, sql: str, params: Any = ..., *, into: type[T], timeout: float | None = ...) -> T | None: ...
    def fetch_one(
        self,
        sql: str,
        params: Any = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: None = None,
    ) -> Any:
        """The first row, or None."""
        if extra or into is not None or timeout is not None or priority is not None:
            self._db._given(sql, into, timeout, extra, "fetch_one", priority)
        found = self._run(sql, params, ONE, timeout)
        return None if found is None else self._db._shaped([found], into)[0]

    def fetch_value(
        self, sql: str, params: Any = None, *extra: Never, timeout: float | None = None, priority: None = None
    ) -> Any:
        """The first column of the first row, or None."""
        if extra or timeout is not None or priority is not None:
            self._db._given(sql, None, timeout, extra, "fetch_value", priority)
        return self._run(sql, params, VALUE, timeout)

    fetch_val = fetch_value
