"""What an attack is made of: numbered cases, each of which can be run again alone by its number and the seed."""

from __future__ import annotations

import hashlib
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Protocol

from tests.torture import parts


class Broken(AssertionError):
    """A promise was not kept; the text says which, and how it was seen."""


@dataclass(frozen=True)
class Case:
    """One case: all that is random in it comes from `random`, all its files go into `folder`, which is empty."""

    number: int
    seed: int
    folder: Path

    @property
    def random(self) -> Random:
        """A new generator at each call, the same for the same seed and number."""
        return Random(int.from_bytes(hashlib.sha256(f"{self.seed}:{self.number}".encode()).digest()[:8], "big"))


class Part(Protocol):
    """A module in `parts/`."""

    TITLE: str
    """What is attacked, in a few words."""
    UNIT: str
    """What is counted towards the goal, as it is called in the counts: "kills"."""
    GOAL: int
    """How many of them one whole run makes."""

    def run(self, case: Case) -> Mapping[str, int]:
        """Run one case, and count what was done; one of the counts is UNIT. Raises: Broken."""


def must(holds: object, promise: str) -> None:
    """Raises: Broken, if it does not hold."""
    if not holds:
        raise Broken(promise)


def all_parts() -> dict[str, Part]:
    """Every part by its name, which is its file's."""
    found: dict[str, Part] = {}
    for module in pkgutil.iter_modules(parts.__path__):
        part: Part = importlib.import_module(f"{parts.__name__}.{module.name}")
        missing = [name for name in ("TITLE", "UNIT", "GOAL", "run") if not hasattr(part, name)]
        if missing:
            raise TypeError(f"parts/{module.name}.py has no {', '.join(missing)}")
        found[module.name] = part
    return found
