"""Looks after interactive transactions that are under way: warns of long ones, takes back what is over its limit."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from millpond import errors, events
from millpond.engine.sqlite.bell import Bell
from millpond.engine.sqlite.grant import Grant
from millpond.engine.sqlite.writer_host import WriterHost

__all__ = ["LeaseWatch"]

log = logging.getLogger("millpond.writer")

OPEN_S = 0.05
"""The loop may have the connection so long before the thread takes it back."""
CLOSING_S = 0.1


class LeaseWatch:
    """The writer's eye on a grant. waiting: how many writes wait behind it. expired: leases taken back so far."""

    def __init__(
        self, host: WriterHost, bell: Bell, waiting: Callable[[], int], ends: Callable[[], tuple[bool, bool]]
    ) -> None:
        """ends: is the database closing, and out of time?"""
        self._ends = ends
        self._host = host
        self._bell = bell
        self._waiting = waiting
        self.expired = 0

    def attend(self, grant: Grant, let_others: Callable[[], None]) -> None:
        """In the writer's thread: run what leases send, and look after them, until all are over.

        let_others: called while one takes long.
        """
        while not grant.over or grant.inbox:
            grant.work()
            if grant.over:
                continue
            closing, out_of_time = self._ends()
            wait = self.look(grant, closing=closing, out_of_time=out_of_time)
            if not self._bell.wait(wait) and grant.open:
                grant.shut()
            grant.end_if_shut()
            if self.is_long(grant):
                let_others()  # they meet SQLite's own lock then, and can give up waiting

    def is_long(self, grant: Grant) -> bool:
        """Has the lease that is under way held the connection for longer than a batch takes?"""
        lease = grant.current
        return lease is not None and monotonic() - lease.granted > OPEN_S

    def look(self, grant: Grant, *, closing: bool, out_of_time: bool) -> float:
        """Look after the lease that is under way. Returns seconds until the next look."""
        lease = grant.current
        if lease is None:
            return OPEN_S if grant.open else 0.0
        settings, place = self._host.settings, lease.place
        held = monotonic() - lease.granted
        if lease.abandoned:
            if grant.take_back(lease, errors.TransactionLost(f"the transaction opened at {place} was forgotten")):
                self._host.emit(lambda: events.LeakFound(monotonic(), "transaction", place))
            return 0.0
        if out_of_time and held < settings.max_lease:
            if grant.take_back(lease, self._host.closed_under(lease, held)):
                log.warning("transaction opened at %s was rolled back by close() after %.1f s", place, held)
            return 0.0
        if held >= settings.max_lease:
            if grant.take_back(lease, self._host.lease_expired(lease, held)):
                self.expired += 1
                log.warning("transaction opened at %s was rolled back after %.1f s", place, held)
                self._host.emit(lambda: events.LeaseExpired(monotonic(), place, held))
            return 0.0
        if held >= settings.lease_warning_s and not lease.warned:
            lease.warned = True
            waiting = self._waiting()
            log.warning("transaction opened at %s holds the writer since %.1f s; %d writes wait", place, held, waiting)
            self._host.emit(lambda: events.LeaseHeld(monotonic(), place, held, waiting))
        until = settings.max_lease if lease.warned else settings.lease_warning_s
        wait = min(until, settings.max_lease) - held
        if grant.open or held < OPEN_S:
            return min(wait, OPEN_S)
        return min(wait, CLOSING_S) if closing else wait
