"""The attack by power cuts: it passes on an honest disk, and finds each lie of a disk and of Millpond."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Literal

import pytest

from millpond import Database
from millpond.engine.sqlite.commits import Commits
from millpond.engine.sqlite.log_sync import LogSync
from millpond.ports import Reply
from tests.torture import known_states, recorded_life
from tests.torture.case import Broken, Case
from tests.torture.known_states import SETUP, History, How, Kind, State, Work, perform
from tests.torture.parts.power import Attack
from tests.torture.recorded_life import Acknowledged, Habits, Kept, Promises
from tests.torture.shims.disk import Disk, Loss
from tests.torture.shims.recording import (
    Created,
    Deleted,
    Event,
    FolderSynced,
    Honest,
    Resized,
    Synced,
    Wrote,
)

SOME_LIVES = 8
"""A lie need not show in one life; on an idle machine most do in the first."""


def life(tmp_path: Path, number: int, honest: Honest | None = None, most_cuts: int = 60) -> Attack:
    folder = tmp_path / f"{number}"
    folder.mkdir()
    return Attack(Case(number, 1, folder), honest, most_cuts)


def found_out(tmp_path: Path, honest: Honest | None, habits: Callable[[Habits], Habits]) -> str:
    """What the attack says of it."""
    for number in range(SOME_LIVES):
        attack = life(tmp_path, number, honest)
        try:
            attack.run(habits)
        except Broken as exc:
            assert attack.broken.is_dir(), "the image is kept"
            return str(exc)
    raise AssertionError("the lie was not found out")


def busy(full: float, barriers: float = 0.0) -> Callable[[Habits], Habits]:
    """Three clients that write, and nothing else."""

    def habits(drawn: Habits) -> Habits:
        settings = drawn.settings.with_(checkpoint_pages=10, inline="auto", visible="committed")
        return replace(
            drawn, settings=settings, full=full, barriers=barriers, phases=1, tasks=3, works=40, upkeep=0.0,
            ends_quietly=False, side=False, neighbour="none",
        )  # fmt: skip

    return habits


def test_what_is_promised_survives_power_cuts(tmp_path: Path) -> None:
    for number in (0, 1):
        counts = life(tmp_path, number, most_cuts=25).run()
        assert counts["images"] >= 25
        assert counts["unsynced writes at the cuts"] > 25


class DropsLogSync(Honest):
    def keeps_sync(self, name: str) -> bool:
        return not name.endswith("-wal")


class DropsDatabaseSync(Honest):
    def keeps_sync(self, name: str) -> bool:
        return not name.endswith(".db")


class DropsFolderSync(Honest):
    def keeps_folder_sync(self, name: str) -> bool:
        return False


def test_a_log_that_is_not_synced_is_found(tmp_path: Path) -> None:
    assert re.search(r"\d+ were promised", found_out(tmp_path, DropsLogSync(), busy(full=1.0)))


def test_a_database_that_is_not_synced_before_its_log_is_overwritten_is_found(tmp_path: Path) -> None:
    said = found_out(tmp_path, DropsDatabaseSync(), busy(full=1.0))
    assert re.search(
        r"were promised|damaged|integrity_check|there is only|there are|not \w+ the file|cannot open", said
    )


def test_a_folder_that_is_not_synced_is_found(tmp_path: Path) -> None:
    assert re.search(r"\d+ were promised", found_out(tmp_path, DropsFolderSync(), busy(full=1.0)))


def test_a_barrier_that_syncs_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Commits, "needs_barrier", lambda commits: False)
    assert re.search(r"\d+ were promised", found_out(tmp_path, None, busy(full=0.0, barriers=0.5)))


def test_an_answer_before_the_disk_has_it_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(log_sync: LogSync, replies: list[Reply]) -> None:
        log_sync._port.settle(replies)

    monkeypatch.setattr(LogSync, "add", answer)
    monkeypatch.setattr(LogSync, "now", answer)
    assert re.search(r"\d+ were promised", found_out(tmp_path, None, busy(full=1.0)))


def test_a_write_that_is_not_synced_as_it_was_asked_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unsynced(db: Database, work: Work, durability: Literal["full", "normal"]) -> None:
        await perform(db, work, "normal")

    monkeypatch.setattr(recorded_life, "perform", unsynced)
    assert re.search(r"\d+ were promised", found_out(tmp_path, None, busy(full=1.0)))


def test_a_write_in_two_halves_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def halved(db: Database, work: Work, durability: Literal["full", "normal"]) -> None:
        if work.kind is not Kind.ENTER or work.parts < 2:
            await perform(db, work, durability)
            return
        rows: list[tuple[int, int, int]] = [(work.token, part, work.parts) for part in range(work.parts)]
        for half in (rows[:1], rows[1:]):
            await db.execute_many(known_states.ENTER_ONE, half, durability=durability)

    monkeypatch.setattr(recorded_life, "perform", halved)
    said = found_out(tmp_path, None, busy(full=0.5))
    assert re.search(r"entries of write \d+ there are", said)


def history(*kinds: Kind) -> History:
    found = History()
    found.add(SETUP)
    for token, kind in enumerate(kinds, 1):
        found.add(Work(token, kind, How.WRITE, 1, 9))
    return found


def test_any_state_of_the_past_has_its_place_and_no_other() -> None:
    known = history(Kind.STORE, Kind.MOVE, Kind.MAKE, Kind.INDEX, Kind.DROP, Kind.TRIM)
    tokens = [work.token for work in known.order]
    for number, state in enumerate(known.states):
        assert known.place(tokens[:number], state) == number
    with pytest.raises(Broken, match="a later write is there, and write"):
        known.place([0, 1, 3], known.states[3])
    with pytest.raises(Broken, match="never were"):
        known.place([*tokens, 99], known.states[-1])
    for number in range(1, len(tokens)):
        with pytest.raises(Broken, match="after"):
            known.place(tokens[:number], replace(known.states[number], is_indexed=not known.states[number].is_indexed))
    with pytest.raises(Broken, match="after"):
        known.place(tokens[:3], known.states[2])


def test_a_barrier_promises_what_was_acknowledged_before_it_was_asked_for() -> None:
    promises = Promises.of(history(Kind.ENTER, Kind.ENTER, Kind.ENTER), 1)
    promises.take(10, Acknowledged(1, full=False))
    promises.take(20, Acknowledged(2, full=False))
    assert promises.least == 1
    promises.take(30, Kept(since=15))
    assert promises.least == 2
    promises.take(40, Acknowledged(3, full=True))
    assert promises.least == 4
    with pytest.raises(Broken, match="acknowledged, and is not there"):
        promises.take(50, Acknowledged(9, full=False))


OLD, NEW = b"o" * 1024, b"n" * 1024


def disk_after(*events: Event, found: dict[str, bytes] | None = None) -> Disk:
    disk = Disk({"a": OLD} if found is None else found)
    for moment, event in enumerate(events):
        disk.take(moment, event)
    return disk


def test_what_was_written_before_a_sync_began_is_on_the_disk_whatever_is_lost() -> None:
    disk = disk_after(Wrote(0, 0, b"kept"), Wrote(0, 512, b"lost"), Synced(0, since=1))
    assert disk.unsynced == 1
    assert disk.after_cut(Loss.ALL, Random(0)) == {"a": b"kept" + OLD[4:]}
    assert disk.after_cut(Loss.NONE, Random(0)) == {"a": b"kept" + OLD[4:512] + b"lost" + OLD[516:]}


def test_what_is_torn_changes_no_byte_outside_the_write() -> None:
    disk = disk_after(Wrote(0, 256, NEW[:512]))
    seen = set()
    for seed in range(200):
        content = disk.after_cut(Loss.TORN_LAST, Random(seed))["a"]
        assert len(content) == len(OLD)
        assert content[:256] == OLD[:256]
        assert content[768:] == OLD[768:]
        for piece in (content[256:512], content[512:768]):
            seen.add(bytes(piece[:1]) if len(set(piece)) == 1 else b"garbage")
    assert seen == {b"o", b"n", b"\0", b"garbage"}


def test_writes_are_lost_in_any_order_and_a_file_grows_or_not() -> None:
    disk = disk_after(Wrote(0, 0, b"1"), Wrote(0, 1, b"2"), Wrote(0, 1024, NEW), Resized(0, 1500))
    parts, sizes = set(), set()
    for seed in range(100):
        for loss in Loss:
            content = disk.after_cut(loss, Random(seed))["a"]
            parts.add(content[:2])
            sizes.add(len(content))
    assert parts >= {b"oo", b"1o", b"o2", b"12"}
    assert sizes >= {1024, 1500, 2048}


def test_a_name_is_new_or_old_until_its_folder_is_synced() -> None:
    events: list[Event] = [Created(1, "b"), Wrote(1, 0, NEW), Synced(1, since=2), Deleted("a")]
    seen = {frozenset(disk_after(*events).after_cut(loss, Random(seed))) for loss in Loss for seed in range(50)}
    assert seen == {frozenset(names) for names in (["a"], ["b"], ["a", "b"], [])}
    disk = disk_after(*events, FolderSynced(since=4))
    assert disk.after_cut(Loss.ALL, Random(0)) == {"b": NEW}


def test_states_follow_from_what_was_written() -> None:
    state = State().after(SETUP).after(Work(5, Kind.MOVE, How.WRITE, 1, 1))
    assert sum(state.balances) == 0
    assert state.balances[:2] == (5, -5)
