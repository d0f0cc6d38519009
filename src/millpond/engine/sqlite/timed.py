"""A read that looks at the clock itself, where nobody else could stop it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import apsw

from millpond import messages
from millpond.engine.sqlite.connection import Connection, Parameters, Shape
from millpond.statements.profile import Profile

__all__ = ["read_in_time"]

STEPS = 2_000
"""Between two looks at the clock, about 20 microseconds of work."""


def read_in_time(
    connection: Connection,
    profile: Profile,
    params: Parameters,
    shape: Shape,
    timeout_s: float,
    translate: Callable[[BaseException, str | None], BaseException],
) -> Any:
    """Run a read in the calling thread. Raises: DeadlineExceeded after `timeout_s`; errors.Error."""
    started = monotonic()
    until = started + timeout_s
    connection.db.set_progress_handler(lambda: monotonic() >= until, STEPS)
    try:
        return connection.query(profile, params, shape)
    except apsw.InterruptError as exc:
        raise messages.deadline_exceeded(
            sql=profile.sql, timeout_s=timeout_s, queue_s=0.0, lock_s=0.0, running_s=monotonic() - started
        ) from exc
    except Exception as exc:
        raise translate(exc, profile.sql) from exc
    finally:
        connection.db.set_progress_handler(None)
