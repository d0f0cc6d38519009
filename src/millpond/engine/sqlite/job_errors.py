"""What the callers of failed and lost jobs are told."""

from __future__ import annotations

import apsw

from millpond import errors, messages
from millpond.engine.sqlite.calls import FunctionWrite, WriteCall
from millpond.engine.sqlite.grant import Lease
from millpond.engine.sqlite.writer_host import WriterHost

__all__ = ["error_of", "lost_with"]


def error_of(host: WriterHost, call: WriteCall, exc: BaseException) -> BaseException:
    """Of a job that failed: the engine's errors in Millpond's words, its own as they are."""
    if call.stop and getattr(exc, "extended_code", getattr(exc, "extendedresult", 0)) == apsw.SQLITE_INTERRUPT:
        return host.late(call, call.timeout_s, running=False)
    if isinstance(exc, apsw.Error) or not isinstance(call, FunctionWrite):
        return host.translate(exc, call.sql)
    if isinstance(exc, StopIteration):
        error = RuntimeError("the function given to write raised StopIteration")  # no future takes one
        error.__cause__ = exc
        return error
    return exc


def lost_with(cause: BaseException | None, lease: Lease) -> errors.TransactionLost:
    """Of an interactive transaction that had ended, and went with its batch."""
    error = messages.transaction_lost(opened=lease.place, cause=str(cause), shared=True)
    error.__cause__ = cause
    return error
