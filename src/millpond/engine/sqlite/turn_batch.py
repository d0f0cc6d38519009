"""A batch that the event loop fills itself, for the rest of one of its turns."""

from __future__ import annotations

from millpond.engine.sqlite.calls import WriteCall
from millpond.engine.sqlite.grant import Grant, Lease
from millpond.scheduling.write_queue import State

__all__ = ["TurnBatch"]


class TurnBatch:
    """The writer's connection in the loop's hands: what is proven cheap is run where it was asked for.

        parked thread --BEGIN by the loop--> jobs and short leases --end of the turn--> COMMIT, answers

    Nothing passes through the queue. At the end of the turn the loop commits itself where that is short; else the
    thread is woken for it, once per batch. If the loop does not come to the end of its turn, the thread takes the
    connection back. full: what it did is to be on disk before it is answered. mixes: that may still be decided.
    until: nothing more is put in after it, since what is in waits for the COMMIT. error: the loop's COMMIT failed.
    """

    __slots__ = ("_ender", "begun", "done", "error", "full", "grant", "leases", "mixes", "room", "until")

    def __init__(self, grant: Grant, *, full: bool, mixes: bool, begun: float, room: int, budget_s: float) -> None:
        self._ender: int | None = None
        self.grant = grant
        self.full = full
        self.mixes = mixes
        self.error: BaseException | None = None
        self.begun = begun
        self.until = begun + budget_s
        self.room = room
        self.done: list[WriteCall] = []
        self.leases = 0

    def takes(self, call: WriteCall, now: float) -> bool:
        """May this one come in now?"""
        if self.room <= 0 or now >= self.until:
            return False
        if call.full and not self.full:
            self.full = self.mixes
            return self.mixes
        return True

    def claim(self, thread: int) -> bool:
        """Under the writer's lock: who brings it to its end? The first thread that asks."""
        if self._ender is None:
            self._ender = thread
        return self._ender == thread

    def hand_over(self, error: BaseException) -> None:
        """Under the writer's lock: the loop could not commit, and leaves the rest to the thread."""
        self.error = error
        self._ender = None

    def begin(self, lease: Lease) -> bool:
        """Let a lease begin. False: another one is under way, or the turn is over."""
        if not self.grant.enter(lease):
            return False
        lease.state = State.RUNNING
        self.room -= 1
        self.leases += 1
        return True
