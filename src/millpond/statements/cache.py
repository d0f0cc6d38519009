"""A bounded map from SQL text to profile."""

from __future__ import annotations

from collections.abc import Callable

from millpond.statements.profile import Profile

__all__ = ["ProfileCache"]


class ProfileCache:
    """Profiles by SQL text; beyond `limit` the oldest quarter goes.

    Its `get` is the plain dict's: a look-up is on the path of each call. Old entries that are still
    used come back at the cost of one preparation, so no order of use is kept.
    """

    __slots__ = ("_entries", "_limit", "_on_drop", "get")

    def __init__(self, limit: int, on_drop: Callable[[Profile], None] = lambda _: None) -> None:
        """on_drop: told of each profile that goes, also of one that is replaced."""
        self._limit = limit
        self._on_drop = on_drop
        self._entries: dict[str, Profile] = {}
        self.get = self._entries.get

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, profile: Profile) -> None:
        entries = self._entries
        if len(entries) >= self._limit and profile.sql not in entries:
            for sql in list(entries)[: max(1, self._limit // 4)]:
                dropped = entries.pop(sql, None)
                if dropped is not None:
                    self._on_drop(dropped)
        old = entries.get(profile.sql)
        if old is not None:
            profile.cost = old.cost
            self._on_drop(old)
        entries[profile.sql] = profile

    def all_stale(self) -> None:
        """The schema changed: each profile is made anew when next used."""
        for profile in list(self._entries.values()):
            profile.stale = True
