"""Which tables a statement's result depends on, and which statements can be watched at all."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from millpond.errors import DatabaseError, NotSupportedError, ProgrammingError
from millpond.messages import headed, not_applied
from millpond.statements.facts import Action

if TYPE_CHECKING:
    from millpond.statements.profile import Profile

__all__ = ["check_watchable", "names_all_tables", "reads_attached"]

_VIRTUAL = "VOpen"


def names_all_tables(actions: Iterable[Action], opcodes: Collection[str]) -> bool:
    """Are all tables on which the result depends among those that the statement names?

    Not where it asks a virtual table, whose rows may come from anywhere, nor SQLite's own tables, which change
    without being named.
    """
    return _VIRTUAL not in opcodes and not any(
        action.name == "READ" and (action.third or "").startswith("sqlite_") for action in actions
    )


def reads_attached(opcodes: Iterable[tuple[str, int, int]]) -> bool:
    """Does it read an attached database? (p1 of Transaction: 0 main, 1 temp, beyond those attached.)"""
    return any(name == "Transaction" and p1 > 1 for name, p1, _ in opcodes)


def check_watchable(profile: Profile) -> None:
    """Refuse what cannot be watched. Raises: ProgrammingError, NotSupportedError."""
    found = _why_not(profile)
    if found is not None:
        kind, what, hint = found
        raise kind(headed(profile.sql, f" {what}"), hint=hint, sql=profile.sql, applied=not_applied(profile.sql))


def _why_not(profile: Profile) -> tuple[type[DatabaseError], str, str] | None:
    if profile.pragma is not None:
        what = "cannot be watched: no table tells when the answer of a pragma changes"
        return NotSupportedError, what, "Watch a SELECT; ask a pragma by fetch_value when you need it."
    if not profile.is_read:
        return ProgrammingError, "is no read, and watch is for reads", "Watch a SELECT; write by execute."
    if profile.temporary:
        what = "cannot be watched: it reads temporary tables"
        return NotSupportedError, what, "They are not in the file. Watch an ordinary table."
    if profile.attached:
        what = "cannot be watched: it reads an attached database"
        return NotSupportedError, what, "Open that file as a Database of its own, and watch it there."
    if not profile.depends_on:
        return ProgrammingError, "reads no table, so no change would ever come", "Use fetch_all."
    return None
