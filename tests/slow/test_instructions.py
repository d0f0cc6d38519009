"""No hot path takes noticeably more instructions than when it was last recorded; the machine's noise does not count.

`make instructions ARGS=--record` renews what is compared with, after a change that is worth its price, or that gained.
"""

from __future__ import annotations

import pytest

from scripts import instructions
from scripts.instructions import PATHS, count, recorded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def counted() -> dict[str, int]:
    if reason := instructions.unable():
        pytest.skip(reason)
    if not recorded():
        pytest.skip(
            f"nothing is recorded for {instructions.key()}: make instructions ARGS=--record, before your change"
        )
    return count()


@pytest.mark.parametrize("name", PATHS)
def test_a_hot_path_takes_as_many_instructions_as_recorded(counted: dict[str, int], name: str) -> None:
    known, now = recorded().get(name), counted[name]
    assert known, "not recorded yet: make instructions ARGS=--record"
    tolerance, change = PATHS[name], now / known - 1
    assert change <= tolerance, f"{now:,} instructions instead of {known:,}: {change:+.1%}, allowed {tolerance:.0%}"
    assert change >= -tolerance, f"{now:,} instead of {known:,}, {change:+.1%}: record the gain, so that it is kept"
