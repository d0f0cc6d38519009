"""Exit codes: a script must tell "it is bad" from "it could not be checked"."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Exit"]


class Exit(IntEnum):
    GOOD = 0
    BAD = 1
    """The thing checked is bad."""
    WRONG_USE = 2
    UNCHECKED = 3
    """It could not be checked: no database, no permission, too little data."""
    INTERRUPTED = 130
    TERMINATED = 143
