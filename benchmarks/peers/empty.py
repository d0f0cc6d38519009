"""Nothing at all, from an event loop: what the measuring itself costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness import Scenario


class Empty:
    async def open(self, path: str, scenario: Scenario) -> None:
        pass

    async def close(self) -> None:
        pass

    async def read(self, key: int) -> Any:
        return (key,)

    async def rows(self, key: int, number: int) -> Sequence[Any]:
        return range(number)

    async def write(self, key: int) -> None:
        pass

    transaction = single = heavy = write


def make() -> Empty:
    return Empty()
