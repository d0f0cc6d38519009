"""A disk that writes down what SQLite does to it: every write, cut, sync, creation and deletion, in order.

What goes past SQLite: Millpond syncs the log itself (`FileSync`), which is recorded too; its reads (the -shm page that
it maps, stats of the files) change nothing. The -shm is left out: it is made anew after a power cut. SQLite's syncs are
not made for real: what would be on the disk is worked out in `disk.py` from the record.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apsw

from millpond.engine.sqlite import log_sync
from millpond.engine.sqlite.aio import FileSync
from millpond.engine.sqlite.log_sync import LogSync

__all__ = [
    "Created", "Deleted", "Event", "FolderSynced", "Honest", "Record", "Resized", "SyncBegun", "Synced", "Told",
    "Wrote", "recording",
]  # fmt: skip

_SYNCS_FOLDER = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
"""With their first sync SQLite's own disk syncs their folder too. Source: os_unix.c, UNIXFILE_DIRSYNC."""


@dataclass(frozen=True, slots=True)
class Wrote:
    file: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Resized:
    file: int
    size: int


@dataclass(frozen=True, slots=True)
class SyncBegun:
    file: int


@dataclass(frozen=True, slots=True)
class Synced:
    """All that was written to the file before the event `since` is on the disk."""

    file: int
    since: int


@dataclass(frozen=True, slots=True)
class Created:
    file: int
    name: str


@dataclass(frozen=True, slots=True)
class Deleted:
    name: str


@dataclass(frozen=True, slots=True)
class FolderSynced:
    """All names that were made or deleted before the event `since` are so on the disk."""

    since: int


@dataclass(frozen=True, slots=True)
class Told:
    """A client learnt something; what, is between it and who checks."""

    what: object


Event = Wrote | Resized | SyncBegun | Synced | Created | Deleted | FolderSynced | Told


@dataclass(slots=True)
class Record:
    """What happened, in order; an event's place in the list is its moment.

    found: the files that were there before, by their names. Files are numbered; a name that is deleted and made
    again gets another number.
    """

    folder: Path
    found: dict[str, bytes]
    events: list[Event] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    files: int = 0
    lock: Any = field(default_factory=threading.RLock)

    @staticmethod
    def of(folder: Path) -> Record:
        """All in the folder is on the disk already."""
        found = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
        return Record(folder, found, names={name: i for i, name in enumerate(sorted(found))}, files=len(found))

    def add(self, event: Event) -> None:
        with self.lock:
            self.events.append(event)

    def now(self) -> int:
        """The moment of the next event."""
        return len(self.events)

    def tell(self, what: object) -> None:
        """A client learns this now."""
        self.add(Told(what))

    def opened(self, name: str) -> int:
        """The number of the file of this name, which SQLite is about to use."""
        with self.lock:
            if name not in self.names:
                self.names[name] = self.files
                self.files += 1
                self.events.append(Created(self.names[name], name))
            return self.names[name]


class Honest:
    """Which syncs are kept. Subclasses drop some, and must be found out."""

    def keeps_sync(self, name: str) -> bool:
        return True

    def keeps_folder_sync(self, name: str) -> bool:
        return True


@contextmanager
def recording(folder: Path, honesty: Honest | None = None) -> Iterator[Record]:
    """What this process does by SQLite to the files of this folder is recorded; it has none of them open before."""
    record = Record.of(folder)
    disk = _Disk(record, honesty or Honest())

    class Syncs(_FileSync):
        where = disk

    try:
        with patch.object(log_sync, "FileSync", Syncs), patch.object(LogSync, "serves", lambda connection: True):
            yield record
    finally:
        disk.unregister()


class _Disk(apsw.VFS):
    def __init__(self, record: Record, honesty: Honest) -> None:
        self.record = record
        self.honesty = honesty
        self.usual = apsw.vfs_names()[0]
        super().__init__("recording", self.usual, makedefault=True)

    def name_in_folder(self, path: str) -> str | None:
        folder, name = os.path.split(path)
        return name if folder == str(self.record.folder) else None

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802  # apsw's name
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        known = self.name_in_folder(path) if path else None
        return apsw.VFSFile(self.usual, name, flags) if known is None else _File(self, known, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802  # apsw's name
        name = self.name_in_folder(filename)
        if name is None:
            super().xDelete(filename, syncdir)
            return
        record = self.record
        with record.lock:
            super().xDelete(filename, False)
            del record.names[name]
            record.events.append(Deleted(name))
            if syncdir and self.honesty.keeps_folder_sync(name):
                record.events.append(FolderSynced(len(record.events)))


class _File(apsw.VFSFile):
    def __init__(self, disk: _Disk, name: str, path: Any, flags: list[int]) -> None:
        super().__init__(disk.usual, path, flags)
        self._record = disk.record
        self._honesty = disk.honesty
        self._name = name
        self._file = disk.record.opened(name)
        self._syncs_folder = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _SYNCS_FOLDER)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802  # apsw's name
        with self._record.lock:
            super().xWrite(data, offset)
            self._record.events.append(Wrote(self._file, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802  # apsw's name
        with self._record.lock:
            super().xTruncate(newsize)
            self._record.events.append(Resized(self._file, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802  # apsw's name
        if not self._honesty.keeps_sync(self._name):
            return
        record = self._record
        since = record.now()
        record.add(SyncBegun(self._file))
        record.add(Synced(self._file, since))
        if self._syncs_folder:
            self._syncs_folder = False
            if self._honesty.keeps_folder_sync(self._name):
                record.add(FolderSynced(since))


class _FileSync(FileSync):
    """What Millpond syncs without SQLite. A sync is over when that is heard of: until then nobody is told anything."""

    where: _Disk

    def __init__(self, path: str) -> None:
        super().__init__(path)
        name = self.where.name_in_folder(path)
        self._record = self.where.record
        self._number = self._record.names[name] if name is not None else None
        self._kept = name is not None and self.where.honesty.keeps_sync(name)
        self._since = 0

    def start(self) -> None:
        self._begins()
        super().start()

    def ended(self) -> bool:
        was_running = self.is_running
        ended = super().ended()
        if was_running and ended:
            self._ends()
        return ended

    def now(self) -> None:
        self._begins()
        super().now()
        self._ends()

    def rewrite(self) -> None:
        self._begins()
        super().rewrite()
        self._ends()

    def _begins(self) -> None:
        self._since = self._record.now()
        if self._number is not None and self._kept:
            self._record.add(SyncBegun(self._number))

    def _ends(self) -> None:
        if self._number is not None and self._kept:
            self._record.add(Synced(self._number, self._since))
