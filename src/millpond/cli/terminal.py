"""What a stream can show: colour, a moving line, its width, symbols."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

__all__ = ["Screen", "screen_of"]

_USUAL_WIDTH = 80
_LEAST_WIDTH, _MOST_WIDTH = 40, 100


@dataclass(frozen=True, slots=True)
class Screen:
    """colour: ANSI colours are wanted; moving: a line may be written over; symbols: beyond ASCII; width: columns."""

    colour: bool
    moving: bool
    symbols: bool
    width: int = _USUAL_WIDTH


def screen_of(stream: TextIO, environ: Mapping[str, str] = os.environ) -> Screen:
    """What `stream` can show.

    NO_COLOR and FORCE_COLOR count when they are not empty, the former first (no-color.org, force-color.org);
    TERM=dumb has neither colour nor a moving line.
    """
    terminal = stream.isatty()
    dumb = environ.get("TERM") == "dumb"
    if environ.get("NO_COLOR"):
        colour = False
    elif environ.get("FORCE_COLOR"):
        colour = True
    else:
        colour = terminal and not dumb
    columns = shutil.get_terminal_size((_USUAL_WIDTH, 24)).columns if terminal else _USUAL_WIDTH
    return Screen(colour, terminal and not dumb, _can_write("━", stream), max(_LEAST_WIDTH, min(columns, _MOST_WIDTH)))


def _can_write(text: str, stream: TextIO) -> bool:
    try:
        text.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
