"""Reads leave the loop while the disk stalls, and only then."""

from __future__ import annotations

from random import Random

import pytest

from millpond.scheduling.stalls import (
    AGAIN_S,
    FIRST_OFF_S,
    FORGOTTEN_AFTER_S,
    MOST_OFF_S,
    STALL_S,
    WATCH_S,
    Mode,
    Stalls,
)


def watching(now: float) -> Stalls:
    stalls = Stalls()
    stalls.slow(now - AGAIN_S / 2, STALL_S)
    assert stalls.slow(now, STALL_S) is Mode.WATCH
    return stalls


def test_one_slow_read_now_and_then_raises_no_suspicion() -> None:
    stalls = Stalls()
    for i in range(100):
        assert stalls.slow(i * AGAIN_S * 1.1, 1.0) is Mode.TRUST


def test_reads_that_are_a_little_slow_raise_none_either() -> None:
    stalls = Stalls()
    for i in range(100):
        assert stalls.slow(i * 0.01, STALL_S * 0.9) is Mode.TRUST


def test_what_was_slow_for_other_reasons_is_trusted_again() -> None:
    stalls = watching(10.0)
    assert stalls.measured(10.0 + WATCH_S / 2, 0.0) is Mode.WATCH
    assert stalls.measured(10.0 + WATCH_S, 0.0) is Mode.TRUST
    assert stalls.slow(10.1 + WATCH_S, STALL_S) is Mode.TRUST, "and the next slow one is again the first"


def test_one_read_that_waited_for_the_disk_is_enough() -> None:
    stalls = watching(10.0)
    assert stalls.measured(10.1, STALL_S) is Mode.OFF
    assert stalls.asked(10.1 + FIRST_OFF_S * 0.9) is Mode.OFF
    assert stalls.asked(10.1 + FIRST_OFF_S) is Mode.WATCH, "the way back is a measured one"


def test_a_disk_that_goes_on_stalling_is_tried_less_and_less() -> None:
    stalls = watching(0.0)
    now, lasted = 0.0, []
    for _ in range(10):
        assert stalls.measured(now, 1.0) is Mode.OFF
        lasted.append(stalls.until - now)
        now = stalls.until
        assert stalls.asked(now) is Mode.WATCH
    assert lasted == [FIRST_OFF_S * 2**i for i in range(6)] + [MOST_OFF_S] * 4


def test_a_disk_that_was_good_for_long_is_tried_soon_again() -> None:
    stalls = watching(0.0)
    now = 0.0
    for _ in range(3):
        stalls.measured(now, 1.0)
        now = stalls.until
        stalls.asked(now)
    assert stalls.measured(now + WATCH_S, 0.0) is Mode.TRUST
    now += FORGOTTEN_AFTER_S + MOST_OFF_S
    stalls.slow(now, 1.0)
    stalls.slow(now, 1.0)
    assert stalls.measured(now, 1.0) is Mode.OFF
    assert stalls.until - now == FIRST_OFF_S


def test_a_connection_that_is_lost_is_off_until_there_is_another() -> None:
    stalls = Stalls()
    assert stalls.broken(5.0) is Mode.OFF
    assert stalls.asked(5.0) is Mode.OFF
    assert stalls.asked(5.0 + FIRST_OFF_S) is Mode.WATCH


@pytest.mark.parametrize("seed", range(10))
def test_a_stalling_disk_holds_the_loop_up_a_few_times_a_minute_at_most(seed: int) -> None:
    """Ten minutes of reads, of which some wait for the disk as long as it stalls; then ten good ones."""
    chance = Random(seed)
    share, read_s = chance.uniform(0.05, 1.0), chance.uniform(0.0001, 0.005)
    stalls, now, held_up = Stalls(), 0.0, 0
    while now < 600.0:
        now += read_s
        if stalls.mode is Mode.OFF and stalls.asked(now) is Mode.OFF:
            now = stalls.until
            continue
        took_s = read_s + (0.02 if chance.random() < share else 0.0)
        now += took_s
        if took_s >= STALL_S:
            held_up += 1
        if stalls.mode is Mode.TRUST:
            stalls.slow(now, took_s)
        else:
            stalls.measured(now, took_s - read_s)
    print(f"seed {seed}: one in {1 / share:.0f} stalls, {held_up} held up")
    assert held_up <= 40
    while now < 1_200.0:
        now += 0.01
        if stalls.mode is Mode.OFF:
            stalls.asked(now)
        elif stalls.mode is Mode.WATCH:
            stalls.measured(now, 0.0)
    assert stalls.mode is Mode.TRUST
