"""A made-up chat of the shape of a real one: few users write most, bursts, mostly short texts.

The figures were fitted to a public log of 200,993 events by 18,584 users: the busiest user writes 1.2 % of it,
the hundredth 0.08 %; half of the texts have at most 43 characters, 5 % more than 166, none above 470;
2.2 % are renames and 0.2 % actions.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from itertools import accumulate
from random import Random

from millpond.demo.chat import Event, guild_of

__all__ = ["USERS", "generate"]

USERS = 5_000
"""Users of the made-up chat."""

_EXPONENT, _FLATTENED = 0.85, 10
_MEDIAN_LENGTH, _SPREAD, _LONGEST = 43, 0.85, 470
_STARTED = 1_700_000_000
_SYLLABLES = ("ka", "mi", "ro", "ten", "li", "su", "nor", "va", "de", "pol", "ya", "zu", "fin", "gra", "be", "ox")
_WORDS = (
    "the bot says it again lol anyone else seeing this after the update or is it only me and my slow box "
    "what a game thanks that fixed it can you post the log please level up when who broke the raid channel "
    "try turning it off and on same here since yesterday works for me nice one brb see you in ten minutes "
)


def generate(random: Random, *, users: int = USERS) -> Iterator[Event]:
    """Events without end. The same `random` state gives the same events."""
    names = [_name(n) for n in range(users)]
    guilds = [guild_of(name) for name in names]
    weights = list(accumulate((rank + _FLATTENED) ** -_EXPONENT for rank in range(users)))
    text = _WORDS * (2 + 2 * _LONGEST // len(_WORDS))
    furthest = len(text) - _LONGEST
    at, number = float(_STARTED), 0
    talking: list[int] = []
    while True:
        number += 1
        # A burst: a few users answer each other quickly, then it is quiet for a while.
        if not talking or random.random() < 0.05:
            talking = [bisect(weights, random.random() * weights[-1]) for _ in range(random.randint(1, 6))]
            at += random.expovariate(1 / 20)
        else:
            at += random.random()
        user = talking[int(random.random() * len(talking))]
        chance = random.random()
        if chance < 0.022:
            kind, body = "rename", f"{names[user]}|{_SYLLABLES[int(random.random() * len(_SYLLABLES))]}"
        else:
            kind = "action" if chance < 0.024 else "message"
            length = min(_LONGEST, 1 + int(_MEDIAN_LENGTH * random.lognormvariate(0, _SPREAD)))
            start = int(random.random() * furthest)
            body = text[start : start + length]
        yield Event(number, kind, guilds[user], user + 1, names[user], int(at), body)


def _name(number: int) -> str:
    parts = []
    rest = number
    for _ in range(3):
        rest, digit = divmod(rest, len(_SYLLABLES))
        parts.append(_SYLLABLES[digit])
    return "".join(parts) + (str(rest) if rest else "")
