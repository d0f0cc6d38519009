"""Lines of the caller's code, for people."""

from __future__ import annotations

import os.path
import types

__all__ = ["describe"]


def describe(code: types.CodeType, line: int) -> str:
    """bot.py:212 in award()."""
    return f"{os.path.basename(code.co_filename)}:{line} in {code.co_name}()"
