"""Results that are as fresh as a new read, without reading: the WAL index says whether anyone has committed since."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from sys import getsizeof
from typing import Any, Final

from millpond.engine.sqlite.connection import ALL, VALUE, Shape
from millpond.engine.sqlite.wal_index import CHANGES, HEAD, WalIndex
from millpond.scheduling.kept_results import KeptResults, Stored, Token
from millpond.statements.profile import ANYTHING, Profile

__all__ = ["NONE", "PLAIN_VALUES", "Pending", "ResultCache"]

NONE: Final = object()
"""Nothing is kept for that."""
PLAIN_VALUES = frozenset({int, str, bytes, type(None)})
"""Parameters that are equal only if they are the same: not 1, 1.0 and True."""
MOST_ROWS = 200
ENTRY_BYTES = 300
"""What an entry takes beside its rows: keys, a place in the queue."""

Pending = tuple[Stored, Token]
_NO_PAGE: Final = bytes(HEAD.stop)


class ResultCache:
    """Kept results, valid while the head of the WAL index is `head`.

    Each commit of any process changes the index's head, and its change counter by one. So a result is what
    a new read transaction would find as long as the head is the one under which it was read; and after a
    commit of our own, whose tables are known, all others are carried over to the new head, provided that the
    counter says that nobody else has committed too.

        head known --our COMMIT, counter + 1--> tables that it wrote dropped, new head known
             `------any other change of the head--> all dropped

    observed: where there are observers, told of each result that is taken out.

    A result is kept only if nothing of this happened between before and after it was read. Looking up is done
    without the lock by whoever calls; it compares the head *before* it takes a result out.
    """

    def __init__(self, index: WalIndex, limit_bytes: int) -> None:
        self.page: Any = index.page
        self.kept = KeptResults(limit_bytes, len(Shape))
        self._lock = threading.Lock()
        self.head: bytes = self.page[HEAD]
        self._before = self.head
        self._committing = False
        self._off = False
        self.observed: Callable[[str, float, Any, BaseException | None], None] | None = None
        self.hits = 0

    def look(self, profile: Profile, shape: Shape, params: Any) -> Any:
        """What is kept of a statement for these parameters; NONE. A list is the caller's own, rows are shared."""
        stored: Stored | None = profile.results
        if stored is None or self.page[HEAD] != self.head:
            return NONE
        try:
            found = stored.by_shape[shape].get(params, NONE)
        except TypeError:
            return NONE  # a parameter that has no hash
        if found is NONE or (params is not None and not PLAIN_VALUES.issuperset(map(type, params))):
            return NONE
        stored.hits += 1
        self.hits += 1
        if self.observed is not None:
            self.observed(profile.sql, 0.0, found, None)
        return found[:] if shape is ALL else found

    def pending(self, profile: Profile, shape: Shape, params: Any) -> Pending | None:
        """Before a read whose result was not kept: what must still hold afterwards. None: it is not worth keeping."""
        try:
            if not self.kept.wants(profile.results, (profile.sql, shape, params)):
                return None
        except TypeError:
            return None  # a parameter that has no hash
        if params is not None and not PLAIN_VALUES.issuperset(map(type, params)):
            return None
        with self._lock:
            if self.page[HEAD] != self.head and not self._catch_up():
                return None
            if not profile.cacheable:
                return None
            stored = profile.results  # another thread may have been here
            if stored is None:
                stored = profile.results = self.kept.stored(profile.tables_read)
            return stored, self.kept.token(profile.tables_read)

    def keep(self, pending: Pending, shape: Shape, params: Any, result: Any) -> None:
        """After the read: keep its result if nobody has written to its tables meanwhile."""
        size = _size(shape, params, result)
        if size is None:
            return
        stored, token = pending
        with self._lock:
            if self.page[HEAD] == self.head and not self._off:
                self.kept.keep(stored, shape, params, list(result) if shape is ALL else result, size, token)

    def begun(self) -> None:
        """We hold the write lock: nobody else commits until our own commit."""
        with self._lock:
            head = self._before = self.page[HEAD]
            if head != self.head:
                self._follow(head)

    def committing(self) -> None:
        """From now on the head may change by our own doing."""
        self._committing = True

    def committed(self, tables: set[str], *, wrote: bool) -> None:
        """Our commit has ended, well or not. tables: all that it may have written to, ANYTHING among them.

        wrote: it changed the file; otherwise whatever changed the head was somebody else.
        """
        with self._lock:
            self._committing = False
            head = self.page[HEAD]
            if head == self._before and head == self.head:
                return  # nothing was written
            if not wrote or ANYTHING in tables or self.head != self._before or not _is_next(self._before, head):
                self._move(head)
            else:
                self.kept.touch(tables)
                self.head = head

    def forget(self, profile: Profile) -> None:
        """The profile is replaced or dropped: whoever still has it keeps nothing of it any more."""
        profile.cacheable = False
        if profile.results is not None:
            with self._lock:
                stored, profile.results = profile.results, None
                if stored is not None:
                    self.kept.forget(stored)

    def switch_off(self) -> None:
        """For good: another database is attached, or connections differ in what they are told."""
        with self._lock:
            self._off = True
            self.head = b""
            self.kept.drop_all()

    def detach(self) -> None:
        """The index is about to be closed: whoever is late finds nothing, and keeps nothing."""
        with self._lock:
            self._off = True
            self.head = b""
            self.page = _NO_PAGE

    def poison(self) -> None:
        """In a child process: nothing that is kept may be given out. Without the lock: its holder was not forked."""
        self._off = True
        self.head = b""

    def _catch_up(self) -> bool:
        """Under the lock: the head is not the one we know. Somebody else's commit, unless it is just our own."""
        head = self.page[HEAD]
        if self._committing or self._off or not WalIndex.whole(head):
            return False
        self._follow(head)
        return True

    def _follow(self, head: bytes) -> None:
        """Under the lock: the head is another one. If only the log was emptied, all results are as good as before."""
        if WalIndex.emptied(self.head, head) and not self._off:
            self.head = head
        else:
            self._move(head)

    def _move(self, head: bytes) -> None:
        self.kept.drop_all()
        if not self._off:
            self.head = head if WalIndex.whole(head) else b""


def _is_next(before: bytes, after: bytes) -> bool:
    """Did exactly one commit lie between? The change counter is a native 32-bit number that wraps around."""
    if not (WalIndex.whole(before) and WalIndex.whole(after)):
        return False
    return (_changes(before) + 1) & 0xFFFFFFFF == _changes(after)


def _changes(head: bytes) -> int:
    return int.from_bytes(head[CHANGES], sys.byteorder)


def _size(shape: Shape, params: Any, result: Any) -> int | None:
    """About how many bytes a result takes, its key included; None for one that is too long to be kept."""
    key = ENTRY_BYTES + (0 if params is None else getsizeof(params) + sum(map(getsizeof, params)))
    if shape is VALUE:
        return key + getsizeof(result)
    rows: Any = result if shape is ALL else () if result is None else (result,)
    if len(rows) > MOST_ROWS:
        return None
    return key + getsizeof(rows) + sum(getsizeof(row) + sum(map(getsizeof, row)) for row in rows)
