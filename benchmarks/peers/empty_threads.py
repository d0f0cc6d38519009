"""Nothing at all, from threads: what the measuring itself costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.harness import Scenario


class _Calls:
    def read(self, key: int) -> Any:
        return (key,)

    def rows(self, key: int, number: int) -> Sequence[Any]:
        return range(number)

    def write(self, key: int) -> None:
        pass

    transaction = single = heavy = write

    def close(self) -> None:
        pass


class EmptyThreads:
    alone = False

    def open(self, path: str, scenario: Scenario) -> None:
        pass

    def worker(self) -> _Calls:
        return _Calls()

    def close(self) -> None:
        pass


def make() -> EmptyThreads:
    return EmptyThreads()
