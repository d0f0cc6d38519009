"""Threads take turns at reading: each goes on for a spell, and nobody is forgotten."""

from __future__ import annotations

import threading
import time

import pytest

from millpond.callers import spells
from millpond.callers.spells import SOON_S, SPELL_S, Spells

ONE, TWO = 1, 2


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wakes by itself, so that what wakes it is what is tried."""
    monkeypatch.setattr(spells, "SPELL_S", 10.0)


def queued(found: Spells, me: int) -> tuple[threading.Thread, list[float]]:
    """A thread that waits for its turn, and where it says that it came."""
    came: list[float] = []
    thread = threading.Thread(target=lambda: came.append(found.enter(me, time.perf_counter())), daemon=True)
    thread.start()
    while not found._waiting:
        pass
    return thread, came


def in_a_close_loop(found: Spells, me: int) -> float:
    """A thread that has come back at once, and is inside a call again."""
    now = time.perf_counter()
    found.enter(me, now)
    found.leave(me, now)
    found.enter(me, now)
    return now


def test_alone_nobody_waits() -> None:
    found = Spells()
    assert found.enter(ONE, 1.0) == 1.0
    found.leave(ONE, 1.1)
    assert found.enter(TWO, 1.2) == 1.2


def test_who_does_other_things_between_its_calls_gives_its_turn_to_the_next_at_once() -> None:
    found = Spells()
    found.enter(ONE, time.perf_counter())
    thread, came = queued(found, TWO)
    found.leave(ONE, time.perf_counter())
    thread.join(5)
    assert came


def test_a_close_loop_keeps_its_turn_for_a_spell(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Spells()
    now = in_a_close_loop(found, ONE)
    thread, came = queued(found, TWO)
    found.leave(ONE, now)
    found.enter(ONE, now)
    assert not came
    monkeypatch.setattr(spells, "SPELL_S", SPELL_S)
    found.leave(ONE, now + 2 * SPELL_S)
    thread.join(5)
    assert came


def test_whoever_comes_before_the_next_one_is_awake_waits_behind_it() -> None:
    found = Spells()
    found.enter(ONE, time.perf_counter())
    first, _ = queued(found, TWO)
    found.leave(ONE, time.perf_counter())
    assert found._inside  # for the one that is being woken, awake or not
    first.join(5)
    assert found._owner == TWO


def test_a_turn_whose_thread_never_came_back_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Spells()
    now = in_a_close_loop(found, ONE)
    found.leave(ONE, now)
    assert found.enter(TWO, now + 2 * SOON_S) == now + 2 * SOON_S


def test_nobody_waits_for_ever_for_a_thread_that_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Spells()
    in_a_close_loop(found, ONE)
    monkeypatch.setattr(spells, "SPELL_S", 0.001)
    found.enter(TWO, time.perf_counter())  # ends though thread one neither leaves nor comes back
    assert found._owner == TWO


def test_threads_that_ended_are_forgotten() -> None:
    found = Spells()
    for me in range(3 * spells.REMEMBERED):
        found.enter(me, float(me))
        found.leave(me, float(me))
    assert len(found._last) <= spells.REMEMBERED
