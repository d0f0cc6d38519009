"""Ctrl-C and SIGTERM, told apart by the exit code only: both end a command with the result so far."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from millpond.cli.exits import Exit

__all__ = ["Stop", "interrupted_code", "interruptible"]


class Stop:
    """code: the exit code of an interrupted command."""

    def __init__(self) -> None:
        self.code = Exit.INTERRUPTED


_current = Stop()


@contextmanager
def interruptible() -> Iterator[Stop]:
    """While inside, SIGTERM raises KeyboardInterrupt as Ctrl-C does."""
    stop = _current
    stop.code = Exit.INTERRUPTED
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread only
        return

    def terminate(number: int, frame: FrameType | None) -> None:
        stop.code = Exit.TERMINATED
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupted_code() -> Exit:
    """130 or 143, by what ended the command that runs."""
    return _current.code
