"""Lines of the caller's code, for people."""

from __future__ import annotations

import os.path
import types
import warnings

__all__ = ["caller", "closed_at", "describe", "is_outside", "outside", "warn_at"]

_PROGRAMS = ("millpond.demo", "millpond.cli")
"""Part of the package, but users of the library as others are."""
_LOOPS = ("asyncio.events", "asyncio.runners")


def describe(code: types.CodeType, line: int) -> str:
    """bot.py:212 in award()."""
    return f"{os.path.basename(code.co_filename)}:{line} in {code.co_name}()"


def _user_frame(frame: types.FrameType | None) -> types.FrameType | None:
    """The nearest frame that is not the library's, nor asyncio's or contextlib's, from `frame` outwards."""
    while frame is not None and (_is_ours(frame) or _module(frame).split(".")[0] in ("asyncio", "contextlib")):
        frame = frame.f_back
    return frame


def caller(frame: types.FrameType | None) -> tuple[str | None, str | None]:
    """Of a call into the library: the method's name, and the line of the caller's code.

    No line where the call is a task of its own: then the loop has called it.
    """
    method: str | None = None
    while frame is not None and _is_ours(frame):
        method = frame.f_code.co_name
        frame = frame.f_back
    while frame is not None and _module(frame).split(".")[0] in ("asyncio", "contextlib"):
        if _module(frame) in _LOOPS:
            return method, None
        frame = frame.f_back
    return method, describe(frame.f_code, frame.f_lineno) if frame is not None else None


def _module(frame: types.FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_ours(frame: types.FrameType) -> bool:
    name = _module(frame)
    return name.split(".")[0] == "millpond" and not name.startswith(_PROGRAMS)


def closed_at(frame: types.FrameType) -> str:
    """Where a database was closed: the user's own line, whoever called on its way."""
    found = _user_frame(frame) or frame
    return describe(found.f_code, found.f_lineno)


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
