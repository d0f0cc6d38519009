"""A bounded map from SQL text to profile."""

from __future__ import annotations

from millpond.statements.profile import Profile

__all__ = ["ProfileCache"]


class ProfileCache:
    """Profiles by SQL text; beyond `limit` the oldest quarter goes.

    Its `get` is the plain dict's: a look-up is on the path of each call. Old entries that are still
    used come back at the cost of one preparation, so no order of use is kept.
    """

    __slots__ = ("_entries", "_limit", "get")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[str, Profile] = {}
        self.get = self._entries.get

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, profile: Profile) -> None:
        entries = self._entries
        if len(entries) >= self._limit and profile.sql not in entries:
            for sql in list(entries)[: max(1, self._limit // 4)]:
                entries.pop(sql, None)
        old = entries.get(profile.sql)
        if old is not None:
            profile.cost = old.cost
        entries[profile.sql] = profile

    def all_stale(self) -> None:
        """The schema changed: each profile is made anew when next used."""
        for profile in list(self._entries.values()):
            profile.stale = True
