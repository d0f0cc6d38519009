"""Runs the writer's jobs, one at a time, each harmless to its neighbours in the batch."""

from __future__ import annotations

import threading
from time import monotonic

from millpond import messages
from millpond.engine.sqlite.calls import FunctionWrite, StatementWrite, WriteCall
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.job_errors import error_of
from millpond.engine.sqlite.writer_host import WriterHost
from millpond.statements.profile import Kind

__all__ = ["Jobs"]


class Jobs:
    """running: what an interrupt may strike now, set under the lock; alone: nobody shares its transaction.

    schema_touched: one has changed the schema.
    """

    def __init__(self, host: WriterHost, lock: threading.Lock) -> None:
        self._host = host
        self._lock = lock
        self.running: WriteCall | None = None
        self.alone: WriteCall | None = None
        self.schema_touched = False

    def run(
        self, call: WriteCall, connection: Connection, together: bool, *, here: bool = False, guarded: bool = False
    ) -> bool:
        """True: it ran. False: it failed, `call.error` says how; nothing of it is left, or the transaction is gone.

        here: on the loop that could stop it, so it cannot be stopped while it runs. guarded: among its neighbours
        are some that cannot run again.
        """
        db, run = connection.db, connection.run
        savepoint = together and (guarded or call.savepoint)
        changes = 0 if savepoint else db.total_changes()
        call.started = monotonic()
        try:
            if savepoint:
                run("SAVEPOINT job")
            if here:
                call.result = call.run(connection)
            else:
                self.running = call
                try:
                    call.result = call.run(connection)
                finally:
                    self.running_is(None)
            if not db.in_transaction:
                raise messages.transaction_lost(cause_sql=None if isinstance(call, FunctionWrite) else call.sql)
            if connection.deferred_violations():
                keys = connection.violated_keys()
                raise messages.deferred_violation(messages.clip(call.sql), call.sql, keys)
            if call.stop and (savepoint or not together):
                raise self._host.late(call, call.timeout_s, running=False)
            if savepoint:
                run("RELEASE job")
            if call.cost is not None:
                call.cost.ran_again(monotonic() - call.started)
            if isinstance(call, StatementWrite) and call.profile.kind is Kind.SCHEMA:
                self.schema_touched = True
        except BaseException as exc:
            call.error = error_of(self._host, call, exc)
            if db.in_transaction:
                if savepoint:
                    run("ROLLBACK TO job")
                    run("RELEASE job")
                elif not together or db.total_changes() != changes:
                    run("ROLLBACK")  # something of it would stay: its neighbours run again
            return False
        return True

    def running_is(self, call: WriteCall | None) -> None:
        """From now on this is what an interrupt may strike."""
        with self._lock:
            self.running = call

    def stop(self, call: WriteCall, connection: Connection | None, *, neighbours: bool) -> None:
        """Under the lock: stop it if it runs. neighbours: though they must run again."""
        if self.running is call and (neighbours or self.alone is call) and connection is not None:
            connection.db.interrupt()

    def tell_schema(self, connection: Connection | None) -> None:
        """A transaction that changed the schema has ended, well or not: what was learnt inside may be wrong now."""
        if self.schema_touched:
            self.schema_touched = False
            if connection is not None:
                connection.look_at_schema()
            self._host.schema_changed()
