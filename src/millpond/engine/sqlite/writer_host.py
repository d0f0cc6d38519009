"""What the writer shows and what it needs."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol

from millpond import errors, events
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.gate import Gate
from millpond.engine.sqlite.grant import Lease
from millpond.engine.sqlite.lock_watch import LockWatch
from millpond.engine.sqlite.result_cache import ResultCache
from millpond.engine.sqlite.turnstile import Turnstile
from millpond.engine.sqlite.watchers import Watchers
from millpond.ports import Port
from millpond.settings import Settings

__all__ = ["Phase", "WriterHost"]


class Phase(enum.Enum):
    """What the writer is at. Published for whoever wants to know where a write waits."""

    IDLE = "idle"
    GATE = "waiting for the write lock"
    WORK = "running jobs"
    LEASE = "granted to a transaction"
    COMMIT = "committing"
    TIDY = "copying the log, or waiting for readers so that it can"
    CLOSED = "closed"


class WriterHost(Protocol):
    """What the writer needs of the engine around it. changes: told of each commit; None while nobody watches."""

    settings: Settings
    port: Port
    cache: ResultCache | None
    changes: Watchers | None
    lock_watch: LockWatch
    observed: bool

    @property
    def memory(self) -> bool: ...
    def open_writer(self) -> Connection: ...
    def open_turnstile(self) -> Turnstile | None: ...
    def verify_files(self) -> errors.Error | None: ...
    def translate(self, exc: BaseException, sql: str | None, *, applied: Any = "no") -> BaseException: ...
    def schema_changed(self) -> None: ...
    def log_grew(self, pages: int, name: str = ...) -> None: ...
    @property
    def log_is_due(self) -> bool: ...
    def tidy_log(self, connection: Connection, gate: Gate) -> None: ...
    def finished_inside(self, sql: str, ran_s: float, result: Any, error: BaseException | None) -> None: ...
    def emit(self, make: Callable[[], events.Event]) -> None: ...
    def late(self, call: Any, timeout_s: float, *, running: bool) -> errors.Error: ...
    def lease_expired(self, lease: Lease, held_s: float) -> errors.Error: ...
    def closed_under(self, lease: Lease, held_s: float) -> errors.Error: ...
