"""Threads as callers: each waits on a lock of its own."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import CodeType, FrameType
from typing import Any

from millpond.places import outside
from millpond.ports import Reply

__all__ = ["Bound", "ThreadPort", "ThreadWaiter"]


class ThreadWaiter:
    """Where one thread waits for one answer. The first answer counts."""

    __slots__ = ("_error", "_first", "_lock", "_others", "_result", "_settled", "asleep")

    def __init__(self, others: deque[ThreadWaiter]) -> None:
        """others: who has an answer and is not woken yet."""
        self._lock = threading.Lock()
        self._lock.acquire()
        self._settled = False
        self._first = [True]
        self._others = others
        self.asleep = False
        self._result: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        return self._settled

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Give it its answer, and wake it."""
        if self.answer(result, error):
            self._lock.release()

    def answer(self, result: Any, error: BaseException | None) -> bool:
        """Give it its answer. True: it is to be woken."""
        try:
            self._first.pop()  # atomic: an answer and a deadline may come at once
        except IndexError:
            return False
        self._result = result
        self._error = error
        self._settled = True
        return True

    def wake(self) -> bool:
        """True: it sleeps, and wakes the next one of the others in its turn."""
        self._lock.release()
        return self.asleep

    def wait(self, timeout_s: float) -> bool:
        """False when the time is up."""
        try:
            self.asleep = True
            return self._settled or (
                self._lock.acquire(timeout=min(max(0.0, timeout_s), threading.TIMEOUT_MAX)) and self._settled
            )
        finally:
            self.asleep = False
            if self._others:
                wake_next(self._others)

    def give_up(self) -> None:
        """Its thread was interrupted: nobody waits here any more."""
        self.settle(None, None)

    def result(self) -> Any:
        """The answer. Raises: the error."""
        if self._error is not None:
            raise self._error
        return self._result


def wake_next(others: deque[ThreadWaiter]) -> None:
    """Wake the first of these that sleeps; it will wake the next."""
    try:
        while not others.popleft().wake():
            pass
    except IndexError:
        return  # nobody is left


class ThreadPort:
    """Reaches callers in any thread.

    Many answers at once are given to all, but the threads are woken one by the other: each wakes the next before
    it goes on. Woken together they would all want the GIL, and hand it around instead of working.
    """

    wakes_together = False
    has_turns = False

    def __init__(self) -> None:
        self._others: deque[ThreadWaiter] = deque()

    def waiter(self) -> ThreadWaiter:
        return ThreadWaiter(self._others)

    def settle(self, replies: Sequence[Reply]) -> None:
        for call, result, error in replies:
            waiter: Any = call.waiter
            if not isinstance(waiter, ThreadWaiter):
                waiter.settle(result, error)  # a thread of Millpond's own
            elif waiter.answer(result, error):
                self._others.append(waiter)
        wake_next(self._others)

    def soon(self, callback: Callable[[], None]) -> None:
        callback()

    def on_readable(self, descriptor: int, callback: Callable[[], None]) -> None:
        raise AssertionError("threads have no turns")

    def off_readable(self, descriptor: int, then: Callable[[], None]) -> None:
        raise AssertionError("threads have no turns")

    def turn(self) -> int:
        return 0

    def caller(self) -> int:
        return threading.get_ident()

    def caller_name(self, caller: Any, code: CodeType | None = None) -> tuple[str | None, str | None]:
        """The thread's name; what it waits for cannot be seen."""
        for thread in threading.enumerate():
            if thread.ident == caller:
                return thread.name, None
        return None, None

    def caller_frame(self, caller: Any) -> FrameType | None:
        return outside(sys._current_frames().get(caller))


class Bound:
    """Stops what a thread runs on a connection when its time is up."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._over = False
        self.passed = False

    def around(self, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """`work(connection)`, stopped by a timer unless it ends before."""

        def bounded(connection: Any) -> Any:
            timer = threading.Timer(min(self._timeout_s, threading.TIMEOUT_MAX), self._stop, (connection,))
            timer.daemon = True
            timer.start()
            try:
                return work(connection)
            finally:
                with self._lock:
                    self._over = True
                timer.cancel()

        return bounded

    def _stop(self, connection: Any) -> None:
        with self._lock:
            if not self._over:
                self.passed = True
                connection.db.interrupt()
