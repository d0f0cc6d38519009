"""Reads of one commit: `async with db.snapshot() as snap:`, and what it shares with its twin for threads."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Never, TypeVar, overload

from millpond import errors
from millpond.block_reads import BlockReads
from millpond.engine.sqlite.connection import ALL, Connection, Shape
from millpond.engine.sqlite.slices import reading
from millpond.engine.sqlite.timed import read_in_time
from millpond.guesses import with_guesses
from millpond.rows import Row
from millpond.scheduling.fair_queue import Priority
from millpond.statements.profile import Profile
from millpond.streams import RowStream, Slices, snapshot_over, warn_forgotten

if TYPE_CHECKING:
    from millpond.database import Database
    from millpond.engine.sqlite.engine import Engine
    from millpond.engine.sqlite.lanes import Session

__all__ = ["Snapshot", "SnapshotReader", "begin_reading", "end_reading"]

T = TypeVar("T")


class SnapshotReader:
    """What the snapshots of both facades share."""

    def __init__(self, db: Any, timeout: float | None, priority: Priority, place: str) -> None:
        self._db = db
        self._timeout = timeout
        self._priority = priority
        self._place = place
        self._session: Session | None = None
        self._copy: Connection | None = None
        self._begun = False
        self._streams: list[Slices] = []

    def __del__(self) -> None:
        session = self._session
        if session is not None and not session.given_back:
            session.give_back(self._last_step())
            engine = self._db._engine
            if engine is not None:
                warn_forgotten(engine, "snapshot", self._place)

    def _begin(self) -> None:
        if self._begun:
            raise errors.ProgrammingError(
                "this snapshot was begun already", hint="Call db.snapshot() for each block.", applied="no"
            )
        self._begun = True

    def _take_copy(self, engine: Engine, image: bytes | None) -> None:
        """A database in memory has one connection: its snapshot is a copy."""
        self._copy = Connection(engine.setup, readonly=False, uri=":memory:")
        if image:
            self._copy.db.deserialize("main", image)
            self._copy.look_at_schema()

    def _stream(self, engine: Engine, slices: Slices, profile: Profile) -> list[Any] | None:
        """Begin a stream in this snapshot's lane. A copy in memory has no lane: then all its rows."""
        self._readable(profile)
        if self._copy is not None:
            slices.ended = True
            seconds = self._db._seconds(self._timeout)
            found: list[Any] = self._from_copy(engine, profile, slices.params, ALL, seconds)
            return found
        slices.session = self._lane()
        self._streams.append(slices)
        return None

    def _from_copy(self, engine: Engine, profile: Profile, params: Any, shape: Shape, timeout_s: float) -> Any:
        """Here and now: the copy has no thread of its own, but its reads end in time."""
        assert self._copy is not None
        return read_in_time(self._copy, profile, params, shape, timeout_s, engine.translate)

    def _give_back(self) -> None:
        if self._session is not None:
            self._session.give_back(self._last_step())
        if self._copy is not None:
            self._copy.close()
            self._copy = None

    def _last_step(self) -> Callable[[Connection], None]:
        """In the lane: ends the streams that were left early, then the transaction that they read in."""
        streams = tuple(self._streams)

        def last(connection: Connection) -> None:
            for stream in streams:
                stream.close()
            end_reading(connection)

        return last

    def _readable(self, profile: Profile) -> Profile:
        if not profile.is_read:
            raise errors.ProgrammingError(
                "a snapshot only reads",
                hint="Write through `db`; the snapshot will not see it.",
                sql=profile.sql,
                applied="no",
            )
        if not profile.by_readers:
            raise errors.ProgrammingError(
                "a snapshot has neither temporary tables nor last_insert_rowid() and changes()",
                hint="They belong to the connection that writes. Ask `db`, or `tx` inside a transaction.",
                sql=profile.sql,
            )
        return profile

    def _lane(self) -> Session:
        session = self._session
        if session is None or session.given_back:
            raise snapshot_over()
        return session


@with_guesses("a snapshot", awaits=True, handle="snap")
class Snapshot(SnapshotReader, BlockReads):
    """Reads of one commit: `async with db.snapshot() as snap:`. Writes go on beside it, unseen.

    It keeps a reader, and the log from being emptied, for as long as it lasts. A database in memory is
    copied for it.
    """

    _db: Database

    async def __aenter__(self) -> Snapshot:
        db = self._db
        engine = db._check_open()
        self._begin()
        timeout_s = db._seconds(self._timeout)
        if engine.memory:
            image = await db._on_writer(lambda connection: connection.db.serialize("main"), self._timeout)
            self._take_copy(engine, image)
            return self
        session = self._session = await db._session("snapshot", self._priority, timeout_s, self._place)
        try:
            await db._step(session, "BEGIN", begin_reading, timeout_s)
        except BaseException:
            session.give_back(end_reading)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        self._give_back()

    @overload
    def iterate(
        self, sql: str, params: Any = ..., *, into: None = ..., timeout: float | None = ...
    ) -> RowStream[Row]: ...
    @overload
    def iterate(self, sql: str, params: Any = ..., *, into: type[T], timeout: float | None = ...) -> RowStream[T]: ...
    def iterate(
        self,
        sql: str,
        params: Any = None,
        *extra: Never,
        into: Any = None,
        timeout: float | None = None,
        priority: None = None,
    ) -> RowStream[Any]:
        """Rows of the snapshot one after another, in bounded memory."""
        db = self._db
        if extra or into is not None or timeout is not None or priority is not None:
            db._given(sql, into, timeout, extra, "iterate", priority)
        db._check_params(sql, params)
        if self._copy is None:
            self._lane()
        seconds = timeout if timeout is not None else self._timeout
        return RowStream(db, sql, params, into, seconds, self._priority, self._place, self)

    async def _run(self, sql: str, params: Any, shape: Shape, timeout: float | None) -> Any:
        db = self._db
        db._check_params(sql, params)
        profile = self._readable(await db._profile(sql))
        seconds = db._seconds(timeout if timeout is not None else self._timeout)
        if self._copy is not None:
            return self._from_copy(db._check_open(), profile, params, shape, seconds)
        return await db._step(self._lane(), sql, reading(profile, params, shape), seconds)


def begin_reading(connection: Connection) -> None:
    """First step of a snapshot: the read pins the commit."""
    connection.run("BEGIN")
    connection.look_at_schema()


def end_reading(connection: Connection) -> None:
    """Last step of a snapshot."""
    if connection.db.in_transaction:
        connection.run("ROLLBACK")
