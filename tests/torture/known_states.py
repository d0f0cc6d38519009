"""Writes of many kinds, of which it is known what the database holds after each: so any state of it can be placed.

Every write adds entries that carry its token; entries are never deleted, so their order is that of the commits. The
rest (balances, large values, tables of its own) is worked out by `State.after`.
"""

from __future__ import annotations

import asyncio
import enum
import json
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal

from millpond import Database, Row
from tests.torture.case import must

__all__ = [
    "ENTER_ONE",
    "SETUP",
    "History",
    "How",
    "Kind",
    "Planned",
    "State",
    "Work",
    "drawn",
    "perform",
    "read",
    "setup_script",
]

ACCOUNTS = 6
_BODY = "hex(zeroblob(token % 37 * 8)) || '-' || token || '-' || part"
_LARGE = "hex(zeroblob(token % 7 * 900)) || token"


class Kind(enum.Enum):
    """What a write changes beside its entries."""

    SETUP = "makes the schema"
    ENTER = "nothing"
    MOVE = "moves an amount between accounts"
    STORE = "stores large values"
    TRIM = "deletes large values"
    MAKE = "makes a table"
    DROP = "drops tables"
    INDEX = "makes or drops an index"
    FAIL = "fails in its last step"


class How(enum.Enum):
    """By which method it is written."""

    EXECUTE = "execute"
    MANY = "execute_many"
    SCRIPT = "execute_script"
    WRITE = "write"
    TRANSACTION = "transaction"


@dataclass(frozen=True, slots=True)
class Work:
    """One write, all or none. pick: what decides where its kind has a choice."""

    token: int
    kind: Kind
    how: How
    parts: int
    pick: int


class Planned(Exception):
    """A write that was meant to fail did."""


@dataclass(frozen=True, slots=True)
class State:
    """What a database holds beside its entries."""

    balances: tuple[int, ...] = ()
    large: frozenset[int] = frozenset()
    tables: frozenset[int] = frozenset()
    is_indexed: bool = False

    def after(self, work: Work) -> State:
        match work.kind:
            case Kind.SETUP:
                return State(balances=(0,) * ACCOUNTS)
            case Kind.MOVE:
                balances = list(self.balances)
                source, target = _accounts(work)
                balances[source] -= work.token
                balances[target] += work.token
                return replace(self, balances=tuple(balances))
            case Kind.STORE:
                return replace(self, large=self.large | {work.token})
            case Kind.TRIM:
                return replace(self, large=frozenset(token for token in self.large if token % 3 != work.pick % 3))
            case Kind.MAKE:
                return replace(self, tables=self.tables | {work.token})
            case Kind.DROP:
                return replace(self, tables=frozenset(token for token in self.tables if token % 2 != work.pick % 2))
            case Kind.INDEX:
                return replace(self, is_indexed=bool(work.pick % 2))
            case _:
                return self


SETUP = Work(0, Kind.SETUP, How.SCRIPT, 2, 0)


@dataclass(slots=True)
class History:
    """Writes in the order of their commits, and the state after so many of them."""

    order: list[Work] = field(default_factory=list)
    states: list[State] = field(default_factory=lambda: [State()])

    def first(self, number: int) -> History:
        """As it was after so many."""
        return History(self.order[:number], self.states[: number + 1])

    def add(self, work: Work) -> None:
        self.order.append(work)
        self.states.append(self.states[-1].after(work))

    def place(self, tokens: list[int], state: State) -> int:
        """After how many writes a database held this. Raises: Broken if it never did."""
        known = [work.token for work in self.order[: len(tokens)]]
        missing = [token for token in known if token not in tokens]
        must(not missing, f"a later write is there, and write {missing[:3]} before it is not")
        must(
            tokens == known, f"there are writes {[t for t in tokens if t not in known][:3]} that never were, or earlier"
        )
        must(
            state == self.states[len(tokens)],
            f"after {len(tokens)} writes it is {state}, not {self.states[len(tokens)]}",
        )
        return len(tokens)


def drawn(token: int, random: Random) -> Work:
    """Any write."""
    kind = random.choices(
        [Kind.ENTER, Kind.MOVE, Kind.STORE, Kind.TRIM, Kind.MAKE, Kind.DROP, Kind.INDEX, Kind.FAIL],
        [40, 20, 15, 8, 3, 2, 3, 4],
    )[0]
    hows = [How.WRITE, How.TRANSACTION]
    if kind is Kind.ENTER:
        hows += [How.EXECUTE, How.EXECUTE, How.MANY]
    if kind not in (Kind.DROP, Kind.FAIL):
        hows.append(How.SCRIPT)
    return Work(token, kind, random.choice(hows), random.randint(1, 5), random.randrange(1_000))


async def perform(db: Database, work: Work, durability: Literal["full", "normal"]) -> None:
    """Raises: Planned, for one that is to fail."""
    statements = _statements(work)
    match work.how:
        case How.EXECUTE:
            await db.execute(*statements[0], durability=durability)
        case How.MANY:
            rows = [(work.token, part, work.parts) for part in range(work.parts)]
            await db.execute_many(ENTER_ONE, rows, durability=durability)
        case How.SCRIPT:
            await db.execute_script(_script(work), durability=durability)
        case How.WRITE:

            def function(tx: Any) -> None:
                tables = [row[0] for row in tx.fetch_all(_OWN_TABLES)] if work.kind is Kind.DROP else []
                for sql, params in statements + _drops(work, tables):
                    tx.execute(sql, params)
                if work.kind is Kind.FAIL:
                    raise Planned

            await db.write(function, durability=durability)
        case How.TRANSACTION:
            async with db.transaction(durability=durability) as tx:
                tables = [row[0] for row in await tx.fetch_all(_OWN_TABLES)] if work.kind is Kind.DROP else []
                for sql, params in statements + _drops(work, tables):
                    await tx.execute(sql, params)
                    if work.pick % 5 == 0:
                        await asyncio.sleep(0)
                if work.kind is Kind.FAIL:
                    raise Planned


