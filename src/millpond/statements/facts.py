"""What SQLite says of a statement without running it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Action", "Facts"]


@dataclass(frozen=True, slots=True)
class Action:
    """One answer of SQLite's authorizer: the action's name and its four arguments."""

    name: str
    third: str | None = None
    fourth: str | None = None
    database: str | None = None
    trigger: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What SQLite says of a statement without running it.

    opcodes: name, p1, p2 of each VDBE instruction; sub-programs of triggers included.
    on_writer: asked on a connection that writes, where temporary objects are; temporaries: their names.
    """

    sql: str
    readonly: bool
    is_explain: bool
    actions: tuple[Action, ...]
    opcodes: tuple[tuple[str, int, int], ...]
    columns: tuple[tuple[str, str | None], ...]
    cookie: int = 0
    on_writer: bool = False
    temporaries: frozenset[str] = frozenset()
