"""How tests wait for what other threads do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

IN_TIME_S = 20.0
"""Far beyond any wait that works: what comes later is lost."""


async def until(holds: Callable[[], object]) -> None:
    """Wait for an event that has no handle: ask again and again, the others run in between."""
    async with asyncio.timeout(IN_TIME_S):
        while not holds():  # noqa: ASYNC110  # what is looked at belongs to other threads
            await asyncio.sleep(0.001)
