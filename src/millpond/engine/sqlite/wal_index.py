"""The head of a database's WAL index: has anyone, in any process, committed since?"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from typing import Final, NamedTuple

from millpond.engine.sqlite import platform

__all__ = ["CHANGES", "FRAMES", "HEAD", "LogView", "WalIndex"]

HEAD: Final = slice(0, 96)
"""Two copies of the 48 bytes that each commit changes. Source: sqlite.org/walformat.html, "WAL-index header"."""
CHANGES: Final = slice(8, 12)
"""In it, the number of commits, of any process."""
FRAMES: Final = slice(16, 20)
"""In it, the number of pages in the log."""
HALF = 48
_FILE_PAGES: Final = slice(20, 24)
_PAGE = 4096
_VIEW: Final = struct.Struct("=16xI76xI5I")
"""mxFrame at 16, nBackfill at 96, the five read marks from 100. Source: sqlite.org/walformat.html."""


class LogView(NamedTuple):
    """How the log stands. pages: that it holds; copied: that are in the database too; marks: where readers stand."""

    pages: int
    copied: int
    marks: tuple[int, ...]


class WalIndex:
    """The first page of a database's `-shm`, mapped to be read.

    `page[HEAD]` costs a tenth of a microsecond, and is what a new read transaction would look at: while it
    is the same, and not torn, a new read transaction would see the same commit.

    Closing a descriptor of `-shm` would end all POSIX locks that SQLite holds on it in this process. So a
    file's page is opened once, shared, and closed only when nothing else here has the file mapped.
    """

    __slots__ = ("_shared", "page")

    def __init__(self, shared: _Shared) -> None:
        self._shared: _Shared | None = shared
        self.page = shared.page

    @staticmethod
    def open(path: str) -> WalIndex | None:
        """For the database at `path`, which this process has open in WAL mode. None where it cannot be had."""
        if not platform.linux_facts:
            return None
        with _lock:
            try:
                found = os.stat(path + "-shm")
                key = (found.st_dev, found.st_ino)
                shared = _opened.get(key)
                if shared is None:
                    shared = _opened[key] = _Shared(path + "-shm", key)
            except (OSError, ValueError):
                return None
            shared.users += 1
            return WalIndex(shared)

    @staticmethod
    def whole(head: bytes) -> bool:
        """Is this no torn read? SQLite writes one copy after the other."""
        return head[:HALF] == head[HALF:]

    @staticmethod
    def emptied(before: bytes, after: bytes) -> bool:
        """Was the log emptied between two heads, and nothing committed? All of it was in the database then.

        A count of no commits at all may be that of an index which was made anew, and says nothing.
        """
        return (
            WalIndex.whole(before)
            and WalIndex.whole(after)
            and before[CHANGES] == after[CHANGES] != bytes(4)
            and before[_FILE_PAGES] == after[_FILE_PAGES]
            and after[FRAMES] == bytes(4)
        )

    def log(self) -> LogView:
        """A look at the log; costs 2 microseconds."""
        pages, copied, *marks = _VIEW.unpack_from(self.page)
        return LogView(pages, copied, tuple(marks))

    def close(self) -> None:
        """After the last connection of the database is closed. Twice is once."""
        with _lock:
            shared, self._shared = self._shared, None
            if shared is None:
                return
            shared.users -= 1
            if not shared.users and platform.times_mapped(shared.key[1]) == 1:
                del _opened[shared.key]
                shared.close()


class _Shared:
    __slots__ = ("_descriptor", "key", "page", "users")

    def __init__(self, name: str, key: tuple[int, int]) -> None:
        # Closed with the page and not before, for the locks' sake (the map keeps a copy of it).
        self._descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        self.page = mmap.mmap(self._descriptor, _PAGE, prot=mmap.PROT_READ)
        self.key = key
        self.users = 0

    def close(self) -> None:
        self.page.close()
        os.close(self._descriptor)


_lock = threading.Lock()
_opened: dict[tuple[int, int], _Shared] = {}
