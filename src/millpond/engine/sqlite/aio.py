"""A file synced by the C library's own thread: neither it nor the word that it is done waits for the interpreter."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import sys
from contextlib import ExitStack
from ctypes import byref, c_char_p, c_int, c_size_t, c_void_p
from functools import cache

__all__ = ["FileSync"]

_SIGEV_THREAD = 2
_ONE = (1).to_bytes(8, sys.byteorder)
_ROOM = 1024
"""Bytes of a control block and what the library keeps behind it: 168 with glibc and with musl."""

_PIECE = 2**20
_PURGE = "__fpurge"  # as an attribute of a class it would be mangled


class _Event(ctypes.Structure):
    """`struct sigevent`, as far as it is filled in here. Source: POSIX.1-2017, <signal.h>; Linux, 64 bits."""

    _fields_ = (
        ("value", c_void_p), ("signal", c_int), ("notify", c_int), ("function", c_void_p), ("attributes", c_void_p),
        ("_rest", c_int * 8),
    )  # fmt: skip


class _Block(ctypes.Structure):
    """`struct aiocb`, as far as it is filled in here. Source: POSIX.1-2017, <aio.h>; glibc and musl, 64 bits."""

    _fields_ = (
        ("file", c_int), ("operation", c_int), ("priority", c_int), ("buffer", c_void_p), ("length", c_size_t),
        ("event", _Event), ("_rest", ctypes.c_char * _ROOM),
    )  # fmt: skip


class FileSync:
    """`fdatasync()` of one file, one at a time; `descriptor` is readable when it is done.

    A Python thread that syncs needs the interpreter to begin and to tell of the end: from a loop that has much to
    do it gets it up to 5 ms later each time. Here the C library's thread syncs, and ends by flushing a stream whose
    buffer holds what makes an eventfd readable. Source: POSIX aio_fsync() with SIGEV_THREAD.

    Not for a file whose locks matter: closing its descriptor drops this process's POSIX locks on it. A `-wal` has
    none, SQLite's are on the database and the `-shm`.
    """

    def __init__(self, path: str) -> None:
        """Raises: OSError, also where the C library has none of it."""
        library, self._free = _library()
        self._c = library
        with ExitStack() as opened:
            # Linux tells of a failure once to each open file: whoever syncs here and now has one of his own.
            self._file = _opened(opened, os.open(path, os.O_RDWR | os.O_CLOEXEC))
            self._behind = _opened(opened, os.open(path, os.O_RDWR | os.O_CLOEXEC))
            self.descriptor = _opened(opened, os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
            self._stream = library.fdopen(self.descriptor, b"w")
            # From the C library, never given back: it may still be written to while the interpreter ends.
            self._address = library.calloc(1, ctypes.sizeof(_Block))
            if not self._stream or not self._address:
                raise OSError(ctypes.get_errno(), "no memory for syncing a file")
            opened.pop_all()
        block = _Block.from_address(self._address)
        block.file = self._behind
        block.event.notify = _SIGEV_THREAD
        block.event.function = ctypes.cast(library.fflush, c_void_p).value
        block.event.value = self._stream
        self._poll = select.poll()
        self._poll.register(self.descriptor, select.POLLIN)
        self.is_running = False

    def start(self) -> None:
        """Begin to sync what is written by now. Raises: OSError if it could not begin."""
        self._c.fwrite(_ONE, len(_ONE), 1, self._stream)
        if self._c.aio_fsync(os.O_DSYNC, self._address):
            raise OSError(ctypes.get_errno(), "a sync could not begin")
        self.is_running = True

    def ended(self) -> bool:
        """Is it done? Asked whenever there is something to read.

        Raises: OSError if the sync failed: what it was to sync may be lost, whatever later ones say.
        """
        heard = self._hear()
        if not self.is_running:
            return True
        found = self._c.aio_error(self._address)
        if found == errno.EINPROGRESS:
            return False
        self.is_running = False
        self._c.aio_return(self._address)
        if not heard:
            self._poll.poll()  # the stream is about to be flushed
            self._hear()
        if found:
            raise OSError(found, os.strerror(found))
        return True

    def _hear(self) -> bool:
        try:
            return os.eventfd_read(self.descriptor) > 0
        except BlockingIOError:
            return False

    def wait(self) -> None:
        """Block until it is done. Raises: as `ended`."""
        if self.is_running:
            blocks = (c_void_p * 1)(self._address)
            while not self.ended():
                self._free.aio_suspend(byref(blocks), 1, None)

    def now(self) -> None:
        """Sync, and block until it is done. Raises: OSError, as `ended`."""
        os.fdatasync(self._file)

    def rewrite(self) -> None:
        """Write the file's own bytes over it once more, and sync them. Nobody else may write to it meanwhile.

        After a sync that failed the system may take what it could not write for written: syncing again would say so.
        Source: Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020.

        Raises: OSError.
        """
        at = 0
        while piece := os.pread(self._file, _PIECE, at):
            at += os.pwrite(self._file, piece, at)
        os.fdatasync(self._file)

    def forked(self) -> None:
        """In a child process: it must not flush its copy of the stream when it ends."""
        getattr(self._c, _PURGE)(self._stream)

    def close(self) -> None:
        """Nothing may be running."""
        self._c.fclose(self._stream)
        os.close(self._behind)
        os.close(self._file)


def _opened(all_of_them: ExitStack, descriptor: int) -> int:
    """It is closed with the others, should anything fail before they are of use."""
    all_of_them.callback(os.close, descriptor)
    return descriptor


@cache
def _library() -> tuple[ctypes.PyDLL, ctypes.CDLL]:
    """The C library, called with the interpreter held, and without it for what blocks.

    Raises: OSError where what is wanted is not there.
    """
    if not sys.platform.startswith("linux") or ctypes.sizeof(c_void_p) != 8:
        raise OSError(errno.ENOSYS, "the layout of a control block is known for 64-bit Linux only")
    holding, free = ctypes.PyDLL(None, use_errno=True), ctypes.CDLL(None, use_errno=True)
    try:
        for name, result, arguments in (
            ("fdopen", c_void_p, (c_int, c_char_p)),
            ("calloc", c_void_p, (c_size_t, c_size_t)),
            ("fwrite", c_size_t, (c_char_p, c_size_t, c_size_t, c_void_p)),
            ("fflush", c_int, (c_void_p,)),
            (_PURGE, None, (c_void_p,)),
            ("fclose", c_int, (c_void_p,)),
            ("aio_fsync", c_int, (c_int, c_void_p)),
            ("aio_error", c_int, (c_void_p,)),
            ("aio_return", ctypes.c_ssize_t, (c_void_p,)),
        ):
            function = getattr(holding, name)
            function.restype, function.argtypes = result, arguments
        free.aio_suspend.argtypes = (c_void_p, c_int, c_void_p)
    except AttributeError as exc:
        raise OSError(errno.ENOSYS, f"the C library has no {exc.name}") from exc
    return holding, free
