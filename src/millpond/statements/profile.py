"""Classify a statement from what SQLite says of it, never from its text alone."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from millpond.rows import Row, row_type
from millpond.statements.caching import may_be_kept
from millpond.statements.cost import Cost
from millpond.statements.facts import Action, Facts
from millpond.statements.pragmas import Pragma, acts_when_prepared, asks_writer, pragma_kind
from millpond.statements.watching import names_all_tables, reads_attached

__all__ = ["ANYTHING", "Kind", "Profile", "classify"]


ANYTHING = "*"
"""Stands for every table."""


class Kind(enum.Enum):
    """Where a statement goes."""

    READ = "read"
    """Any reader."""
    WRITE = "write"
    """The writer, in a batch."""
    SCHEMA = "schema"
    """The writer, in a batch; changes the schema, so other profiles go stale."""
    WRITER_ONLY = "writer only"
    """The writer alone, outside any transaction: VACUUM, checkpoints, the writer's own pragmas."""
    EVERYWHERE = "everywhere"
    """Each connection, now and when opened: ATTACH, per-connection pragmas."""
    TRANSACTION = "transaction"
    """BEGIN, COMMIT, SAVEPOINT...: refused, since the connection is shared."""
    REFUSED = "refused"
    """A pragma that would take away what Millpond rests on."""


@dataclass(slots=True, eq=False)
class Profile:
    """What is known of one SQL text under one schema version.

    cookie: the schema version that it was made under; `stale` asks for a new one.
    single_row: the plan has no loop, so fetching on to the end costs nothing.
    ends_transaction: may end the whole transaction by itself (ON CONFLICT ROLLBACK, RAISE(ROLLBACK)).
    temporary: touches temporary objects, which are the writer's.
    value: what a pragma of the main database is set to; asks: a pragma that asks about the writer's connection.
    last_write: the function that it asks of what its own connection wrote last (last_insert_rowid...).
    by_readers: any reader can run it.
    cacheable: its result is the same while `tables_read` are. touches: what it writes makes results stale that
    were read from these tables, ANYTHING where not all are known.
    results: what was kept of it, by shape and parameters; the cache's own.
    depends_on: the tables whose change may change its result, ANYTHING where not all are known. attached: it reads
    an attached database.
    keeps_partial: a failing run keeps the rows before it (ON CONFLICT FAIL), so it needs a savepoint.
    """

    sql: str
    kind: Kind
    names: tuple[str, ...]
    declared: tuple[str | None, ...]
    row: type[Row]
    cookie: int
    word: str
    pragma: str | None = None
    value: str | None = None
    asks: bool = False
    reason: str | None = None
    inserts: bool = False
    changes: bool = False
    single_row: bool = False
    ends_transaction: bool = False
    keeps_partial: bool = False
    temporary: bool = False
    last_write: str | None = None
    cacheable: bool = False
    touches: frozenset[str] = frozenset()
    results: Any = None
    depends_on: frozenset[str] = frozenset()
    attached: bool = False
    tables_read: frozenset[str] = frozenset()
    tables_written: frozenset[str] = frozenset()
    stale: bool = False
    cost: Cost = field(default_factory=Cost)
    is_read: bool = field(init=False)
    is_write: bool = field(init=False)
    by_readers: bool = field(init=False)

    def __post_init__(self) -> None:
        # A member of an enum costs 100 ns on Python 3.11, a slot 15.
        self.is_read = self.kind is Kind.READ
        self.is_write = self.kind is Kind.WRITE
        self.by_readers = self.is_read and not self.temporary and self.last_write is None


_SCHEMA_ACTIONS = ("CREATE_", "DROP_", "ALTER_", "REINDEX", "ANALYZE")
_LOOPS = frozenset({"Next", "Prev", "VNext", "SorterNext", "Yield"})
_LAST_WRITE = frozenset({"last_insert_rowid", "changes", "total_changes"})
_OE_ROLLBACK, _OE_FAIL = 1, 3
_CONSTRAINT = 19


