"""Commits that are in the log and wait there for the disk, behind the event loop's back."""

from __future__ import annotations

import threading

import apsw

from millpond.engine.sqlite.aio import FileSync
from millpond.engine.sqlite.calls import WriteCall
from millpond.engine.sqlite.commits import Commits
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.writer_host import WriterHost
from millpond.ports import Reply

__all__ = ["LogSync"]


class LogSync:
    """Syncs the log, and then answers those who wait for it.

        committed by the loop --add--> next --begin--> under way --the disk has it--> answered

    A commit that comes while a sync is under way waits for the next one: that one may have begun before it. The
    write lock is free all the while, so that other batches, of other processes too, commit meanwhile; only their
    acknowledgements wait. Source: early lock release, DeWitt et al. 1984; Johnson et al. 2010 (Aether).

    failure: a sync has failed. What it was to sync may be lost though later ones succeed, and with it all that
    follows it in the log, so nothing more is taken before `mend`.
    """

    def __init__(self, path: str, host: WriterHost, commits: Commits) -> None:
        """path: the log's. Raises: OSError where it cannot be had."""
        self._sync = FileSync(path)
        self._host = host
        self._port = port = host.port
        self._commits = commits
        self._lock = threading.Lock()
        self._under_way: list[Reply] = []
        self._next: list[Reply] = []
        self._number = 0
        self._closed = False
        self.failure: OSError | None = None
        port.on_readable(self._sync.descriptor, self._ended)

    @staticmethod
    def serves(connection: Connection) -> bool:
        """Is its log a plain file, for which SQLite's own sync would do the same?"""
        return connection.db.open_vfs == "unix"

    def __repr__(self) -> str:
        return f"<LogSync: {len(self._under_way)} answers wait for the disk, {len(self._next)} for the next sync>"

    def add(self, replies: list[Reply]) -> None:
        """On the loop: answer these when what is in the log now is on disk."""
        with self._lock:
            self._next += replies
            if self._under_way:
                return
            lost = self._begin()
        self._answer(lost)

    def now(self, replies: list[Reply]) -> None:
        """In the writer's thread: sync what is in the log now, then answer these."""
        number = self._commits.number
        try:
            if self.failure is not None:
                raise self.failure
            self._sync.now()
        except OSError as exc:
            self.failure = exc
            self._lost(replies, exc)
        else:
            self._commits.synced(number)
            self._port.settle(replies)

    def mend(self, connection: Connection) -> BaseException | None:
        """In the writer's thread, with the write lock, after a failure: write the log once more, and sync it.

        Ends the transaction. Returns why it failed once more, for those who wait.
        """
        try:
            self._sync.rewrite()
            self.failure = None
            return None
        except OSError as exc:
            return self.error(exc, None, applied="no")
        finally:
            connection.run("ROLLBACK")

    def error(self, failure: OSError, sql: str | None, *, applied: str) -> BaseException:
        """What those are told whose write could not be synced."""
        cause: BaseException = apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        cause.__cause__ = failure
        error: BaseException = self._host.translate(cause, sql, applied=applied)
        return error

    def close(self) -> None:
        """In the writer's thread, at its end: wait for the disk, answer all."""
        with self._lock:
            self._closed = True
            answered, self._under_way = self._under_way, []
            failure = self.failure
            try:
                self._sync.wait()
                if self._next:
                    self._sync.now()
            except OSError as exc:
                failure = exc
            answered += self._next
        if failure is None:
            self._port.settle(answered)
        else:
            self._lost(answered, failure)
        self._port.off_readable(self._sync.descriptor, self._sync.close)

    def forked(self) -> None:
        """In a child process."""
        self._sync.forked()

    def _begin(self) -> list[Reply]:
        """Under the lock. Returns those that cannot be synced."""
        if self.failure is None:
            self._under_way, self._next = self._next, []
            self._number = self._commits.number
            try:
                self._sync.start()
                return []
            except OSError as exc:
                self.failure = exc
        lost = self._under_way + self._next
        self._under_way, self._next = [], []
        return lost

    def _ended(self) -> None:
        """On the loop: the sync that was under way may be over."""
        with self._lock:
            if self._closed:
                return
            try:
                if not self._sync.ended():
                    return
            except OSError as exc:
                self.failure = exc
            lost: list[Reply] = []
            synced, self._under_way = self._under_way, []
            if self.failure is None:
                self._commits.synced(self._number)
            else:
                lost, synced = synced, []
            if self._next:
                lost += self._begin()
        self._port.settle(synced)
        self._answer(lost)

    def _answer(self, lost: list[Reply]) -> None:
        if lost:
            assert self.failure is not None
            self._lost(lost, self.failure)

    def _lost(self, replies: list[Reply], failure: OSError) -> None:
        """They are in the log, for all to see; whether they are on disk nobody knows."""
        calls = [call for call, _, error in replies if error is None and isinstance(call, WriteCall)]
        self._port.settle([(call, None, self.error(failure, call.sql, applied="unknown")) for call in calls])
