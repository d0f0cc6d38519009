"""Texts for what the file, its folder and its volume refuse; and a look at a file that could not be opened."""

from __future__ import annotations

import errno as numbers
import os
from collections.abc import Callable
from typing import Any

import apsw

from millpond import errors
from millpond.engine.sqlite.files import FileFacts
from millpond.messages import headed, line, shorten

__all__ = ["cannot_open", "corrupt", "failed_io", "first_bytes", "full", "locked", "read_only", "unopenable"]

NEARLY_FULL = 65_536
"""Below this a volume counts as full: a commit of a page or two may still fit, the next will not."""

HEADER = 100
"""Bytes of SQLite's header. Source: sqlite.org/fileformat.html, 1.3."""

MAGIC = b"SQLite format 3\0"

_LOOK_AT_HEADER = (apsw.NotADBError, apsw.CorruptError, apsw.ReadOnlyError, apsw.SQLError)

_Facts = dict[str, Any]


def full(
    sql: str | None, seen: FileFacts | None, facts: _Facts, *, at_page_limit: bool | None = None
) -> errors.DiskFull:
    """A full volume, PRAGMA max_page_count and no room for temporary files all give the same code."""
    if seen is None:
        return errors.DiskFull(headed(sql, ": no space for the database"), hint="Make room.", **facts)
    name = shorten(seen.name, 40)
    if at_page_limit or (at_page_limit is None and seen.free_bytes is not None and seen.free_bytes > NEARLY_FULL):
        return errors.DiskFull(
            headed(sql, f": {name} has reached its own limit (PRAGMA max_page_count)"),
            detail=f"{_sizes(seen)}; {_room(seen)}. Not applied. Reads go on.",
            hint="Raise PRAGMA max_page_count, or delete rows. If it has no such limit, the folder of temporary files "
            "is full: set SQLITE_TMPDIR.",
            **facts,
        )
    if at_page_limit is False and seen.free_bytes is not None and seen.free_bytes > NEARLY_FULL:
        return errors.DiskFull(
            headed(sql, ": no space for temporary files"),
            detail=f"{_sizes(seen)}; {_room(seen)}. Not applied. Reads go on.",
            hint="Sorting and building an index need room for their files: set SQLITE_TMPDIR to a roomier folder.",
            **facts,
        )
    return errors.DiskFull(
        headed(sql, f": no space on the volume of {name}: {_room(seen)}"),
        detail=f"{_sizes(seen)}. Not applied. Reads go on.",
        hint="Make room, or end old readers so that the log can shrink; writes go on by themselves.",
        **facts,
    )


def read_only(sql: str | None, seen: FileFacts | None, facts: _Facts) -> errors.ReadOnlyDatabase:
    """Says which of file, folder and mount is not writable, and for whom."""
    if seen is None:
        return errors.ReadOnlyDatabase(headed(sql, ": the database is read-only"), **facts)
    head = f"cannot write {shorten(seen.name, 50)}"
    modes = (
        f"file mode {seen.mode:04o} owner {seen.owner}, folder mode {seen.folder_mode:04o} owner {seen.folder_owner}"
    )
    beside = f"WAL needs to create {seen.name}-wal and {seen.name}-shm beside the file"
    if facts["extended_code"] == apsw.SQLITE_READONLY_DBMOVED:
        return errors.ReadOnlyDatabase(
            line(f"{head}: it was moved or replaced while it was open"),
            hint="Put the file back in its place, or close the Database and open it anew.",
            **facts,
        )
    if seen.read_only_mount:
        return errors.ReadOnlyDatabase(
            line(f"{head}: its volume is mounted read-only"),
            detail=f"{modes}. {beside}.",
            hint="Mount it writable (in Docker without :ro), or copy the file to a volume that is.",
            **facts,
        )
    if not seen.folder_writable:
        why = f"folder {shorten(_folder(seen), 40)} is not writable for uid {seen.uid}"
    elif seen.exists and not seen.writable:
        why = f"the file is not writable for uid {seen.uid}"
    else:
        return errors.ReadOnlyDatabase(
            headed(sql, f": {shorten(seen.name, 50)} is read-only on this connection"),
            detail=f"{modes}; both are writable for uid {seen.uid}.",
            hint="A function or pragma that writes was called while reading (PRAGMA query_only is set there), or the "
            "file was made immutable (chattr).",
            **facts,
        )
    return errors.ReadOnlyDatabase(
        line(f"{head}: {why}"),
        detail=f"{modes}. {beside}.",
        hint="chown the folder, not only the file; in Docker mount the folder, not the file.",
        **facts,
    )


