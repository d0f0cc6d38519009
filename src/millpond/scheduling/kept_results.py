"""Which results are kept, for how long, and which go first when there are too many."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import Any

__all__ = ["KeptResults", "Stored", "Token"]

Token = tuple[int, ...]
"""The versions of some tables at one moment."""

SEEN = 16_384
"""A result is kept at its second sight among so many misses: what is asked once takes no room."""
TRIAL = 512
"""After so many results of a statement that were used by less than half of as many hits it is given up for a while."""
REST = 20_000


class Stored:
    """The kept results of one statement, a dict by parameters for each shape of answer.

    hits: counted by whoever looks. left_alone: so many misses are passed over before it is tried again.
    """

    __slots__ = ("by_shape", "bytes", "fills", "generation", "gone", "hits", "left_alone", "tables")

    def __init__(self, tables: frozenset[str], shapes: int) -> None:
        self.tables = tables
        self.by_shape: tuple[dict[Hashable, Any], ...] = tuple({} for _ in range(shapes))
        self.bytes = 0
        self.generation = 0
        self.gone = False
        self.hits = 0
        self.fills = 0
        self.left_alone = 0


class KeptResults:
    """Results by statement and parameters, valid by tables, bounded in bytes; the oldest goes first.

    Promises: a result is given only while none of its tables was touched since its token was taken;
    `bytes` never exceeds `limit_bytes`; a statement whose results are seldom asked again takes no room.
    Not safe for several threads: the owner has a lock for all but looking up.
    """

    def __init__(self, limit_bytes: int, shapes: int) -> None:
        self.bytes = 0
        self.fills = self.evicted = 0
        self._limit_bytes = limit_bytes
        self._shapes = shapes
        self._versions: dict[str, int] = {}
        self._drops = 0
        self._readers: dict[str, set[Stored]] = {}
        self._queue: deque[tuple[Stored, int, int, Hashable, int]] = deque()
        self._live = 0
        self._seen: set[int] = set()

    def __len__(self) -> int:
        return self._live

    def wants(self, stored: Stored | None, key: Hashable) -> bool:
        """A miss: is its result worth keeping? key: of statement, shape and parameters."""
        if stored is not None and stored.left_alone:
            stored.left_alone -= 1
            return False
        seen, mark = self._seen, hash(key)
        if mark in seen:
            return True
        if len(seen) >= SEEN:
            seen.clear()
        seen.add(mark)
        return False

    def token(self, tables: Iterable[str]) -> Token:
        """What must be the same when the result comes, for it to be kept."""
        versions = self._versions
        return (self._drops, *[versions.get(table, 0) for table in tables])

    def stored(self, tables: frozenset[str]) -> Stored:
        """Room for a statement's results."""
        stored = Stored(tables, self._shapes)
        for table in tables:
            self._readers.setdefault(table, set()).add(stored)
        return stored

    def forget(self, stored: Stored) -> None:
        """The statement is gone, and its results with it."""
        self._clear(stored)
        stored.gone = True
        for table in stored.tables:
            readers = self._readers.get(table)
            if readers is not None:
                readers.discard(stored)
                if not readers:
                    del self._readers[table]

    def keep(self, stored: Stored, shape: int, key: Hashable, result: Any, size: int, token: Token) -> bool:
        """Keep a result whose token was taken before it was read. False: it is stale already, or too large."""
        if stored.gone or token != self.token(stored.tables) or size > self._limit_bytes // 16:
            return False
        results = stored.by_shape[shape]
        if key in results:
            return False
        stored.fills += 1
        if stored.fills >= TRIAL:
            if stored.hits * 2 < stored.fills:
                self._clear(stored)
                stored.left_alone = REST
            stored.fills = stored.hits = 0
            if stored.left_alone:
                return False
        results[key] = result
        stored.bytes += size
        self.bytes += size
        self.fills += 1
        self._live += 1
        self._queue.append((stored, stored.generation, shape, key, size))
        while self.bytes > self._limit_bytes:
            self._evict()
        if len(self._queue) > 1024 + 2 * self._live:
            self._queue = deque(entry for entry in self._queue if entry[0].generation == entry[1])
        return True

    def touch(self, tables: Iterable[str]) -> None:
        """These tables were written to."""
        for table in tables:
            self._versions[table] = self._versions.get(table, 0) + 1
            for stored in self._readers.get(table, ()):
                if stored.bytes:
                    self._clear(stored)

    def drop_all(self) -> None:
        """Nothing that was kept is known to be valid any more."""
        self._drops += 1
        self._versions.clear()
        for readers in self._readers.values():
            for stored in readers:
                if stored.bytes:
                    self._clear(stored)
        self._queue.clear()

    def _evict(self) -> None:
        stored, generation, shape, key, size = self._queue.popleft()
        if stored.generation == generation:
            del stored.by_shape[shape][key]
            stored.bytes -= size
            self.bytes -= size
            self._live -= 1
            self.evicted += 1

    def _clear(self, stored: Stored) -> None:
        self.bytes -= stored.bytes
        stored.bytes = 0
        stored.generation += 1
        for results in stored.by_shape:
            self._live -= len(results)
            results.clear()
