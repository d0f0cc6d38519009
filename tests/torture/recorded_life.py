"""One life of a database, through Millpond, on a disk that is recorded: what happened, and what clients were told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from time import monotonic
from typing import Literal

import apsw

from millpond import Database, Settings
from tests.torture.case import must
from tests.torture.known_states import SETUP, History, Kind, Planned, Work, drawn, perform, read, setup_script
from tests.torture.shims.recording import Record

__all__ = ["MAIN", "SIDE", "Acknowledged", "Habits", "Kept", "Life", "NotedBeside", "Promises", "made_before"]

MAIN = "main.db"
SIDE = "side.db"
"""A second file, attached in some lives."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A client was told that its write is done."""

    token: int
    full: bool


@dataclass(frozen=True, slots=True)
class NotedBeside:
    """The same of a write to the attached file."""

    note: int
    full: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """A client was told that what had been acknowledged before the moment `since` survives a power cut."""

    since: int


@dataclass(frozen=True, slots=True)
class Habits:
    """How a life is lived: drawn anew for each, so that each is extreme in something."""

    settings: Settings
    phases: int
    tasks: int
    works: int
    full: float
    barriers: float
    upkeep: float
    ends_quietly: bool
    side: bool
    neighbour: Literal["none", "idle", "reading"]

    @staticmethod
    def drawn(random: Random, *, side: bool) -> Habits:
        settings = Settings(
            checkpoint_pages=random.choice((10, 10, 20, 60)),
            wal_limit_bytes=2**16,
            log_hold_s=0,
            quiet_s=0.05,
            page_cache_kib=random.choice((16, 2_000)),
            visible=random.choice(("committed", "committed", "synced")),
            inline=random.choice(("auto", "auto", "off")),
            batch_jobs=random.choice((1, 4, 256)),
            cache_bytes=0,
            shrink_memory=False,
        )
        return Habits(
            settings=settings,
            phases=random.choice((1, 2, 2, 3)),
            tasks=random.choice((1, 3, 8, 20)),
            works=random.randint(25, 60),
            full=random.choice((0.0, 0.1, 0.5, 0.9, 1.0)),
            barriers=random.choice((0.0, 0.05, 0.3)),
            upkeep=random.choice((0.0, 0.05, 0.2)),
            ends_quietly=random.random() < 0.3,
            side=side,
            neighbour=random.choice(("none", "none", "idle", "reading")),
        )


def made_before(folder: Path, random: Random, *, side: bool) -> History:
    """Files that are there when a life begins, with sizes of pages that Millpond does not choose itself."""
    history = History()
    with closing(apsw.Connection(str(folder / MAIN))) as db:
        db.pragma("page_size", random.choice((512, 1024, 4096, 8192)))
        db.pragma("auto_vacuum", random.choice((0, 1, 2)))
        db.execute(f"BEGIN; {setup_script()}; COMMIT")
    history.add(SETUP)
    if side:
        with closing(apsw.Connection(str(folder / SIDE))) as db:
            db.pragma("journal_mode", "wal")
            db.execute("CREATE TABLE note(id INTEGER PRIMARY KEY)")
    return history


