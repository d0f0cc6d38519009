"""The few seams between rooms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import CodeType, FrameType
from typing import Any, Protocol

__all__ = ["Call", "Port", "Reply", "Waiter"]


class Waiter(Protocol):
    """Where a caller waits: an asyncio future, or its twin for threads."""

    def done(self) -> bool: ...


class Call(Protocol):
    """Something queued for which a caller waits."""

    waiter: Waiter


Reply = tuple[Call, Any, BaseException | None]
"""A call with its result or its error."""


class Port(Protocol):
    """How an engine reaches its callers: an event loop, or threads."""

    wakes_together: bool
    """May many callers be woken for a turn that only one of them has? (On a loop they come one by one.)"""
    has_turns: bool
    """Do callers run in turns whose end can be waited for by `soon`?"""

    def waiter(self) -> Any:
        """A new place to wait."""

    def settle(self, replies: Sequence[Reply]) -> None:
        """Hand over results, from any thread; one wake for all of them. Settled calls are passed over."""

    def soon(self, callback: Callable[[], None]) -> None:
        """Call back when the present turn of the callers is over (at once, for threads)."""

    def on_readable(self, descriptor: int, callback: Callable[[], None]) -> None:
        """From any thread, where there are turns: call back on the loop whenever there is something to read."""

    def off_readable(self, descriptor: int, then: Callable[[], None]) -> None:
        """From any thread: no more of it. then: called once the descriptor may be closed."""

    def turn(self) -> int:
        """A number that changes when the callers' turn of their loop is over."""

    def caller(self) -> Any:
        """Who is calling now: the task, or the thread."""

    def caller_name(self, caller: Any, code: CodeType | None = None) -> tuple[str | None, str | None]:
        """A caller's name, and what it awaits, as far as that can be seen. code: whose awaiting is asked for."""

    def caller_frame(self, caller: Any) -> FrameType | None:
        """Where a caller that waits stands in its own code, as far as that can be seen."""