def failed_io(sql: str | None, seen: FileFacts | None, facts: _Facts, *, errno: int = 0) -> errors.Error:
    """apsw.IOError. errno: the system's, if it is known: it tells a limit or a read-only disk from a broken one."""
    code = facts["extended_code"]
    if errno in (numbers.ENOSPC, numbers.EDQUOT) or (
        code in _WRITES and seen is not None and seen.free_bytes is not None and seen.free_bytes <= NEARLY_FULL
    ):
        return full(sql, seen, facts, at_page_limit=False)
    name = shorten(seen.name, 40) if seen is not None else "the database"
    if errno == numbers.EFBIG:
        return errors.DiskFull(
            headed(sql, f": {name} would become larger than this process may write (ulimit -f)"),
            detail=f"{_sizes(seen)}. Not applied. Reads go on." if seen is not None else None,
            hint="Raise the limit on the size of files (ulimit -f, LimitFSIZE=), or delete rows.",
            **facts,
        )
    if errno in (numbers.EPERM, numbers.EACCES, numbers.EROFS):
        return errors.ReadOnlyDatabase(
            headed(sql, f": {name} has become read-only: {os.strerror(errno).lower()}"),
            hint="Look whether it was made immutable (chattr), or its volume remounted.",
            **facts,
        )
    doing, hint = _OPERATIONS.get(code, ("could not be used", None))
    said = str(apsw.mapping_extended_result_codes.get(code, code) if isinstance(code, int) else "disk I/O error")
    detail = said + (f"; system error {errno}: {os.strerror(errno)}" if errno else "")
    return errors.StorageError(
        headed(sql, f": {name} {doing}"),
        detail=detail,
        hint=hint or "Look at the system's log for the disk's own words, then at the file: PRAGMA integrity_check.",
        **facts,
    )


def unopenable(
    sql: str | None, text: str, seen: FileFacts | None, facts: _Facts, *, errno: int = 0
) -> errors.StorageError:
    """apsw.CantOpenError while a statement ran: another file (ATTACH, VACUUM INTO), or no more descriptors."""
    if errno in (numbers.EMFILE, numbers.ENFILE):
        return errors.StorageError(
            headed(sql, ": the process has too many files open"),
            hint="Raise the limit (ulimit -n, LimitNOFILE=), or look for what leaks descriptors.",
            retryable=True,
            **facts,
        )
    _, told, other = text.partition("unable to open database: ")
    name = os.path.basename(other) if told else seen.name if seen is not None else "the database"
    return errors.StorageError(
        headed(sql, f": {shorten(name, 50)} cannot be opened"),
        detail=str(apsw.mapping_extended_result_codes.get(facts["extended_code"], "SQLITE_CANTOPEN")),
        hint="Its folder must exist, and this process must be allowed to read and write there.",
        **facts,
    )


def corrupt(sql: str | None, text: str, seen: FileFacts | None, facts: _Facts) -> errors.DatabaseCorrupt:
    """apsw.CorruptError, apsw.NotADBError while a statement ran."""
    name = shorten(seen.name, 50) if seen is not None else "the database"
    index = facts["extended_code"] == apsw.SQLITE_CORRUPT_INDEX
    return errors.DatabaseCorrupt(
        headed(sql, f": an index of {name} is damaged" if index else f": {name} is damaged"),
        detail=f"SQLite says: {text}",
        hint="Prove it by PRAGMA integrity_check; if indexes alone are wrong, REINDEX mends them."
        if index
        else "Stop all users of the file, and copy it with its -wal before anything else. Then restore a backup, the "
        "file and its -wal together.",
        **facts,
    )


def locked(sql: str | None, seen: FileFacts | None, facts: _Facts, *, own: bool) -> errors.OperationalError:
    """apsw.BusyError; own: apsw.LockedError, a conflict inside one connection."""
    if own:
        return errors.OperationalError(
            headed(sql, ": another statement of the same transaction still reads what this one changes"),
            hint="End the iteration first (fetch_all reads everything at once), then run this.",
            **facts,
        )
    name = shorten(seen.name, 50) if seen is not None else "the database"
    detail = {
        apsw.SQLITE_BUSY_SNAPSHOT: "The transaction had read before another one was committed, so it cannot write.",
        apsw.SQLITE_BUSY_RECOVERY: "Another process is recovering the log.",
    }.get(facts["extended_code"])
    return errors.LockTimeout(
        headed(sql, f": {name} is locked by another connection"),
        detail=detail,
        hint="Run the whole transaction again." if detail and detail.startswith("The") else "Try again.",
        **facts,
    )