class Life:
    """Writes by many tasks; `history` is complete when `live` has ended."""

    def __init__(self, record: Record, history: History, habits: Habits, random: Random, tokens: Iterator[int]) -> None:
        self.record = record
        self.history = history
        self._habits = habits
        self._random = random
        self._tokens = tokens
        self._notes = count(1)
        self._tried: dict[int, Work] = {}

    async def live(self) -> None:
        habits = self._habits
        folder = self.record.folder
        with closing(apsw.Connection(str(folder / MAIN))) if habits.neighbour != "none" else nullcontext() as neighbour:
            for phase in range(habits.phases):
                async with Database(folder / MAIN, habits.settings) as db:
                    if not self.history.order:
                        await self._write(db, SETUP, full=True)
                    if habits.side:
                        await db.execute("ATTACH ? AS side", (str(folder / SIDE),))
                    if neighbour is not None:
                        if habits.neighbour == "reading" and phase == 0:
                            neighbour.execute("BEGIN")
                        neighbour.execute("SELECT count(*) FROM entry").fetchall()
                    works = habits.works // (habits.phases * habits.tasks) + 1
                    seeds = [self._random.randrange(2**32) for _ in range(habits.tasks)]
                    await asyncio.gather(*(self._client(db, Random(seed), works) for seed in seeds))
                    if neighbour is not None and neighbour.in_transaction:
                        neighbour.execute("ROLLBACK")
                    if phase == habits.phases - 1 and habits.ends_quietly:
                        await self._quiet(db)
                    tokens, state = await read(db)
                    self._place(tokens)
                    must(self.history.place(tokens, state) == len(tokens), "what was written is there")

    def _place(self, tokens: list[int]) -> None:
        for token in tokens[len(self.history.order) :]:
            must(token in self._tried, f"write {token} was never asked for")
            must(self._tried[token].kind is not Kind.FAIL, f"write {token} failed, and is there")
            self.history.add(self._tried[token])

    async def _client(self, db: Database, random: Random, works: int) -> None:
        """Each of the things that a client does may follow on each."""
        habits = self._habits
        chances = {
            self._any_write: 1.0,
            self._cancelled: 0.05,
            self._barrier: habits.barriers,
            self._look_after: habits.upkeep,
            self._note: 0.4 * habits.side,
        }
        for _ in range(works):
            act = random.choices([*chances], [*chances.values()])[0]
            await act(db, random)

    async def _any_write(self, db: Database, random: Random) -> None:
        await self._write(db, drawn(next(self._tokens), random), full=random.random() < self._habits.full)

    async def _barrier(self, db: Database, random: Random) -> None:
        since = self.record.now()
        await db.barrier()
        self.record.tell(Kept(since))

    async def _look_after(self, db: Database, random: Random) -> None:
        await db.execute(random.choice(_UPKEEP))

    async def _note(self, db: Database, random: Random) -> None:
        """To the attached file alone."""
        note, full = next(self._notes), random.random() < 0.5
        await db.execute("INSERT INTO side.note VALUES (?)", (note,), durability="full" if full else "normal")
        self.record.tell(NotedBeside(note, full))

    async def _write(self, db: Database, work: Work, *, full: bool) -> None:
        self._tried[work.token] = work
        try:
            await perform(db, work, "full" if full else "normal")
        except Planned:
            return
        must(work.kind is not Kind.FAIL, f"write {work.token} was to fail, and did not")
        self.record.tell(Acknowledged(work.token, full))

    async def _cancelled(self, db: Database, random: Random) -> None:
        """A write that is given up at some point: in or out, nobody knows until the file is read."""
        task = asyncio.create_task(self._any_write(db, random))
        for _ in range(random.randrange(4)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def _quiet(self, db: Database) -> None:
        """Until Millpond has emptied the log by itself, if a client has not done so last."""
        log = self.record.folder / f"{MAIN}-wal"
        until = monotonic() + 10
        while db.stats().log_emptied == 0 and (left := log.stat().st_size):
            must(
                monotonic() < until, f"quiet, and its log of {left} bytes is not emptied: {self._habits}, {db.stats()}"
            )
            await asyncio.sleep(0.01)


_UPKEEP = (
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA wal_checkpoint(RESTART)",
    "PRAGMA wal_checkpoint(PASSIVE)",
    "PRAGMA incremental_vacuum(3)",
    "VACUUM",
    "ANALYZE",
)


@dataclass(slots=True)
class Promises:
    """What must be there after a power cut, by what clients were told until then.

    least: so many writes of the history. notes: of the attached file.
    """

    places: dict[int, int]
    least: int
    notes: set[int] = field(default_factory=set)
    _acknowledged: list[tuple[int, int]] = field(default_factory=list)
    _noted: list[tuple[int, int]] = field(default_factory=list)

    @staticmethod
    def of(history: History, least: int) -> Promises:
        return Promises({work.token: place for place, work in enumerate(history.order, 1)}, least)

    def take(self, moment: int, told: object) -> None:
        match told:
            case Acknowledged(token, full):
                must(token in self.places, f"write {token} was acknowledged, and is not there")
                self._acknowledged.append((moment, self.places[token]))
                if full:
                    self.least = max(self.least, self.places[token])
            case NotedBeside(note, full):
                self._noted.append((moment, note))
                if full:
                    self.notes.add(note)
            case Kept(since):
                self.least = max([self.least, *(place for at, place in self._acknowledged if at < since)])
                self.notes.update(note for at, note in self._noted if at < since)
