"""A statement of the writer's that wants no transaction around it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import apsw

from millpond.engine.sqlite.calls import WriteCall
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.job_errors import error_of
from millpond.engine.sqlite.jobs import Jobs
from millpond.engine.sqlite.writer_host import WriterHost
from millpond.ports import Reply

__all__ = ["run_outside"]


def run_outside(
    host: WriterHost,
    call: WriteCall,
    connection: Connection,
    jobs: Jobs,
    is_over: Callable[[], bool],
) -> Reply:
    """Run it, as often as a lock is in its way until its deadline. jobs: told what may be stopped."""
    call.started = monotonic()
    while True:
        try:
            jobs.alone = call
            jobs.running_is(call)
            try:
                return (call, call.run(connection), None)
            finally:
                jobs.running_is(None)
                jobs.alone = None
        except (apsw.BusyError, apsw.LockedError) as exc:
            late = call.deadline is not None and monotonic() >= call.deadline
            if call.stop or late or is_over():
                return (call, None, host.translate(exc, call.sql))
        except BaseException as exc:
            return (call, None, error_of(host, call, exc))
