"""A batch that the event loop fills itself, for the rest of one of its turns."""

from __future__ import annotations

from millpond.engine.sqlite.calls import WriteCall
from millpond.engine.sqlite.grant import Grant, Lease
from millpond.scheduling.write_queue import State

__all__ = ["TurnBatch"]


class TurnBatch:
    """The writer's connection in the loop's hands: what is proven cheap is run where it was asked for.

        parked thread --BEGIN by the loop--> jobs and short leases --end of the turn--> thread: COMMIT, answers

    Nothing passes through the queue, so the thread is woken once per batch, not per job. If the loop
    does not come to the end of its turn, the thread takes the connection back. full: its COMMIT is synced.
    until: nothing more is put in after it, since what is in waits for the COMMIT.
    """

    __slots__ = ("begun", "done", "full", "grant", "leases", "room", "until")

    def __init__(self, grant: Grant, *, full: bool, begun: float, room: int, budget_s: float) -> None:
        self.grant = grant
        self.full = full
        self.begun = begun
        self.until = begun + budget_s
        self.room = room
        self.done: list[WriteCall] = []
        self.leases = 0

    def takes(self, call: WriteCall, now: float) -> bool:
        """May this one come in now?"""
        return self.room > 0 and now < self.until and (self.full or not call.full)

    def begin(self, lease: Lease) -> bool:
        """Let a lease begin. False: another one is under way, or the turn is over."""
        if not self.grant.enter(lease):
            return False
        lease.state = State.RUNNING
        self.room -= 1
        self.leases += 1
        return True
