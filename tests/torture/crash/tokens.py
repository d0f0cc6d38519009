"""The rows that stand for one write: all carry its token, and nothing else has that."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["ACCOUNTS", "EACH", "INSERT", "READ", "SCHEMA", "body", "row", "rows", "sort_out"]

EACH = 1_000_000
"""Tokens of one process: its number times this, and on."""
ACCOUNTS = 8
"""Money goes round between them; together they have none."""

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS entry (
    id INTEGER PRIMARY KEY, token INTEGER NOT NULL, part INTEGER NOT NULL, parts INTEGER NOT NULL,
    size INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS entry_token ON entry (token);
CREATE TABLE IF NOT EXISTS tally (process INTEGER PRIMARY KEY, writes INTEGER NOT NULL);
CREATE TRIGGER IF NOT EXISTS counted AFTER INSERT ON entry WHEN NEW.part = 0 BEGIN
    INSERT INTO tally VALUES (NEW.token / {EACH}, 1) ON CONFLICT (process) DO UPDATE SET writes = writes + 1;
END;
CREATE TRIGGER IF NOT EXISTS uncounted AFTER DELETE ON entry WHEN OLD.part = 0 BEGIN
    UPDATE tally SET writes = writes - 1 WHERE process = OLD.token / {EACH};
END;
CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
INSERT OR IGNORE INTO account VALUES {", ".join(f"({number}, 0)" for number in range(ACCOUNTS))};
"""
INSERT = "INSERT INTO entry (token, part, parts, size, body) VALUES (?, ?, ?, ?, ?)"
READ = "SELECT token, part, parts, size, body FROM entry"

Row = tuple[int, int, int, int, str]


def body(token: int, part: int, size: int) -> str:
    """What the row must hold: a torn or foreign one does not look like it."""
    pattern = f"{token}.{part}/"
    return (pattern * (size // len(pattern) + 1))[:size]


def row(token: int, part: int, parts: int, size: int) -> Row:
    return token, part, parts, size, body(token, part, size)


def rows(token: int, parts: int, size: int, *, sliced: bool = False) -> list[Row]:
    """All rows of a write. sliced: it may come in slices, so its rows do not say how many there are."""
    return [row(token, part, 0 if sliced else parts, size) for part in range(parts)]


def sort_out(found: Iterable[Row]) -> tuple[dict[int, int], dict[int, str]]:
    """By token: the number of rows, where they are the first ones, each once, each as it was written; else why not.

    A write that says of itself how many rows it has must have all of them.
    """
    parts_of: dict[int, list[int]] = {}
    says: dict[int, set[int]] = {}
    wrong: dict[int, str] = {}
    for token, part, parts, size, text in found:
        parts_of.setdefault(token, []).append(part)
        says.setdefault(token, set()).add(parts)
        if text != body(token, part, size):
            wrong[token] = f"row {part} is not what was written"
    counts: dict[int, int] = {}
    for token, present in parts_of.items():
        number = len(present)
        if token in wrong:
            continue
        if len(set(present)) < number:
            wrong[token] = f"rows {sorted(present)}: some are there twice"
        elif max(present) != number - 1:
            wrong[token] = f"rows {sorted(present)}: some are missing"
        elif says[token] not in ({0}, {number}):
            wrong[token] = f"{number} rows of {says[token]}"
        else:
            counts[token] = number
    return counts, wrong
