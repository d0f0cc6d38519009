"""Blocks of text for people."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TextIO

from millpond.cli.terminal import Screen

__all__ = ["Block", "Code", "Columns", "Mood", "Text", "has_rich", "show"]


class Mood(Enum):
    PLAIN = ""
    GOOD = "green"
    BAD = "red"
    STRONG = "bold"
    FAINT = "dim"


_ANSI = {Mood.PLAIN: "", Mood.GOOD: "32", Mood.BAD: "31", Mood.STRONG: "1", Mood.FAINT: "2"}


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph, wrapped. A later line of it is indented by `indent`."""

    text: str
    mood: Mood = Mood.PLAIN
    indent: int = 0


@dataclass(frozen=True, slots=True)
class Columns:
    """A table. The first column is to the left, the others to the right; moods: of a row's cells, from the first."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    moods: tuple[tuple[Mood, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Code:
    """Python to copy."""

    lines: tuple[str, ...]


Block = Text | Columns | Code


def has_rich() -> bool:
    """Is rich there? It is the extra `cli`."""
    try:
        import rich  # noqa: F401  # whether it imports is the question
    except ImportError:
        return False
    return True


def show(blocks: Sequence[Block], stream: TextIO, screen: Screen) -> None:
    """Print the blocks, an empty line between them."""
    stream.write("\n" + "\n\n".join(_printed(block, screen) for block in blocks) + "\n")


def _printed(block: Block, screen: Screen) -> str:
    match block:
        case Text():
            wrapped = textwrap.fill(
                block.text, screen.width, subsequent_indent=" " * block.indent, break_on_hyphens=False
            )
            return _coloured(wrapped, block.mood, screen)
        case Code():
            lines = _highlighted(block.lines) if screen.colour and has_rich() else block.lines
            return "\n".join(f"    {line}" for line in lines)
        case Columns():
            return _table(block, screen)


def _table(table: Columns, screen: Screen) -> str:
    widths = [max(len(row[column]) for row in (table.head, *table.rows)) for column in range(len(table.head))]

    def line(cells: Sequence[str], moods: Sequence[Mood]) -> str:
        moods = [*moods, *[Mood.PLAIN] * (len(cells) - len(moods))]
        padded: list[str] = []
        for cell, width, mood in zip(cells, widths, moods, strict=True):
            space, coloured = " " * (width - len(cell)), _coloured(cell, mood, screen)
            padded.append(space + coloured if padded else coloured + space)
        return "  ".join(padded).rstrip()

    rule = ("━" if screen.symbols else "-") * (sum(widths) + 2 * (len(widths) - 1))
    moods = table.moods or ((),) * len(table.rows)
    head = line(table.head, [Mood.STRONG] * len(table.head))
    return "\n".join([head, rule, *map(line, table.rows, moods)])


def _coloured(text: str, mood: Mood, screen: Screen) -> str:
    return f"\x1b[{_ANSI[mood]}m{text}\x1b[0m" if screen.colour and _ANSI[mood] else text


def _highlighted(lines: Sequence[str]) -> list[str]:
    from rich.console import Console
    from rich.syntax import Syntax

    code = Syntax("\n".join(lines), "python", theme="ansi_dark", background_color="default")
    console = Console(width=max(map(len, lines)), force_terminal=True, color_system="standard", legacy_windows=False)
    with console.capture() as captured:
        console.print(code)
    return captured.get().rstrip("\n").split("\n")
