"""Lines of the caller's code, for people."""

from __future__ import annotations

import os.path
import types
import warnings

__all__ = ["describe", "is_outside", "outside", "warn_at"]


def describe(code: types.CodeType, line: int) -> str:
    """bot.py:212 in award()."""
    return f"{os.path.basename(code.co_filename)}:{line} in {code.co_name}()"


def is_outside(module: str) -> bool:
    """Is it a module of the caller's, rather than of this package?"""
    return module.partition(".")[0] != "millpond"


def outside(frame: types.FrameType | None) -> types.FrameType | None:
    """The first frame outside of this package; None in a thread that the package has started."""
    while frame is not None and not is_outside(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return None if frame is None or frame.f_globals.get("__name__") == "threading" else frame


def warn_at(frame: types.FrameType | None, text: str, kind: type[Warning], source: object = None) -> None:
    """Warn of the line that a frame is at; of our own where there is none."""
    if frame is None:
        warnings.warn(text, kind, stacklevel=2, source=source)
        return
    names = frame.f_globals
    warnings.warn_explicit(
        text, kind, frame.f_code.co_filename, frame.f_lineno, module=names.get("__name__"),
        registry=names.setdefault("__warningregistry__", {}), source=source,
    )  # fmt: skip
