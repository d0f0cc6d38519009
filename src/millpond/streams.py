"""Rows one after another, a slice at a time: the streams of both facades, and what is forgotten of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from millpond import errors
from millpond.engine.sqlite.connection import ALL, Connection
from millpond.engine.sqlite.slices import RowSlices
from millpond.front import Front
from millpond.places import outside, warn_at
from millpond.scheduling.fair_queue import Priority
from millpond.statements.profile import Profile

if TYPE_CHECKING:
    from millpond.database import Database
    from millpond.engine.sqlite.engine import Engine
    from millpond.engine.sqlite.lanes import Session
    from millpond.snapshots import SnapshotReader

__all__ = ["RowStream", "Slices", "Stream", "snapshot_over", "warn_forgotten"]

R = TypeVar("R")

FIRST_SLICE = 64
SLICE = 1_000
"""Rows per step of a stream: few at first, so that the first comes soon; then enough to make hops cheap."""


class Slices:
    """The rows of a running statement in a lane, some at a time. snapshot: whose lane it is, and stays."""

    def __init__(self, sql: str, params: Any, snapshot: SnapshotReader | None = None) -> None:
        self.snapshot = snapshot
        self.sql = sql
        self.params = params
        self.profile: Profile | None = None
        self.session: Session | None = None
        self.ended = False
        self._reading: RowSlices | None = None
        self._size = FIRST_SLICE
        self._busy = False

    def next(self, connection: Connection) -> tuple[list[Any], bool]:
        """In the lane: the next rows, and whether they are the last."""
        assert self.profile is not None
        if self._reading is None:
            self._reading = RowSlices(connection, self.profile, self.params)
        found = self._reading.next(self._size)
        return found, len(found) < self._size

    def __enter__(self) -> None:
        """One caller at a time: two would share the rows at random."""
        if self._busy:
            raise errors.ProgrammingError(
                "this stream is being read by another caller", hint="Give each its own: db.iterate(...)."
            )
        self._busy = True

    def __exit__(self, *_: object) -> None:
        self._busy = False

    def took(self, answer: tuple[list[Any], bool]) -> list[Any]:
        """In the caller: note what came."""
        rows, over = answer
        self._size = SLICE
        if over:
            self.give_back()
            if self.snapshot is not None:
                self.snapshot._streams.remove(self)
        return rows

    def gone(self, db: Front) -> errors.Error:
        """Why there are no more rows, though not all were read."""
        engine = db._engine
        if self.snapshot is not None and engine is not None and engine.is_open:
            return snapshot_over()
        return db._closed()

    def unused_s(self) -> float | None:
        """For how long nobody has asked for a row of a reader that is still held; None where there is none."""
        session = self.session
        if self.snapshot is not None or session is None or session.given_back:
            return None
        return monotonic() - session.last

    def close(self) -> None:
        """In the lane: end the statement."""
        if self._reading is not None:
            self._reading.close()

    def give_back(self) -> None:
        """Free the reader. Twice is once."""
        self.ended = True
        if self.snapshot is not None:
            return
        session = self.session
        if session is not None and not session.given_back:
            reading = self._reading

            def close(_connection: Connection) -> None:
                if reading is not None:
                    reading.close()

            session.give_back(close)


class Stream(Generic[R]):
    """What the streams of both facades hold. place: the line that asked for it."""

    def __init__(
        self,
        db: Any,
        sql: str,
        params: Any,
        into: Any,
        timeout: float | None,
        priority: Priority,
        place: str,
        snapshot: SnapshotReader | None = None,
    ) -> None:
        self._db = db
        self._slices = Slices(sql, params, snapshot)
        self._place = place
        self._into = into
        self._timeout_s = db._seconds(timeout)
        self._priority = priority
        self._rows: Iterator[Any] = iter(())

    def __del__(self) -> None:
        drop(self._db, self._slices, self._place)


class RowStream(Stream[R]):
    """Rows one after another: `async for row in db.iterate(sql):`. One slice is kept at a time.

    Its reader is freed at the end, when the loop is left, at `aclose()`, and when it is collected: with a warning
    if it was kept, without being read from, for longer than `leak_warning_s`. A loop that is left early is no leak.
    """

    _db: Database

    def __aiter__(self) -> RowStream[R]:
        return self

    async def __anext__(self) -> R:
        for row in self._rows:
            return row  # type: ignore[no-any-return]  # as `into=` says
        if self._slices.ended:
            raise StopAsyncIteration
        with self._slices:
            rows = await self._more()
        self._rows = iter(self._db._shaped(rows, self._into, self._slices.sql))
        for row in self._rows:
            return row  # type: ignore[no-any-return]  # as `into=` says
        await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Free the reader. The loop ends at once, whatever was read ahead."""
        self._rows = iter(())
        self._slices.give_back()

    async def _more(self) -> list[Any]:
        db, slices = self._db, self._slices
        if slices.profile is None:
            engine = db._check_open()
            profile = await db._profile(slices.sql)
            snapshot = slices.snapshot
            if snapshot is not None:
                copied: list[Any] | None = snapshot._stream(engine, slices, profile)
                if copied is not None:
                    return copied
            elif not profile.by_readers or engine.memory:
                slices.ended = True
                found: list[Any] = await db._queue(slices.sql, slices.params, ALL, self._timeout_s, self._priority)
                return found
            else:
                slices.session = await db._session("iterate", self._priority, self._timeout_s, self._place)
            slices.profile = profile  # not before: who was cancelled until here begins anew
        session = slices.session
        if session is None or session.given_back:
            raise slices.gone(db)
        try:
            return slices.took(await db._step(session, slices.sql, slices.next, self._timeout_s))
        except BaseException:
            slices.give_back()
            raise


def snapshot_over() -> errors.ProgrammingError:
    """Its block has ended."""
    return errors.ProgrammingError("this snapshot is over", hint="Use it only inside its `with` block.")


def drop(db: Front, slices: Slices, place: str) -> None:
    """A stream is collected. One that was kept unread for long was forgotten; one just left was not."""
    unused_s = slices.unused_s()
    slices.give_back()
    engine = db._engine
    if unused_s is not None and engine is not None and unused_s >= engine.settings.leak_warning_s:
        warn_forgotten(engine, "iterator", place)


def warn_forgotten(engine: Engine, what: str, place: str) -> None:
    """Name the line that opened what nobody closed."""
    engine.leaked(what, place)
    text = f"the {what} opened at {place} was forgotten; it is given back"
    warn_at(outside(sys._getframe(1)), text, ResourceWarning)
