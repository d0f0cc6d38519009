"""asyncio's tasks as callers: futures to wait on, one wake of the loop per batch, deadlines by one timer."""

from __future__ import annotations

import asyncio
import threading
import types
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any, TypeVar

from millpond.places import is_outside
from millpond.ports import Reply
from millpond.scheduling.deadlines import Deadlines, Timed, Watched

__all__ = ["TaskPort", "Watch", "let_others_run"]

T = TypeVar("T")


class TaskPort:
    """Reaches callers on one event loop."""

    wakes_together = True
    has_turns = True

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()
        self._turn = 0
        self._turn_seen = False
        self.waiter: Callable[[], asyncio.Future[Any]] = loop.create_future
        self.soon: Callable[[Callable[[], None]], Any] = loop.call_soon
        # Given the loop, nothing asks the system which process this is, as get_running_loop() does each time.
        self.caller: Callable[[], asyncio.Task[Any] | None] = partial(asyncio.current_task, loop)

    def serves_this_task(self) -> bool:
        """Is the code that asks run by a task of this loop? (False also for plain callbacks of the loop.)"""
        return threading.get_ident() == self._thread and self.caller() is not None

    def settle(self, replies: Sequence[Reply]) -> None:
        if not replies:
            return
        if threading.get_ident() == self._thread:
            _deliver(replies)
            return
        try:
            self._loop.call_soon_threadsafe(_deliver, replies)
        except RuntimeError:
            return  # the loop is closed: nobody waits any more

    def on_readable(self, descriptor: int, callback: Callable[[], None]) -> None:
        self.call(self._loop.add_reader, descriptor, callback)

    def off_readable(self, descriptor: int, then: Callable[[], None]) -> None:
        def off() -> None:
            self._loop.remove_reader(descriptor)
            then()

        try:
            self._loop.call_soon_threadsafe(off)
        except RuntimeError:
            then()  # the loop is closed, and looks at nothing any more

    def turn(self) -> int:
        if not self._turn_seen:
            self._turn_seen = True
            self.soon(self._next_turn)
        return self._turn

    def _next_turn(self) -> None:
        self._turn_seen = False
        self._turn += 1

    def call(self, callback: Callable[..., Any], *args: Any) -> None:
        """Call back on the loop, from any thread; not at all once the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            return

    async def in_thread(self, work: Callable[[], T], cancel: Callable[[], None] | None = None) -> T:
        """Run what blocks in a thread of its own. A cancelled caller waits for its end all the same.

        cancel: called then, to bring the end about.
        """
        done: asyncio.Future[T] = self._loop.create_future()

        def main() -> None:
            try:
                result = work()
            except BaseException as exc:
                self.call(_set_exception, done, exc)
            else:
                self.call(_set_result, done, result)

        threading.Thread(target=main, name="millpond-blocking", daemon=True).start()
        cancelled: asyncio.CancelledError | None = None
        while not done.done():
            try:
                await asyncio.shield(done)
            except asyncio.CancelledError as exc:
                cancelled = exc
                if cancel is not None:
                    cancel()
            except BaseException:
                if not done.done():
                    raise  # not its result, which is raised below
        if cancelled is not None:
            done.exception()
            raise cancelled
        return done.result()

    def caller_name(self, caller: Any, code: types.CodeType | None = None) -> tuple[str | None, str | None]:
        """The task's name, and the first thing that it awaits outside of the module of `code`.

        code: of the function that holds the transaction; without it, or where it is not to be seen, the task's
        own function stands for it.
        """
        if not isinstance(caller, asyncio.Task):
            return None, None
        chain = _awaited(caller.get_coro())
        holders = [i for i, (coroutine, _) in enumerate(chain) if coroutine.cr_code is code]
        below = chain[holders[-1] if holders else 0 :]
        home = below[0][1] if below else None
        for coroutine, module in below:
            if module != home:
                return caller.get_name(), f"{module.split('.')[0]}.{coroutine.__qualname__}"
        return caller.get_name(), None

    def caller_frame(self, caller: Any) -> types.FrameType | None:
        if not isinstance(caller, asyncio.Task):
            return None
        own = [coroutine.cr_frame for coroutine, module in _awaited(caller.get_coro()) if is_outside(module)]
        return own[-1] if own else None


class Watch:
    """Calls back for calls whose deadline has passed, by one timer of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, usual_s: float, late: Callable[[Any], None]) -> None:
        self._loop = loop
        self._deadlines = Deadlines(usual_s)
        self._late = late
        self._timer: asyncio.TimerHandle | None = None
        self._armed_for = float("inf")

    def add(self, call: Timed, timeout_s: float) -> Watched:
        """Watch over a call until the place that is returned is emptied."""
        place = self._deadlines.add(call, timeout_s)
        deadline = call.deadline
        if deadline is not None and deadline < self._armed_for:
            self._arm(deadline)
        return place

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = at
        self._timer = self._loop.call_at(at, self._look)

    def _look(self) -> None:
        self._timer = None
        self._armed_for = float("inf")
        # A timer may fire up to the clock's resolution early.
        for call in self._deadlines.due(self._loop.time() + 0.001):
            self._late(call)
        following = self._deadlines.next()
        if following is not None and following < self._armed_for:
            self._arm(following)


@types.coroutine
def let_others_run() -> Generator[None, None, None]:
    """Give up the rest of this turn of the loop."""
    yield


def _awaited(coroutine: Any) -> list[tuple[Any, str]]:
    """A coroutine, what it awaits, and so on, each with its module; what has no frame is left out."""
    chain: list[tuple[Any, str]] = []
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None)
        if frame is not None:
            chain.append((coroutine, frame.f_globals.get("__name__", "")))
        coroutine = getattr(coroutine, "cr_await", None)
    return chain


def _deliver(replies: Sequence[Reply]) -> None:
    for call, result, error in replies:
        waiter: Any = call.waiter
        if not waiter.done():
            if error is None:
                waiter.set_result(result)
            else:
                waiter.set_exception(error)


def _set_result(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():
        future.set_result(result)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
