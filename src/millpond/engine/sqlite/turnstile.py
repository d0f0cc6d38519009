"""Turns between the processes that write one file through Millpond."""

from __future__ import annotations

import itertools
import mmap
import os
import select
import struct
from collections.abc import Callable
from time import monotonic
from typing import Final

from millpond.engine.sqlite import platform

__all__ = ["Turnstile"]

SUFFIX: Final = "-gate"
POLL_S = 0.0003
"""Between two looks at a lock that another process has: a fraction of a batch. The kernel's own wait has no end
that a deadline or a close could set."""
TURN_S = 0.004
"""A turn may hold several batches: passing it on costs the others' waking up."""
GIVE_WAY_S = 0.003
"""Who has just written lets others go first for so long at most: a dead waiter's flag costs no more."""
HOLD_MOST_S = 60.0
"""As in the setting's range: what is beyond it is of another time."""
_HOLD_AT: Final = 8
_HOLD: Final = struct.Struct("=d")
_FLAGS: Final = slice(64, 64 + 256)
_PRESENCE_AT: Final = 0
_COUNTER: Final = struct.Struct("=I")
_PAGE = 4096
_EXCLUSIVE, _AT_ONCE, _UNLOCK = 2, 4, 8
"""flock's operations on Linux; the module fcntl is not everywhere."""
_number = itertools.count()


class Turnstile:
    """A side file whose lock (flock) is held by whoever writes: the kernel takes it back from the dead.

    Its page is mapped by all: a counter of turns, and a flag for each process that waits. Who leaves while a
    flag is up gives way until the counter has moved; without that it takes the lock again at once, since the
    others have to wake up first. Beside them, until when new long reads are to wait for the log to be drained.
    SQLite's own lock stays the truth: programs that do not know the turnstile are met there, and where the side
    file cannot be had, is deleted or is full, all goes on without it.
    """

    def __init__(self, path: str, descriptor: int, page: mmap.mmap, lock: Callable[[int, int], None]) -> None:
        self._path = path
        self._descriptor: int | None = descriptor
        self._page = page
        self._lock = lock
        self._flag = _own_flag(descriptor)
        self._turn = -1
        self._since = 0.0
        self._held = False

    @staticmethod
    def open(database: str) -> Turnstile | None:
        """For the database at this path. None where it cannot be had."""
        if not platform.linux_facts:
            return None
        import fcntl

        path = database + SUFFIX
        try:
            mode = os.stat(database).st_mode & 0o777
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        except OSError:
            return None
        try:
            if os.fstat(descriptor).st_size < _PAGE:
                os.posix_fallocate(descriptor, 0, _PAGE)  # a page without room on the disk would kill who maps it
            _lock_byte(descriptor, fcntl.F_RDLCK, _PRESENCE_AT)
            found = Turnstile(path, descriptor, mmap.mmap(descriptor, _PAGE), fcntl.flock)
            if not found.is_shared:
                found.hold_reads(0.0)  # whoever asked for that is gone, and perhaps its clock
            return found
        except (OSError, ValueError):
            os.close(descriptor)
            return None

    @property
    def crowded(self) -> bool:
        """Does another process wait?"""
        flags = self._page[_FLAGS]
        return flags.count(1) > (self._page[self._flag] == 1)

    def wait(self, is_wanted: Callable[[], bool]) -> bool:
        """Wait for our turn as long as `is_wanted()`. False: nobody wants it any more."""
        self._page[self._flag] = 1
        try:
            self._give_way()
            while not self._take():
                if not is_wanted():
                    return False
                _pause(POLL_S)
                self._page[self._flag] = 1  # who did not wake up in time was taken for dead
            return True
        finally:
            self._page[self._flag] = 0

    def slip_in(self) -> bool:
        """Take the turn if it is free, and nobody waits for it or it was ours just now."""
        return (self._is_ours_still() or not self.crowded) and self._take()

    def leave(self) -> None:
        """Our turn is over. Twice is once."""
        if self._held and self._descriptor is not None:
            self._held = False
            self._call(_UNLOCK)

    @property
    def is_shared(self) -> bool:
        """Is another process here?"""
        import fcntl

        descriptor = self._descriptor
        if descriptor is None:
            return False
        asked = struct.pack("hhqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, _PRESENCE_AT, 1, 0)
        found: int = struct.unpack_from("h", fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked))[0]
        return found != fcntl.F_UNLCK

    def hold_reads(self, seconds: float) -> None:
        """Ask all for holding new long reads back, for so long at least; 0: no longer, the log is drained."""
        if self._descriptor is not None:
            until = monotonic() + max(seconds, self.reads_held_s()) if seconds else 0.0
            _HOLD.pack_into(self._page, _HOLD_AT, until)

    def reads_held_s(self) -> float:
        """For how many seconds yet somebody asks for that, by the clock that all processes share."""
        left: float = _HOLD.unpack_from(self._page, _HOLD_AT)[0] - monotonic()
        return left if 0.0 < left <= HOLD_MOST_S else 0.0

    def close(self) -> None:
        """The last one out removes the side file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        import fcntl

        try:
            _lock_byte(descriptor, fcntl.F_WRLCK, _PRESENCE_AT)
            os.unlink(self._path)
        except OSError:
            pass  # another process is here, or the file is gone already
        self._page.close()
        os.close(descriptor)

    def forked(self) -> None:
        """In a child process: the lock stays the parent's alone."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _take(self) -> bool:
        if not self._call(_EXCLUSIVE | _AT_ONCE):
            return False
        self._held = True
        counter = self._counter
        if counter != self._turn:
            self._since = monotonic()
        self._turn = (counter + 1) & 0xFFFFFFFF
        _COUNTER.pack_into(self._page, 0, self._turn)
        return True

    def _is_ours_still(self) -> bool:
        return self._counter == self._turn and monotonic() - self._since < TURN_S

    @property
    def _counter(self) -> int:
        counter: int = _COUNTER.unpack_from(self._page)[0]
        return counter

    def _give_way(self) -> None:
        """Let those who wait go first, if the last turn was ours and has lasted long enough."""
        if self._counter != self._turn or self._is_ours_still() or not self.crowded:
            return
        until = monotonic() + GIVE_WAY_S
        while monotonic() < until:
            _pause(POLL_S / 2)
            if self._counter != self._turn:
                return
        self._page[_FLAGS] = bytes(_FLAGS.stop - _FLAGS.start)  # nobody came: the flags of the dead
        self._page[self._flag] = 1

    def _call(self, operation: int) -> bool:
        descriptor = self._descriptor
        if descriptor is None:
            return True
        try:
            self._lock(descriptor, operation)
        except BlockingIOError:
            return False
        return True


def _own_flag(descriptor: int) -> int:
    """Where the flag is that nobody else here has: whose flag is ours too is not seen to wait."""
    import fcntl

    first, number = os.getpid() * 31 + next(_number), _FLAGS.stop - _FLAGS.start
    for at in range(first, first + number):
        flag = _FLAGS.start + at % number
        try:
            _lock_byte(descriptor, fcntl.F_WRLCK, flag)
        except OSError:
            continue
        return flag
    return _FLAGS.start + first % number


def _lock_byte(descriptor: int, kind: int, at: int) -> None:
    """Lock a byte of the file for as long as it is open. On one all have a shared lock: the last knows that it is."""
    import fcntl

    fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqixxxx", kind, os.SEEK_SET, at, 1, 0))


def _pause(seconds: float) -> None:
    select.select((), (), (), seconds)
