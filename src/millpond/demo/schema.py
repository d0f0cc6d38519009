"""The chat service's tables and statements, the same for both sides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millpond.demo.chat import GUILDS, Event, level_of, xp_for

__all__ = [
    "ADD_COUNTERS", "ADD_MESSAGE", "ADD_SCORE", "ADD_USER", "DDL", "GUILD_ROWS", "RANK", "READ_SETTINGS", "READ_USER",
    "REPORT", "UPDATE_USER", "UserRow", "user_row",
]  # fmt: skip

DDL = """
CREATE TABLE guild(id INTEGER PRIMARY KEY, xp_base INTEGER NOT NULL, announce INTEGER NOT NULL);
CREATE TABLE user(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, display TEXT NOT NULL,
    xp INTEGER NOT NULL, level INTEGER NOT NULL, messages INTEGER NOT NULL, seen INTEGER NOT NULL);
CREATE TABLE message(id INTEGER PRIMARY KEY, guild_id INTEGER NOT NULL, user_id INTEGER NOT NULL,
    kind TEXT NOT NULL, sent INTEGER NOT NULL, body TEXT NOT NULL, xp INTEGER NOT NULL);
CREATE INDEX message_by_guild ON message(guild_id, sent);
CREATE INDEX message_by_user ON message(user_id);
CREATE TABLE counters(guild_id INTEGER PRIMARY KEY, messages INTEGER NOT NULL, xp INTEGER NOT NULL);
CREATE TABLE leaderboard(guild_id INTEGER NOT NULL, user_id INTEGER NOT NULL, xp INTEGER NOT NULL,
    PRIMARY KEY(guild_id, user_id)) WITHOUT ROWID;
CREATE INDEX leaderboard_by_xp ON leaderboard(guild_id, xp);
"""

GUILD_ROWS = tuple(
    f"INSERT INTO {table} VALUES ({guild}, {values});"
    for guild in range(1, GUILDS + 1)
    for table, values in (("guild", f"{10 + guild % 5}, {guild % 2}"), ("counters", "0, 0"))
)

READ_SETTINGS = "SELECT xp_base, announce FROM guild WHERE id = ?"
READ_USER = "SELECT xp, level, messages, display FROM user WHERE id = ?"
ADD_USER = "INSERT INTO user(xp, level, messages, display, seen, id, name) VALUES (?, ?, ?, ?, ?, ?, ?)"
UPDATE_USER = "UPDATE user SET xp = ?, level = ?, messages = ?, display = ?, seen = ? WHERE id = ?"
ADD_MESSAGE = "INSERT INTO message(id, guild_id, user_id, kind, sent, body, xp) VALUES (?, ?, ?, ?, ?, ?, ?)"
ADD_COUNTERS = "UPDATE counters SET messages = messages + 1, xp = xp + ? WHERE guild_id = ?"
ADD_SCORE = (
    "INSERT INTO leaderboard(guild_id, user_id, xp) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET xp = xp + excluded.xp"
)
RANK = "SELECT 1 + count(*) FROM leaderboard WHERE guild_id = ? AND xp > (SELECT xp FROM user WHERE id = ?)"
REPORT = (
    "SELECT user_id, count(*), sum(length(body)), max(sent) FROM message WHERE guild_id = ? "
    "GROUP BY user_id ORDER BY 2 DESC LIMIT 10"
)

UserRow = tuple[int, int, int, str, int]
"""xp, level, messages, display, seen: what an event leaves in its user's row."""


def user_row(event: Event, before: Sequence[Any] | None, base: int) -> tuple[UserRow, int, bool]:
    """The user's row after the event, the experience it gave, and whether it made the user rise a level.

    before: xp, level, messages, display as READ_USER gives them; None for a newcomer.
    """
    xp, level, messages, display = before if before is not None else (0, 0, 0, event.name)
    gained = xp_for(event, base)
    reached = level_of(xp + gained)
    shown = event.body if event.kind == "rename" else display
    return (xp + gained, reached, messages + 1, shown, event.at), gained, reached > level
