"""Builds an engine for a facade, and sees that none outlives the interpreter."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from millpond.configuration import load
from millpond.engine.sqlite.engine import Engine, Standing
from millpond.events import Observer
from millpond.locations import Location
from millpond.places import outside, warn_at
from millpond.ports import Port
from millpond.settings import Settings

__all__ = ["Facade", "build", "settings_from", "watch_over"]

FORGOTTEN_GRACE_S = 0.3
"""What a forgotten database gets at exit: enough to finish what is queued, too short to be a hang."""


class Facade(Protocol):
    """A Database of either kind, as the exit sees it."""

    _engine: Engine | None
    _opened_at: str


_open: weakref.WeakSet[Any] = weakref.WeakSet()


def settings_from(explicit: Settings | Mapping[str, Any] | None) -> Settings:
    """Settings given in code, over the environment, over the nearest configuration file."""
    return load(explicit, os.environ, Path.cwd())


def build(location: Location, settings: Settings, port: Port, observers: Sequence[Observer]) -> Engine:
    """An engine for the location, not yet open."""
    return Engine(location, settings, port, observers)


def watch_over(facade: Facade) -> None:
    """Close this one at exit if its owner does not."""
    _open.add(facade)


def warn_unclosed(facade: Facade) -> None:
    """Say which line opened a database that nobody closed."""
    engine = facade._engine
    if engine is not None and engine.standing is Standing.OPEN:
        warn_at(
            outside(sys._getframe(1)),
            f"unclosed database {engine.name}, opened at {facade._opened_at}; "
            "use `async with Database(...)`, or close() it",
            ResourceWarning,
            source=facade,
        )
        engine.leaked("database", facade._opened_at)


@atexit.register
def _at_exit() -> None:
    for facade in list(_open):
        warn_unclosed(facade)
        engine = facade._engine
        if engine is not None:
            engine.close(FORGOTTEN_GRACE_S)
