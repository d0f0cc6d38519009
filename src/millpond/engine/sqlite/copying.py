"""Online backup: one consistent copy of a database that goes on being written."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from os import PathLike
from types import TracebackType
from typing import Any

import apsw

from millpond import errors
from millpond.engine.sqlite import leftovers
from millpond.engine.sqlite.connection import Connection
from millpond.locations import locate
from millpond.messages import line, shorten

__all__ = ["Copy"]

STEP_PAGES = 1_000
NAME_LENGTH = 40


def at_once(function: Callable[..., Any], *args: Any) -> None:
    function(*args)


class Copy:
    """A copy on its way to the file `target`, under another name until it is whole and `publish` is called.

        with Copy(target, progress) as copy: copy.run(connection), copy.publish(), in any thread

    Left without that, it stops and leaves nothing behind. What `progress` raises stops it too, and comes out of
    the block. call: how the caller's function is called, where the copying thread may not do it.
    Raises: ProgrammingError, StorageError for a target that cannot be.
    """

    def __init__(
        self,
        target: str | PathLike[str],
        progress: Callable[[int, int], None] | None,
        call: Callable[..., None] = at_once,
    ) -> None:
        location = locate(target)
        self._name = shorten(location.name, NAME_LENGTH)
        if location.memory:
            raise errors.ProgrammingError(
                "a backup goes to a file, not to :memory:", hint="A database in memory belongs to its one Database."
            )
        self._target = location.path
        self._part = location.path + ".part"
        if os.path.isdir(self._target):
            raise self._cannot("a folder has that name", "Give the name of a file in it.")
        if not os.path.isdir(os.path.dirname(self._target)):
            raise self._cannot("its folder does not exist", "Make the folder first.")
        self._progress = progress
        self._call = call
        self._wanted = True
        self._failure: Exception | None = None

    def __enter__(self) -> Copy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wanted = False
        self._discard()
        if self._failure is not None and (error is None or isinstance(error, errors.Error)):
            raise self._failure

    def run(self, source: Connection) -> int:
        """Copy what one snapshot of `source` sees, in steps; returns the pages copied.

        The source holds a read transaction for the whole copy: without it each commit of another connection
        starts the backup anew, and under load it never ends.
        """
        name = source.db.db_filename("main")
        if name and os.path.exists(self._target) and os.path.samefile(name, self._target):
            raise errors.ProgrammingError("a database cannot be backed up onto itself", path=self._target)
        self._discard()
        pinned = bool(name)
        if pinned:
            source.run("BEGIN")
            source.db.pragma("schema_version")
        try:
            pages = self._copy(source)
            self._make_room()
        except BaseException:
            self._discard()
            raise
        finally:
            if pinned and source.db.in_transaction:
                source.run("ROLLBACK")
        return pages

    def publish(self) -> None:
        """The copy appears under its name, and survives a power cut; a file of that name is replaced."""
        if self._failure is not None:
            raise self._failure
        try:
            os.replace(self._part, self._target)
            _sync_folder(os.path.dirname(self._target))
        except OSError as exc:
            raise self._cannot(exc.strerror or "it cannot be renamed") from exc

    def _copy(self, source: Connection) -> int:
        try:
            copy = apsw.Connection(self._part)
        except apsw.CantOpenError as exc:
            raise self._cannot("it cannot be created", "Is its folder writable for this user?") from exc
        try:
            with copy.backup("main", source.db, "main") as backup:
                while not backup.done and self._wanted:
                    backup.step(STEP_PAGES)
                    if self._progress is not None:
                        self._call(self._tell, backup.page_count - backup.remaining, backup.page_count)
                done, pages = backup.done, backup.page_count
            if not done or not self._wanted:
                raise errors.OperationalError("the backup was stopped", path=self._target)
            copy.execute("PRAGMA journal_mode = DELETE").fetchall()
        except apsw.FullError as exc:
            raise errors.DiskFull(f"no room for the backup {self._name}", path=self._target) from exc
        finally:
            copy.close(True)
        return pages

    def _make_room(self) -> None:
        """The file that is replaced may have been used, and its user killed."""
        try:
            leftovers.work_in(self._target)
        except (apsw.BusyError, apsw.LockedError) as exc:
            raise self._cannot("somebody has it open", "Close that, or give another name.") from exc
        except OSError as exc:
            raise self._cannot(exc.strerror or "what lies beside it cannot be removed") from exc

    def _tell(self, done: int, pages: int) -> None:
        if self._progress is None or not self._wanted:
            return
        try:
            self._progress(done, pages)
        except Exception as exc:
            self._failure = exc
            self._wanted = False

    def _discard(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self._part)

    def _cannot(self, why: str, hint: str | None = None) -> errors.StorageError:
        return errors.StorageError(line(f"cannot write the backup {self._name}: {why}"), hint=hint, path=self._target)


def _sync_folder(path: str) -> None:
    """SQLite has synced the file; its new name is the folder's. Where a folder cannot be read, it cannot be synced."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
