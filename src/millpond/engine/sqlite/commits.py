"""What goes with each transaction of the writer's: how it is synced, what it touched, how it is committed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import apsw

from millpond.engine.sqlite.attached import commit_again
from millpond.engine.sqlite.calls import WriteCall
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.wal_index import CHANGES, WalIndex
from millpond.engine.sqlite.writer_host import WriterHost

__all__ = ["Commits"]

_COUNTED = 0xFFFFFFFF
"""The log's index counts commits in 32 bits."""


class Commits:
    """The writer's commits, one after another.

    wrote: the last one wrote something. number: how many have written to the main file, on_disk: how many of these
    a power cut cannot take any more, -1 if it could take what was in the log before. Attached files are synced at
    each commit: PRAGMA synchronous is told to the main one only. wal_pages: the log's length after the last commit
    to the main file.
    """

    def __init__(self, host: WriterHost, lock: threading.Lock) -> None:
        """lock: whoever wants to stop a job holds it while looking whether its commit is under way."""
        self._host = host
        self._lock = lock
        self._full: bool | None = None
        self.wrote = False
        self._main = False
        self._index: WalIndex | None = None
        self._others = 0
        self.number = self.on_disk = 0
        self.wal_pages = 0

    @property
    def unsynced(self) -> bool:
        """Can something that was committed still be lost by a power cut?"""
        return self.on_disk < self.number

    def adopt(self, connection: Connection) -> None:
        """From now on this connection is the writer's."""
        connection.db.set_wal_hook(self._committed)
        if self._host.memory:
            connection.db.set_commit_hook(self._committed_in_memory)
        self.unsure()

    def log_opened(self, index: WalIndex | None) -> None:
        """Before the first commit. What the log holds already, nobody knows to be synced. None: it cannot be seen."""
        self._index = index
        if index is not None:
            self._others = self._changes(index) - self.number
            if index.log().pages > 0:
                self.on_disk = -1

    def needs_barrier(self) -> bool:
        """From any thread: is there anything acknowledged, by whomever, that a power cut could still take?"""
        index = self._index
        if index is None:
            return True
        # In this order, that of `_committed` backwards: an own commit meanwhile hides none of another process.
        try:
            changes = self._changes(index)
        except ValueError:
            return True  # it was closed meanwhile, which the writer will say
        alone = changes == (self._others + self.number) & _COUNTED
        return self.unsynced or not alone

    def sync(self, connection: Connection, full: bool) -> None:
        """Before a transaction: its commit is to be synced, or not."""
        if self._full is not full:
            connection.run(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")
            self._full = full

    def unsure(self) -> None:
        """The connection may have been told otherwise meanwhile."""
        self._full = None

    def begun(self, connection: Connection) -> None:
        """A transaction holds the write lock from now on."""
        self.wrote = self._main = False
        connection.touched.clear()
        connection.look_again()
        if self._host.cache is not None:
            self._host.cache.begun()

    def commit(
        self, connection: Connection, done: Sequence[WriteCall], is_over: Callable[[], bool]
    ) -> BaseException | None:
        """COMMIT for these, or ROLLBACK where there are none. Returns why it failed, nothing being left of it.

        is_over: nobody waits any longer for readers of an attached file.
        """
        if not connection.db.in_transaction:
            return None
        problem = self._host.verify_files() if done else None
        if problem is not None:
            connection.run("ROLLBACK")
            return problem
        with self._lock:
            for call in done:
                call.committing = True
        cache = self._host.cache
        if cache is not None:
            cache.committing()
        if (changes := self._host.changes) is not None:
            changes.committing()
        try:
            connection.run("COMMIT" if done else "ROLLBACK")
        except apsw.Error as exc:
            failed = commit_again(connection, exc, done, is_over)
            if failed is not None:
                return failed
        finally:
            if cache is not None:
                cache.committed(connection.touched, wrote=self.wrote)
            if (changes := self._host.changes) is not None:  # asked anew: somebody may have begun to watch meanwhile
                changes.committed(connection.touched, wrote=self._main)
        return None

    def synced(self, number: int) -> None:
        """From any thread: the first so many are on disk."""
        self.on_disk = max(self.on_disk, number)

    @staticmethod
    def _changes(index: WalIndex) -> int:
        return int.from_bytes(index.page[CHANGES], sys.byteorder)

    def _committed(self, _db: Any, name: str, pages: int) -> int:
        self.wrote = True
        if name == "main":
            self._main = True
            self.wal_pages = pages
            number = self.number + 1
            if self._full:
                self.on_disk = number
            self.number = number
        self._host.log_grew(pages, name)
        return apsw.SQLITE_OK

    def _committed_in_memory(self) -> bool:
        """There is no log, whose hook would tell; this one comes just before. False: let it happen."""
        self._main = True
        return False
