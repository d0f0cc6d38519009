"""How tests wait for what other threads do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

IN_TIME_S = 20.0
"""Far beyond any wait that works: what comes later is lost."""


async def until(holds: Callable[[], object], every_s: float = 0.001) -> None:
    """Wait for an event that has no handle: ask again and again, the others run in between.

    every_s: 0 asks in each turn of the loop, so that nothing more than one turn has passed since it came true.
    """
    async with asyncio.timeout(IN_TIME_S):
        while not holds():  # noqa: ASYNC110  # what is looked at belongs to other threads
            await asyncio.sleep(every_s)
