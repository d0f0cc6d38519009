"""Opening a file that others use: waited for like any other lock, and no longer than a call may last."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Event
from time import monotonic, time
from typing import TypeVar

from millpond import errors, messages
from millpond.engine.sqlite import platform

__all__ = ["when_free"]

T = TypeVar("T")


def when_free(attempt: Callable[[], T], path: str, *, timeout_s: float, slice_s: float, given_up: Event) -> T:
    """Open, again and again while another process has the file locked.

    SQLite itself does not wait for the locks that a change of the journal mode needs: it says at once
    that they are held. Between two attempts everything is closed, so that nobody waits for this one.
    given_up: set from outside when nobody waits for the opening any more.

    Raises: what `attempt` raises; LockTimeout with the holder after `timeout_s`.
    """
    started = monotonic()
    pause_s = slice_s
    holder: errors.Holder | None = None
    while True:
        try:
            return attempt()
        except errors.LockTimeout as exc:
            now = monotonic()
            seen = platform.file_lock_holder(path)
            if seen is not None and (holder is None or holder.pid != seen.pid):
                holder = errors.Holder(seen.pid, seen.program, time(), now, None, seen.ours)
            waited = now - started
            if waited >= timeout_s or given_up.wait(min(pause_s, timeout_s - waited)):
                raise messages.cannot_open_yet(
                    os.path.basename(path), waited, _as_of(holder, now), extended_code=exc.extended_code, path=path
                ) from exc
            pause_s = min(2 * pause_s, 3 * slice_s)


def _as_of(holder: errors.Holder | None, now: float) -> errors.Holder | None:
    """held_s was the moment in which it was first seen."""
    if holder is None or holder.held_s is None:
        return holder
    return errors.Holder(holder.pid, holder.program, holder.since, now - holder.held_s, holder.place, holder.ours)
