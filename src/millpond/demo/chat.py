"""What happens in a chat service, and the rules of its game: experience and levels."""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

__all__ = ["GUILDS", "REPORT_EVERY", "Event", "guild_of", "level_of", "wants_report", "xp_for"]

GUILDS = 20
"""Guilds that a bot of middling fame serves."""

REPORT_EVERY = 500
"""One event in so many asks for the guild's statistics: /stats is typed less often than chat."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a guild.

    id: from 1, once each; kind: message, action or rename; at: Unix seconds of the chat's own clock;
    body: the text, or a rename's new name.
    """

    id: int
    kind: str
    guild: int
    user: int
    name: str
    at: int
    body: str


def guild_of(name: str) -> int:
    """The guild in which a user is at home: 1 to GUILDS, some much larger than others."""
    share = crc32(name.encode()) / 0x1_0000_0000
    return 1 + int(GUILDS * share * share)


def xp_for(event: Event, base: int) -> int:
    """Experience for an event: the guild's base, and more for long messages up to a limit; none for a rename."""
    if event.kind == "rename":
        return 0
    return base + min(len(event.body) // 20, 10)


def level_of(xp: int) -> int:
    """The level reached with so much experience; level n costs 100 n (n + 1) / 2."""
    return int(((1 + xp / 12.5) ** 0.5 - 1) / 2)


def wants_report(event: Event) -> bool:
    """Does this event ask for the heavy report?"""
    return event.id % REPORT_EVERY == 0
