"""What a process says before it is killed: lines in a pipe, whose reader lives on.

    i TOKEN PARTS [s]   intends (s: in slices)         a TOKEN   acknowledged      n TOKEN   nothing of it is there
    d TOKEN             is about to delete             D TOKEN   acknowledged
    b TARGET            is about to make a backup      B TARGET  acknowledged
    m NUMBER            migrations up to this one are applied
    h POINT             kills itself here              r JSON    what a checker found
    e TEXT              an error that nobody ordered   w TEXT    a warning
    o, c, C             is open, is about to close, is closed
    u                   has got ready to be killed

What is not ended by a line feed was not said.
"""

from __future__ import annotations

import logging
import os
import select

__all__ = ["Said", "hear_warnings"]


class Said:
    """Each line is written by one call and is no longer than the pipe takes as a whole: it is there, or it is not."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self, kind: str, *words: object) -> None:
        text = " ".join([kind, *map(str, words)]).replace("\n", " | ").encode()[: select.PIPE_BUF - 1]
        os.write(self._descriptor, text + b"\n")

    def at_length(self, kind: str, text: str) -> None:
        """For who is alone and speaks of nothing that the next moment may change."""
        rest = f"{kind} {text}\n".encode()
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]


class _Warnings(logging.Handler):
    def __init__(self, said: Said) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        cause = f": {record.exc_info[1]!r}" if record.exc_info else ""
        self._said("e" if record.levelno >= logging.ERROR else "w", record.name, record.getMessage() + cause)


def hear_warnings(said: Said) -> None:
    """What Millpond logs is said too: an error there is one here."""
    logging.getLogger("millpond").addHandler(_Warnings(said))
