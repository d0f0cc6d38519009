"""Power cuts: a recorded life is cut at every sync and at random, and Millpond recovers what the disk may hold then."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

from millpond import Database, Settings
from tests.torture.case import Broken, Case, must
from tests.torture.known_states import History, read
from tests.torture.recorded_life import MAIN, SIDE, Habits, Life, Promises, made_before
from tests.torture.shims.disk import Disk, Loss, cut_points
from tests.torture.shims.recording import Honest, Record, Told, recording

TITLE = "Power cuts at each sync and at random"
UNIT = "images"
GOAL = 5_000

OUT = Path(__file__).parent.parent / "out"
AGAIN = 0.06
"""Of the images this share is cut again, while they are recovered and a little is written."""
CUTS_AGAIN = 6
MOST_CUTS = 150
_RECOVERED = Settings(cache_bytes=0, quiet_s=60, checkpoint_pages=10)


def run(case: Case) -> Mapping[str, int]:
    attack = Attack(case)
    try:
        return attack.run()
    finally:
        if attack.broken.exists():
            kept = OUT / f"power-{case.seed}-{case.number}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(attack.broken, kept)


class Attack:
    """One life, and what is left of it at each cut. honest: whether the disk keeps what it says that it synced.

    broken: where the image is left that did not hold what was promised.
    """

    def __init__(self, case: Case, honest: Honest | None = None, most_cuts: int = MOST_CUTS) -> None:
        self._folder = case.folder
        self._random = case.random
        self._honest = honest
        self._most_cuts = most_cuts
        self._tokens = count(1)
        self._images = count(1)
        self.counts: Counter[str] = Counter()
        self.broken = case.folder / "broken"

    def run(self, habits: Callable[[Habits], Habits] = lambda habits: habits) -> Mapping[str, int]:
        """habits: what a test wants otherwise."""
        random = self._random
        folder = self._folder / "life"
        folder.mkdir()
        side = random.random() < 0.25
        history = History()
        if side or random.random() < 0.6:
            history = made_before(folder, random, side=side)
        least = len(history.order)
        asyncio.run(self._live(folder, history, habits(Habits.drawn(random, side=side)), least))
        return self.counts

    async def _live(self, folder: Path, history: History, habits: Habits, least: int) -> None:
        with recording(folder, self._honest) as record:
            await Life(record, history, habits, self._random, self._tokens).live()
        self.counts["lives"] += 1
        self.counts["writes"] += len(history.order)
        cuts = cut_points(record, self._random, 30)
        if len(cuts) > self._most_cuts:
            cuts = sorted(self._random.sample(cuts, self._most_cuts))
        await self._cut(record, history, least, cuts, again=True)

    async def _cut(self, record: Record, history: History, least: int, cuts: list[int], *, again: bool) -> None:
        """Recover what a cut at each of these moments may leave."""
        disk, promises = Disk(record.found), Promises.of(history, least)
        happened = 0
        for cut in cuts:
            for moment, event in enumerate(record.events[happened:cut], happened):
                disk.take(moment, event)
                if isinstance(event, Told):
                    promises.take(moment, event.what)
            happened = cut
            loss = self._random.choice(list(Loss))
            image = disk.after_cut(loss, self._random)
            self.counts[f"with {loss.value}"] += 1
            self.counts["unsynced writes at the cuts"] += disk.unsynced
            self.counts["with nothing unsynced"] += not disk.unsynced
            where = f"cut after event {cut} of {len(record.events)}{'' if again else ' of a recovery'}, {loss.value}"
            await self._recover(image, history, promises, where, again=again and self._random.random() < AGAIN)

    async def _recover(
        self, image: dict[str, bytes], history: History, promises: Promises, where: str, *, again: bool
    ) -> None:
        folder = self._folder / f"image-{next(self._images)}"
        folder.mkdir()
        for name, content in image.items():
            (folder / name).write_bytes(content)
        try:
            with recording(folder) as record:
                place = await _checked(folder, history, promises)
                following = history.first(place)
                if again:
                    await Life(record, following, _SHORT, self._random, self._tokens).live()
        except Exception as exc:
            self.broken.mkdir()
            for name, content in image.items():
                (self.broken / name).write_bytes(content)
            raise Broken(f"{type(exc).__name__}: {exc} ({where})") from exc
        self.counts[UNIT] += 1
        self.counts["recovered further than promised"] += place > promises.least
        if again:
            self.counts["images of a second cut"] += CUTS_AGAIN
            cuts = sorted(self._random.choices(cut_points(record, self._random, 20), k=CUTS_AGAIN))
            await self._cut(record, following, place, cuts, again=False)
        shutil.rmtree(folder)


_SHORT = Habits(
    settings=_RECOVERED,
    phases=1,
    tasks=3,
    works=6,
    full=0.5,
    barriers=0.1,
    upkeep=0.1,
    ends_quietly=False,
    side=False,
    neighbour="none",
)
"""What is written after a recovery."""


async def _checked(folder: Path, history: History, promises: Promises) -> int:
    """Millpond opens it, it is whole, and holds all that was promised. How many writes are there."""
    async with Database(folder / MAIN, _RECOVERED) as db:
        found = await db.fetch_all("PRAGMA integrity_check")
        must(found == [("ok",)], f"integrity_check says {found[:3]}")
        place = history.place(*await read(db))
        must(place >= promises.least, f"{place} writes are there, and {promises.least} were promised")
    if promises.notes:
        async with Database(folder / SIDE, _RECOVERED) as db:
            found = await db.fetch_all("PRAGMA integrity_check")
            must(found == [("ok",)], f"integrity_check of the attached file says {found[:3]}")
            notes = {row[0] for row in await db.fetch_all("SELECT id FROM note")}
            must(promises.notes <= notes, f"notes {sorted(promises.notes - notes)[:3]} were promised, and are lost")
    return place
