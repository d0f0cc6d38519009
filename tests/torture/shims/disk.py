"""What a power cut leaves on a disk, by the record of what was done to it.

A disk promises that what was written before a completed sync is there, and that a write changes no byte outside its
range (SQLite's POWERSAFE_OVERWRITE, which its disk on Unix claims). Of all later writes any may be there or not, in
any order, each torn between sectors, with old bytes, zeros or garbage where it is torn; a file may have grown or not,
been cut or not; a name may be there or not until its folder is synced.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from random import Random

from tests.torture.shims.recording import (
    Created,
    Deleted,
    Event,
    FolderSynced,
    Record,
    Resized,
    Synced,
    Told,
    Wrote,
)

__all__ = ["Disk", "Fate", "Loss", "cut_points"]


TOLD = 0.3
"""Of the moments in which a client has just learnt something this share is cut at."""


class Loss(enum.Enum):
    """What becomes of that which was not synced."""

    ALL = "all of it lost"
    NONE = "nothing lost"
    SOME = "any of it lost"
    LAST = "what came last lost"
    FIRST = "what came first lost"
    TORN_LAST = "the last write torn"
    TORN = "any of it lost or torn"


class Fate(enum.Enum):
    """What becomes of one write, or of one sector of it."""

    THERE = enum.auto()
    LOST = enum.auto()
    TORN = enum.auto()
    ZEROS = enum.auto()
    GARBAGE = enum.auto()


_Pending = tuple[int, Wrote | Resized]


class Disk:
    """The state of the disk while a record is gone through: what is surely there, and what only may be."""

    def __init__(self, found: Mapping[str, bytes]) -> None:
        self._contents = {i: bytearray(found[name]) for i, name in enumerate(sorted(found))}
        self._names: dict[str, int | None] = {name: i for i, name in enumerate(sorted(found))}
        self._pending: dict[int, list[_Pending]] = {i: [] for i in self._contents}
        self._renamed: list[tuple[int, str, int | None]] = []

    def take(self, moment: int, event: Event) -> None:
        """The next event of the record."""
        match event:
            case Wrote() | Resized():
                self._pending[event.file].append((moment, event))
            case Synced(file, since):
                later = []
                for at, write in self._pending[file]:
                    if at < since:
                        _apply(self._contents[file], write)
                    else:
                        later.append((at, write))
                self._pending[file] = later
            case Created(file, name):
                self._contents[file], self._pending[file] = bytearray(), []
                self._renamed.append((moment, name, file))
            case Deleted(name):
                self._renamed.append((moment, name, None))
            case FolderSynced(since):
                for at, name, number in self._renamed:
                    if at < since:
                        self._names[name] = number
                self._renamed = [change for change in self._renamed if change[0] >= since]

    @property
    def unsynced(self) -> int:
        """Writes and changes of names that a power cut could take."""
        return sum(map(len, self._pending.values())) + len(self._renamed)

    def after_cut(self, loss: Loss, random: Random) -> dict[str, bytes]:
        """Files that a power cut now could leave, by their names."""
        moments = sorted(
            [at for pending in self._pending.values() for at, _ in pending] + [at for at, _, _ in self._renamed]
        )
        fate = _fates(loss, moments, random)
        names = dict(self._names)
        for at, name, number in self._renamed:
            if fate(at) is not Fate.LOST:
                names[name] = number
        sector = random.choice((512, 4096))
        grown = random.random() < 0.5
        files = {}
        for name, number in names.items():
            if number is None:
                continue
            content = bytearray(self._contents[number])
            for at, write in self._pending[number]:
                _apply_as(fate(at), content, write, sector, grown, random)
            files[name] = bytes(content)
        return files


def cut_points(record: Record, random: Random, others: int) -> list[int]:
    """Moments before, in and after each sync (the number of events that happened), and others by chance."""
    points = [random.randint(0, len(record.events)) for _ in range(others)]
    for moment, event in enumerate(record.events):
        if isinstance(event, (Synced, FolderSynced)):
            points += [event.since, moment, moment + 1]
        elif isinstance(event, Told) and random.random() < TOLD:
            points.append(moment + 1)
    return sorted(points)


def _fates(loss: Loss, moments: list[int], random: Random) -> Callable[[int], Fate]:
    """What becomes of the write of each moment."""
    there, lost, torn = Fate.THERE, Fate.LOST, Fate.TORN
    middle = random.choice(moments) if moments else 0
    last = moments[-1] if moments else -1
    share = random.choice((0.1, 0.5, 0.9))
    drawn = {at: random.random() for at in moments}
    match loss:
        case Loss.ALL:
            return lambda at: lost
        case Loss.NONE:
            return lambda at: there
        case Loss.SOME:
            return lambda at: there if drawn[at] < share else lost
        case Loss.LAST:
            return lambda at: there if at < middle else lost
        case Loss.FIRST:
            return lambda at: there if at >= middle else lost
        case Loss.TORN_LAST:
            return lambda at: torn if at == last else there
        case Loss.TORN:
            return lambda at: torn if drawn[at] < share else there if drawn[at] < (1 + share) / 2 else lost


def _apply(content: bytearray, write: Wrote | Resized) -> None:
    match write:
        case Wrote(_, offset, data):
            if len(content) < offset:
                content.extend(bytes(offset - len(content)))
            content[offset : offset + len(data)] = data
        case Resized(_, size):
            del content[size:]
            content.extend(bytes(size - len(content)))


def _apply_as(fate: Fate, content: bytearray, write: Wrote | Resized, sector: int, grown: bool, random: Random) -> None:
    """grown: where a write is lost beyond the file's end, the file is longer all the same."""
    if fate is Fate.THERE:
        _apply(content, write)
        return
    if isinstance(write, Resized):
        if fate is Fate.TORN and random.random() < 0.5:
            _apply(content, write)
        return
    for offset, piece in _pieces(write, sector):
        match random.choice((Fate.THERE, Fate.LOST, Fate.ZEROS, Fate.GARBAGE)) if fate is Fate.TORN else Fate.LOST:
            case Fate.THERE:
                _apply(content, Wrote(write.file, offset, piece))
            case Fate.ZEROS:
                _apply(content, Wrote(write.file, offset, bytes(len(piece))))
            case Fate.GARBAGE:
                _apply(content, Wrote(write.file, offset, random.randbytes(len(piece))))
            case _ if grown and len(content) < offset + len(piece):
                content.extend(bytes(offset + len(piece) - len(content)))


def _pieces(write: Wrote, sector: int) -> Iterator[tuple[int, bytes]]:
    """The parts of a write that lie in one sector each."""
    at, end = write.offset, write.offset + len(write.data)
    while at < end:
        until = min(end, (at // sector + 1) * sector)
        yield at, write.data[at - write.offset : until - write.offset]
        at = until