def cannot_open(
    exc: BaseException, path: str, *, files: Callable[[], FileFacts], header: bytes | None = None
) -> errors.Error:
    """The error for a database that cannot be opened. header: its first 100 bytes, looked up if not given."""
    seen = files()
    name = shorten(seen.name, 50)
    facts: _Facts = {"path": path, "extended_code": getattr(exc, "extendedresult", None), "sql": None, "applied": None}
    if seen.is_folder:
        return errors.StorageError(f"cannot open {name}: it is a folder", hint="Give the path of a file.", **facts)
    if not seen.folder_exists:
        return errors.StorageError(
            line(f"cannot open {name}: its folder {shorten(_folder(seen), 50)} does not exist"),
            detail="The whole path is in .path.",
            hint="Make the folder first.",
            **facts,
        )
    if header is None and isinstance(exc, _LOOK_AT_HEADER):
        header = first_bytes(path)
    if (newer := _newer_format(header)) is not None:
        return errors.NotSupportedError(
            line(f"cannot open {name}: it has a newer file format than this SQLite can write"),
            detail=f"{newer}; this is SQLite {apsw.sqlite_lib_version()}",
            hint="Upgrade apsw, or open it with the program that made it and VACUUM INTO an older format.",
            **facts,
        )
    if isinstance(exc, (apsw.NotADBError, apsw.CorruptError)):
        looks, hint = _looks_like(header)
        return errors.DatabaseCorrupt(
            line(f"cannot open {name}: {looks}"), detail=f"{seen.size:,} bytes; SQLite says: {exc}", hint=hint, **facts
        )
    refused = (seen.exists and not seen.writable) or not seen.folder_writable or seen.read_only_mount
    if isinstance(exc, apsw.ReadOnlyError) or (refused and isinstance(exc, (apsw.CantOpenError, apsw.IOError))):
        return read_only(None, seen, facts)
    if isinstance(exc, (apsw.BusyError, apsw.LockedError)):
        return errors.LockTimeout(
            line(f"cannot open {name}: another process holds it locked"),
            hint="It may be in another journal mode than WAL, and in use. End its other users once.",
            **facts,
        )
    code = apsw.mapping_extended_result_codes.get(facts["extended_code"], type(exc).__name__)
    return errors.StorageError(
        line(f"cannot open {name}: {str(exc).replace(path, name)}"),
        detail=f"{code}; file mode {seen.mode:04o} owner {seen.owner}, folder mode {seen.folder_mode:04o} owner "
        f"{seen.folder_owner}, uid {seen.uid}",
        hint="It must be a file on a local disk that this process may read and write, in a folder where it may too.",
        **facts,
    )


def first_bytes(path: str) -> bytes | None:
    """The file's header, read through SQLite's own file layer.

    A plain open() and close() of the file would drop every lock that SQLite holds on it in this process;
    SQLite's own layer keeps account of them.
    """
    try:
        db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.Error:
        return None
    try:
        return db.read("main", 0, 0, HEADER)[1]
    except apsw.Error:
        return None
    finally:
        db.close()


def _newer_format(header: bytes | None) -> str | None:
    """Bytes 18 and 19 are write and read version (1 rollback journal, 2 WAL), 44 to 47 the schema format (1 to 4)."""
    if header is None or len(header) < HEADER or not header.startswith(MAGIC):
        return None
    if header[18] > 2 or header[19] > 2:
        return f"write version {header[18]}, read version {header[19]}; 2 is the newest that is known"
    schema_format = int.from_bytes(header[44:48])
    return f"schema format {schema_format}; 4 is the newest that is known" if schema_format > 4 else None


def _looks_like(header: bytes | None) -> tuple[str, str]:
    other = "Look whether the path is right. Nothing was written to it."
    if header is None:
        return "it is no SQLite database, or it is encrypted", other
    if header.startswith(MAGIC):
        return "it begins as a SQLite database does, but is damaged", (
            "Keep a copy of it and its -wal before anything else, then restore a backup, both together."
        )
    for beginning, looks, hint in _KNOWN:
        if header.startswith(beginning):
            return looks, hint
    if not any(header):
        return "it begins with zeros", "The machine may have lost power while the file was made. Restore a backup."
    # Of 100 random bytes about 83 are different ones, of text about 30.
    if len(set(header)) > 0.6 * len(header):
        return "its first bytes look encrypted", "An encrypted database needs the library that encrypted it."
    return "it is no SQLite database", other


