"""Blocks of text for people, printed by rich where it is installed and plainly where not."""

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
    # What goes into a file or a pipe is the same with and without rich.
    if screen.colour and has_rich():
        _show_rich(blocks, stream, screen)
        return
    stream.write("\n" + "\n\n".join(_plain(block, screen) for block in blocks) + "\n")


def _plain(block: Block, screen: Screen) -> str:
    match block:
        case Text():
            wrapped = textwrap.fill(
                block.text, screen.width, subsequent_indent=" " * block.indent, break_on_hyphens=False
            )
            return _coloured(wrapped, block.mood, screen)
        case Code():
            return "\n".join(f"    {line}" for line in block.lines)
        case Columns():
            return _plain_table(block, screen)


def _plain_table(table: Columns, screen: Screen) -> str:
    widths = [max(len(row[column]) for row in (table.head, *table.rows)) for column in range(len(table.head))]

    def line(cells: Sequence[str], moods: Sequence[Mood]) -> str:
        padded = [
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        moods = [*moods, *[Mood.PLAIN] * (len(cells) - len(moods))]
        return "  ".join(_coloured(cell, mood, screen) for cell, mood in zip(padded, moods, strict=True)).rstrip()

    rule = ("━" if screen.symbols else "-") * (sum(widths) + 2 * (len(widths) - 1))
    moods = table.moods or ((),) * len(table.rows)
    head = line(table.head, [Mood.STRONG] * len(table.head))
    return "\n".join([head, rule, *map(line, table.rows, moods)])


def _coloured(text: str, mood: Mood, screen: Screen) -> str:
    return f"\x1b[{_ANSI[mood]}m{text}\x1b[0m" if screen.colour and _ANSI[mood] else text


def _show_rich(blocks: Sequence[Block], stream: TextIO, screen: Screen) -> None:
    from rich import box
    from rich.console import Console
    from rich.padding import Padding
    from rich.syntax import Syntax
    from rich.table import Table
    from rich.text import Text as Rich

    console = Console(file=stream, width=screen.width, force_terminal=True, highlight=False, legacy_windows=False)
    console.print()
    for number, block in enumerate(blocks):
        if number:
            console.print()
        match block:
            case Text():
                wrapped = textwrap.fill(
                    block.text, screen.width, subsequent_indent=" " * block.indent, break_on_hyphens=False
                )
                console.print(Rich(wrapped, style=block.mood.value), soft_wrap=True)
            case Code():
                code = Syntax("\n".join(block.lines), "python", theme="ansi_dark", background_color="default")
                console.print(Padding(code, (0, 0, 0, 4)))
            case Columns():
                table = Table(box=box.SIMPLE_HEAD if screen.symbols else box.ASCII2, pad_edge=False, padding=(0, 1))
                for column, name in enumerate(block.head):
                    table.add_column(name, justify="right" if column else "left", no_wrap=True)
                for row, moods in zip(block.rows, block.moods or ((),) * len(block.rows), strict=True):
                    filled = [*moods, *[Mood.PLAIN] * (len(row) - len(moods))]
                    table.add_row(*(Rich(cell, style=mood.value) for cell, mood in zip(row, filled, strict=True)))
                console.print(table)