def classify(facts: Facts) -> Profile:
    """Decide the kind of a statement and what else its route needs to know.

    Source: sqlite3_stmt_readonly's documentation on what it calls read-only although it changes state.
    """
    names = tuple(name for name, _ in facts.columns)
    actions = facts.actions
    opcodes = {name for name, _, _ in facts.opcodes}
    kind, pragma, reason = _kind(facts, opcodes)
    written = frozenset(_tables(actions, ("INSERT", "UPDATE", "DELETE")))
    top = [a for a in actions if a.trigger is None]
    temporary = any(op == "Transaction" and p1 == 1 and (p2 or facts.on_writer) for op, p1, p2 in facts.opcodes)
    # A temporary view opens no temporary table; where no column of it is read it is named as the reason alone.
    temporary = temporary or any(a.database == "temp" or a.trigger in facts.temporaries for a in actions)
    all_named = kind is Kind.WRITE and written and "VUpdate" not in opcodes
    tables_read = frozenset(_tables(actions, ("READ",)))
    return Profile(
        sql=facts.sql,
        kind=kind,
        names=names,
        declared=tuple(declared for _, declared in facts.columns),
        row=row_type(names),
        cookie=facts.cookie,
        word=_word(actions, opcodes, facts.readonly),
        pragma=pragma,
        value=next((a.fourth for a in actions if a.name == "PRAGMA" and a.database in (None, "main")), None),
        asks=pragma is not None and any(a.name == "PRAGMA" and asks_writer(pragma, a.fourth) for a in actions),
        reason=reason,
        inserts=any(a.name == "INSERT" for a in top),
        changes=kind is Kind.WRITE and any(a.name in ("INSERT", "UPDATE", "DELETE") for a in top),
        single_row=bool(facts.opcodes) and not (opcodes & _LOOPS),
        ends_transaction=_halts_with(facts.opcodes, _OE_ROLLBACK),
        keeps_partial=_halts_with(facts.opcodes, _OE_FAIL),
        temporary=temporary,
        last_write=next((a.fourth for a in top if a.name == "FUNCTION" and a.fourth in _LAST_WRITE), None),
        cacheable=kind is Kind.READ and not facts.is_explain and may_be_kept(actions, opcodes, temporary=temporary),
        touches=frozenset() if kind is Kind.READ else written if all_named else frozenset((ANYTHING,)),
        depends_on=tables_read if names_all_tables(actions, opcodes) else frozenset((ANYTHING,)),
        attached=reads_attached(facts.opcodes),
        tables_read=tables_read,
        tables_written=written,
    )


def _kind(facts: Facts, opcodes: set[str]) -> tuple[Kind, str | None, str | None]:
    by_name = {a.name: a for a in facts.actions}
    if facts.is_explain:
        # Before a pragma EXPLAIN does not keep it from taking effect, where it does so when it is prepared.
        action = by_name.get("PRAGMA")
        if action is None or action.fourth is None or not acts_when_prepared((action.third or "").lower()):
            return Kind.READ, None, None
        return _pragma(action, facts.readonly)
    if "TRANSACTION" in by_name or "SAVEPOINT" in by_name or opcodes & {"AutoCommit", "Savepoint"}:
        return Kind.TRANSACTION, None, None
    if "ATTACH" in by_name or "DETACH" in by_name:
        return Kind.EVERYWHERE, None, None
    if (action := by_name.get("PRAGMA")) is not None:
        return _pragma(action, facts.readonly)
    if "Vacuum" in opcodes:
        return Kind.WRITER_ONLY, None, None
    if any(a.name.startswith(_SCHEMA_ACTIONS) for a in facts.actions):
        return Kind.SCHEMA, None, None
    return (Kind.READ if facts.readonly else Kind.WRITE), None, None


def _pragma(action: Action, readonly: bool) -> tuple[Kind, str | None, str | None]:
    name = (action.third or "").lower()
    decided = pragma_kind(name, action.fourth, readonly=readonly)
    match decided:
        case Pragma.READ:
            kind = Kind.READ
        case Pragma.WRITE:
            kind = Kind.WRITE
        case Pragma.WRITER_ONLY:
            kind = Kind.WRITER_ONLY
        case Pragma.EVERYWHERE:
            kind = Kind.EVERYWHERE
        case why:
            return Kind.REFUSED, name, why
    return kind, name, None


def _tables(actions: Iterable[Action], names: tuple[str, ...]) -> Iterable[str]:
    for action in actions:
        if action.name in names and action.third and not action.third.startswith("sqlite_"):
            yield action.third


def _halts_with(opcodes: Iterable[tuple[str, int, int]], on_error: int) -> bool:
    """Does a constraint's Halt carry this conflict action? (p1: result code, p2: OE_ action)."""
    return any(op in ("Halt", "HaltIfNull") and p1 & 0xFF == _CONSTRAINT and p2 == on_error for op, p1, p2 in opcodes)


def _word(actions: tuple[Action, ...], opcodes: set[str], readonly: bool) -> str:
    """The statement's first word as a person would say it."""
    for action in actions:
        match action.name:
            case "TRANSACTION":
                return action.third or "BEGIN"
            case "SAVEPOINT":
                return "SAVEPOINT" if action.third == "BEGIN" else (action.third or "SAVEPOINT")
            case "ATTACH" | "DETACH" | "PRAGMA" | "ANALYZE" | "REINDEX":
                return action.name
            case "SELECT" if readonly:
                return "SELECT"
            case "INSERT" | "UPDATE" | "DELETE" if not (action.third or "").startswith("sqlite_"):
                return action.name
            case name if name.startswith(("CREATE_", "DROP_", "ALTER_")):
                return name.replace("_", " ")
    return "VACUUM" if "Vacuum" in opcodes else "statement"
