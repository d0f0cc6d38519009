"""Ends the inline reader's kept transaction where callers are threads, which have no turns that end."""

from __future__ import annotations

import threading

from millpond.engine.sqlite.bell import Bell
from millpond.engine.sqlite.inline import InlineReader

__all__ = ["IdleReads"]

IDLE_S = 0.01
"""No read for so long: its transaction is ended, so that it does not keep the log from shrinking."""


class IdleReads:
    """A thread that sleeps until a transaction is kept, and ends it once nobody reads any more.

    lock: held by whoever uses the reader, and by those who call here.
    """

    def __init__(self, reader: InlineReader, lock: threading.Lock) -> None:
        self._reader = reader
        self._lock = lock
        self._bell = Bell()
        self._asleep = True
        self._closed = False
        self._thread: threading.Thread | None = None

    def kept(self) -> None:
        """A transaction is kept from now on."""
        if self._asleep:
            self._asleep = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name="millpond-idle-reads", daemon=True)
                self._thread.start()
            self._bell.ring()

    def close(self) -> None:
        """The reader is closed."""
        self._closed = True
        self._bell.ring()

    def _main(self) -> None:
        self._bell.wait()
        while True:
            seen = self._reader.reads
            self._bell.wait(IDLE_S)
            with self._lock:
                idle = self._asleep = self._reader.reads == seen
                if idle:
                    self._reader.let_go()
                if self._closed:
                    return
            if idle:
                self._bell.wait()
