"""Who waits for its turn is seen by whoever has it, for as long as it waits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from millpond.engine.sqlite import turnstile
from millpond.engine.sqlite.turnstile import Turnstile

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has what it rests on")


def opened(path: str) -> Turnstile:
    found = Turnstile.open(path)
    assert found is not None
    return found


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Turnstile, Turnstile]]:
    """As two processes have it, whose numbers would lead to the same flag."""
    monkeypatch.setattr(turnstile, "_number", iter((7, 7 + 256)))
    path = tmp_path / "a.db"
    path.touch()
    pair = opened(str(path)), opened(str(path))
    yield pair
    for one in pair:
        one.close()


def test_who_came_too_late_once_is_still_seen_to_wait(two: tuple[Turnstile, Turnstile]) -> None:
    """On a busy machine it wakes up after the others have taken its flag for a dead one's."""
    holder, waiting = two
    assert holder.slip_in()
    seen: list[bool] = []

    def is_wanted() -> bool:
        seen.append(holder.crowded)
        holder._page[turnstile._FLAGS] = bytes(256)
        return len(seen) < 3

    assert not waiting.wait(is_wanted)
    assert seen == [True, True, True]
    assert not holder.crowded


def test_each_has_a_flag_of_its_own(two: tuple[Turnstile, Turnstile]) -> None:
    holder, waiting = two
    assert holder.slip_in()
    seen: list[bool] = []

    def is_wanted() -> bool:
        holder._page[holder._flag] = 1  # as it is while it waits itself
        seen.append(holder.crowded)
        return False

    assert not waiting.wait(is_wanted)
    assert seen == [True]
