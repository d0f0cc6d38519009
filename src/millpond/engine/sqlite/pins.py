"""Which reader of an old commit keeps the log from being begun anew?"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from time import localtime, monotonic, strftime, time
from typing import Protocol

from millpond import events
from millpond.engine.sqlite import platform
from millpond.engine.sqlite.connection import Setup
from millpond.engine.sqlite.holdback import Reader
from millpond.engine.sqlite.wal_index import WalIndex
from millpond.messages import PLACE_LENGTH, clip, shorten
from millpond.places import describe
from millpond.ports import Port
from millpond.settings import Settings
from millpond.stats import Check, LogPin

__all__ = ["Pins", "PinsHost", "log_check"]

log = logging.getLogger("millpond.checkpoint")

_KINDS = {"iterate": "stream"}
"""A session's kind in people's words."""

_Identity = tuple[object, ...]


class PinsHost(Protocol):
    """What it needs of the engine around it."""

    settings: Settings
    setup: Setup
    port: Port
    index: WalIndex | None

    def readers(self) -> Sequence[Reader]: ...
    def emit(self, make: Callable[[], events.Event]) -> None: ...


class Pins:
    """Looks for the reader, and remembers it from one look to the next.

    The kernel tells which of the five read marks are in use, and by whom; the WAL index what commit each stands
    for. Our own readers say since when they read, those of others are known since they were first seen. Any
    thread may look. last: who it was the last time, if anyone.
    """

    def __init__(self, host: PinsHost) -> None:
        self._host = host
        self._path = host.setup.path
        self._warn_s = host.settings.pin_warning_s
        self._lock = threading.Lock()
        self._seen: _Identity = ()
        self._first = 0.0
        self._told: _Identity = ()
        self._told_at = -self._warn_s
        self.last: LogPin | None = None

    def look(self) -> LogPin | None:
        """Who it is now."""
        self.last = found = self._find(self._host.index, self._host.readers(), monotonic())
        return found

    def pinned(self, wal_bytes: int) -> None:
        """The log could not be begun anew: find out why, and tell it once if it lasts, or if the log is too long."""
        try:
            pin = self.look()
        except Exception as exc:  # whoever writes or checkpoints must not fail by it
            log.error("the reader that keeps the log could not be named", exc_info=exc)
            return
        now = monotonic()
        if pin is None or self._seen == self._told:
            return
        if pin.held_s >= self._warn_s or (
            wal_bytes > self._host.settings.wal_limit_bytes and now - self._told_at >= self._warn_s
        ):
            self._told, self._told_at = self._seen, now
            self._host.emit(
                lambda: events.LogPinned(now, wal_bytes, pin.held_s, pin.what, pin.place, pin.pid, pin.program)
            )

    def unpinned(self) -> None:
        """It was begun anew."""
        self.last = None

    def _find(self, index: WalIndex | None, readers: Sequence[Reader], now: float) -> LogPin | None:
        if index is None:
            return self._ours(readers[0], now, 0) if readers else self._theirs(None, ("unseen",), now, 0)
        view = index.log()
        held = platform.log_readers(self._path)
        # A reader at mark 0 reads the database alone: in its way are not writes but copies, if there is what to copy.
        marks = {slot: view.marks[slot] if slot else 0 for slot in held if slot or view.copied < view.pages}
        if not view.pages or (not marks and view.copied == view.pages):
            return None
        if not marks:
            pages = view.pages - view.copied
            return self._ours(readers[0], now, pages) if readers else self._theirs(None, ("unseen",), now, pages)
        slot = min(marks, key=lambda slot: marks[slot])
        behind = view.pages - marks[slot]
        pids = held[slot]
        if os.getpid() not in pids:
            return self._theirs(pids[0], (pids[0], slot, marks[slot]), now, behind)
        if readers:
            return self._ours(readers[0], now, behind)
        return self._theirs(os.getpid(), ("passing", slot, marks[slot]), now, behind)

    def _ours(self, reader: Reader, now: float, behind: int) -> LogPin:
        place = reader.place
        if place is None or place == reader.what:
            frame = self._host.port.caller_frame(reader.caller)
            place = describe(frame.f_code, frame.f_lineno) if frame is not None else None
        held_s = now - reader.began
        self._since((reader.what, reader.began), now)
        return LogPin(
            _KINDS.get(reader.what, reader.what), place, clip(reader.sql) if reader.sql else None, time() - held_s,
            held_s, os.getpid(), None, True, behind,
        )  # fmt: skip

    def _theirs(self, pid: int | None, identity: _Identity, now: float, behind: int) -> LogPin:
        """Of another process, of another database of this one, or not to be seen."""
        held_s = self._since(identity, now)
        ours = pid == os.getpid()
        program = platform.program_of(pid) if pid is not None and not ours else None
        return LogPin("reader", None, None, time() - held_s, held_s, pid, program, ours, behind)

    def _since(self, identity: _Identity, now: float) -> float:
        """For how long the same has been seen without a break."""
        with self._lock:
            if identity != self._seen:
                self._seen, self._first = identity, now
            return now - self._first


def log_check(wal_bytes: int, limit: int, pin: LogPin | None) -> Check:
    """What health says of the log."""
    size = f"{wal_bytes / 2**20:.1f} MiB"
    if wal_bytes <= limit:
        return Check("log", True, f"the log holds {size}")
    if pin is None:
        return Check("log", False, f"the log has grown to {size}; no reader is in its way, so it will be begun anew")
    return Check("log", False, f"the log has grown to {size} because {_told(pin)}")


def _told(pin: LogPin) -> str:
    since = f"{strftime('%H:%M:%S', localtime(pin.since))} ({_ago(pin.held_s)} ago"
    end = "reads an old commit; end it, and the log is begun anew"
    if pin.ours and (pin.place or pin.sql):
        what = f"{pin.sql}, begun at" if pin.sql else f"a {pin.what} from"
        place = f", {shorten(pin.place, PLACE_LENGTH)}" if pin.place else ""
        return f"{what} {since}{place}) still {end}"
    if pin.ours:
        return (
            f"a read of this process, seen since {since}), does not end: a busy loop, or another database on the file"
        )
    if pin.pid is None:
        return f"a reader that cannot be seen from here (another container?), noticed at {since}), {end}"
    program = f" ({shorten(pin.program, 36)})" if pin.program else ""
    return f"pid {pin.pid}{program}, noticed at {since}), {end}"


def _ago(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6_000 else f"{seconds / 3_600:.1f} h"