async def read(db: Database) -> tuple[list[int], State]:
    """The tokens of the writes that are there, in order, and the rest. Raises: Broken for one that is half there."""
    names = {row[0] for row in await db.fetch_all("SELECT name FROM sqlite_schema WHERE name NOT GLOB 'sqlite_*'")}
    if not names:
        return [], State()
    must({"entry", "account", "large"} <= names, f"of the schema there is only {sorted(names)}")
    rows = await db.fetch_all(
        "SELECT token, count(DISTINCT part) AS there, count(*) AS n, max(parts) AS parts, "
        f"sum(body IS {_BODY}) AS good FROM entry GROUP BY token ORDER BY min(id)"
    )
    for row in rows:
        _must_be_whole(row)
    large = await db.fetch_all(f"SELECT token, body IS {_LARGE} FROM large")
    must(all(row[1] for row in large), "a large value is not what was stored")
    tables = frozenset(int(name[4:]) for name in names if name.startswith("own_"))
    for token in tables:
        must(await db.fetch_value(f"SELECT a FROM own_{token}") == token, f"the table own_{token} lost its row")
    balances = await db.fetch_all("SELECT balance FROM account ORDER BY id")
    state = State(tuple(row[0] for row in balances), frozenset(row[0] for row in large), tables, "entry_body" in names)
    return [row[0] for row in rows], state


def setup_script() -> str:
    """The schema, and SETUP's own entries."""
    return _script(SETUP)


ENTER_ONE = (
    f"INSERT INTO entry(token, part, parts, body) SELECT token, part, parts, {_BODY} "
    "FROM (SELECT ?1 AS token, ?2 AS part, ?3 AS parts)"
)
_OWN_TABLES = "SELECT name FROM sqlite_schema WHERE name GLOB 'own_*' ORDER BY name"
_ENTER = (
    f"INSERT INTO entry(token, part, parts, body) SELECT token, part, parts, {_BODY} "
    "FROM (SELECT ?1 AS token, value AS part, ?2 AS parts FROM json_each(?3))"
)
_SCHEMA = (
    "CREATE TABLE entry(id INTEGER PRIMARY KEY, token INTEGER, part INTEGER, parts INTEGER, body TEXT)",
    "CREATE INDEX entry_token ON entry(token, part)",
    "CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER)",
    "CREATE TABLE large(token INTEGER PRIMARY KEY, body TEXT)",
    f"INSERT INTO account(id, balance) SELECT value, 0 FROM json_each('{list(range(ACCOUNTS))}')",
)


def _must_be_whole(row: Row) -> None:
    token, there, number, parts, good = row
    must(there == number == parts, f"of the {parts} entries of write {token} there are {there}")
    must(good == parts, f"an entry of write {token} is not what was written")


def _accounts(work: Work) -> tuple[int, int]:
    return work.pick % ACCOUNTS, work.pick // ACCOUNTS % ACCOUNTS


def _statements(work: Work) -> list[tuple[str, tuple[Any, ...]]]:
    enter = (_ENTER, (work.token, work.parts, json.dumps(list(range(work.parts)))))
    match work.kind:
        case Kind.SETUP:
            return [*((sql, ()) for sql in _SCHEMA), enter]
        case Kind.MOVE:
            source, target = _accounts(work)
            return [
                ("UPDATE account SET balance = balance - ?1 WHERE id = ?2", (work.token, source)),
                enter,
                ("UPDATE account SET balance = balance + ?1 WHERE id = ?2", (work.token, target)),
            ]
        case Kind.STORE:
            return [enter, (f"INSERT INTO large SELECT token, {_LARGE} FROM (SELECT ?1 AS token)", (work.token,))]
        case Kind.TRIM:
            return [("DELETE FROM large WHERE token % 3 = ?1", (work.pick % 3,)), enter]
        case Kind.MAKE:
            name = f"own_{work.token}"
            return [(f"CREATE TABLE {name}(a)", ()), enter, (f"INSERT INTO {name} VALUES (?1)", (work.token,))]
        case Kind.INDEX if work.pick % 2:
            return [enter, ("CREATE INDEX IF NOT EXISTS entry_body ON entry(body)", ())]
        case Kind.INDEX:
            return [("DROP INDEX IF EXISTS entry_body", ()), enter]
        case _:
            return [enter]


def _drops(work: Work, tables: list[str]) -> list[tuple[str, tuple[Any, ...]]]:
    return [(f"DROP TABLE {name}", ()) for name in tables if int(name[4:]) % 2 == work.pick % 2]


def _script(work: Work) -> str:
    """A script takes no parameters: they are numbers and a list of them, written out."""
    texts = []
    for sql, params in _statements(work):
        for i, value in enumerate(params, 1):
            sql = sql.replace(f"?{i}", f"'{value}'" if isinstance(value, str) else str(value))
        texts.append(sql)
    return ";\n".join(texts)