_PACKED = "it is compressed"
_UNPACK = "Unpack it first."
_DUMP = "it is a dump in SQL text"
_LOAD = "Make an empty database, and give it the text by execute_script."
_KNOWN = (
    (b"\x1f\x8b", _PACKED, _UNPACK),
    (b"PK\x03\x04", _PACKED, _UNPACK),
    (b"\x28\xb5\x2f\xfd", _PACKED, _UNPACK),
    (b"\xfd7zXZ", _PACKED, _UNPACK),
    (b"BZh", _PACKED, _UNPACK),
    (b"version https://git-lfs", "it is a pointer of Git LFS, not the file itself", "Fetch it: git lfs pull."),
    (b"** This file contains an SQLite 2", "it is of SQLite 2", "Convert it with the sqlite 2 shell's .dump."),
    (b"PRAGMA ", _DUMP, _LOAD),
    (b"BEGIN TRANSACTION", _DUMP, _LOAD),
    (b"CREATE ", _DUMP, _LOAD),
)

_WRITES = frozenset(
    {
        apsw.SQLITE_IOERR_WRITE,
        apsw.SQLITE_IOERR_FSYNC,
        apsw.SQLITE_IOERR_DIR_FSYNC,
        apsw.SQLITE_IOERR_TRUNCATE,
        apsw.SQLITE_IOERR_SHMSIZE,
    }
)

_SHM = "Its -shm file must stay where it is, on a local disk. Was it deleted, or is this a network file system?"
_LOCKS = "Network file systems often cannot lock. Keep the file on a local disk."
_OPERATIONS: dict[int | None, tuple[str, str | None]] = {
    apsw.SQLITE_IOERR_READ: ("could not be read", None),
    apsw.SQLITE_IOERR_SHORT_READ: ("is shorter than it should be", "Was it cut off while it was open?"),
    apsw.SQLITE_IOERR_CORRUPTFS: ("could not be read: the file system is damaged", None),
    apsw.SQLITE_IOERR_DATA: ("could not be read: a checksum is wrong", None),
    apsw.SQLITE_IOERR_FSTAT: ("could not be looked at", None),
    apsw.SQLITE_IOERR_WRITE: ("could not be written", None),
    apsw.SQLITE_IOERR_TRUNCATE: ("could not be cut to its size", None),
    apsw.SQLITE_IOERR_FSYNC: ("could not be synced to the disk", None),
    apsw.SQLITE_IOERR_DIR_FSYNC: ("could not be synced to the disk", None),
    apsw.SQLITE_IOERR_LOCK: ("could not be locked", _LOCKS),
    apsw.SQLITE_IOERR_RDLOCK: ("could not be locked", _LOCKS),
    apsw.SQLITE_IOERR_UNLOCK: ("could not be unlocked", _LOCKS),
    apsw.SQLITE_IOERR_CHECKRESERVEDLOCK: ("could not be locked", _LOCKS),
    apsw.SQLITE_IOERR_SHMOPEN: ("could not open its shared memory", _SHM),
    apsw.SQLITE_IOERR_SHMMAP: ("could not use its shared memory", _SHM),
    apsw.SQLITE_IOERR_SHMSIZE: ("could not use its shared memory", _SHM),
    apsw.SQLITE_IOERR_SHMLOCK: ("could not lock its shared memory", _SHM),
    apsw.SQLITE_IOERR_MMAP: ("could not be mapped into memory", None),
    apsw.SQLITE_IOERR_GETTEMPPATH: ("found no folder for temporary files", "Set SQLITE_TMPDIR to a writable folder."),
    apsw.SQLITE_IOERR_NOMEM: ("could not be used: out of memory", None),
}


def _sizes(seen: FileFacts) -> str:
    return f"{seen.name} {_bytes(seen.size)}, {seen.name}-wal {_bytes(seen.wal_bytes)}"


def _room(seen: FileFacts) -> str:
    if seen.free_bytes is None:
        return "its free space is not known"
    of = f" of {_bytes(seen.total_bytes)}" if seen.total_bytes else ""
    return f"{_bytes(seen.free_bytes)} free{of}"


def _bytes(size: float) -> str:
    if size < 1024:
        return f"{size:.0f} bytes"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1024:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def _folder(seen: FileFacts) -> str:
    return seen.folder.rstrip(os.sep) + os.sep
