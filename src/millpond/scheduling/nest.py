"""Whose turn it is in a transaction while savepoints are open.

A savepoint undoes whatever ran since it began, whoever ran it. So while one is open, only its owner and
those whom the owner started inside it may run; others wait until it ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

__all__ = ["Nest", "Ticket"]


class Ticket:
    """A place in the line. chain: the savepoints that its holder is inside of, the innermost last."""

    __slots__ = ("chain", "waiter")

    def __init__(self, chain: Sequence[object], waiter: Any) -> None:
        self.chain = chain
        self.waiter = waiter


class Nest:
    """The open savepoints of one transaction, the innermost last, and who waits for their end.

    A caller's level is the innermost open savepoint of its chain. It may run while its level is on top and
    nobody of that level came before it: so savepoints of several tasks follow one another in turns.
    """

    __slots__ = ("_open", "_waiting")

    def __init__(self) -> None:
        self._open: list[object] = []
        self._waiting: deque[Ticket] = deque()

    def __bool__(self) -> bool:
        return bool(self._open or self._waiting)

    def __contains__(self, mark: object) -> bool:
        return mark in self._open

    @property
    def top(self) -> Any:
        """The innermost savepoint, None outside of all."""
        return self._open[-1] if self._open else None

    def may(self, chain: Sequence[object], ticket: Ticket | None = None) -> bool:
        """May a caller run now, with the ticket that it drew when it could not?"""
        first = self.next() if self._waiting else None
        return self._level(chain) is self.top and (first is None or first is ticket)

    def wait(self, chain: Sequence[object], waiter: Any) -> Ticket:
        """Join the line; the ticket is to be given back by `drop`."""
        ticket = Ticket(chain, waiter)
        self._waiting.append(ticket)
        return ticket

    def drop(self, ticket: Ticket) -> None:
        """Its holder has run, or gave up."""
        self._waiting.remove(ticket)

    def next(self) -> Ticket | None:
        """The first in the line of those who may run."""
        top = self.top
        return next((ticket for ticket in self._waiting if self._level(ticket.chain) is top), None)

    def enter(self, mark: object) -> None:
        """A savepoint begins."""
        self._open.append(mark)

    def leave(self, mark: object) -> None:
        """A savepoint ends, and with it those that were begun inside it."""
        if mark in self._open:
            del self._open[self._open.index(mark) :]

    def end(self) -> list[Ticket]:
        """The transaction is over: nothing is open any more. Who waited is to be told."""
        self._open.clear()
        return list(self._waiting)

    def _level(self, chain: Sequence[object]) -> object | None:
        return next((mark for mark in reversed(chain) if mark in self._open), None) if self._open else None
