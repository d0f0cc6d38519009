"""What a task awaits, as its transaction's holder would say it."""

from __future__ import annotations

import asyncio
import types
from typing import Any

from millpond.callers.tasks import TaskPort


def module(name: str, text: str) -> dict[str, Any]:
    made = types.ModuleType(name)
    exec(compile(text, f"{name}.py", "exec"), made.__dict__)  # noqa: S102  # functions of a module of that name
    return made.__dict__


HTTP = module("httpx_like.client", "async def get(gate):\n    await gate.wait()\n")
BOT = module(
    "bot.handlers",
    "async def award(get, gate):\n    await inner(get, gate)\nasync def inner(get, gate):\n    await get(gate)\n",
)
MAIN = module("main", "async def run(award, get, gate):\n    await award(get, gate)\n")


async def named(code: types.CodeType | None) -> str | None:
    gate = asyncio.Event()
    task = asyncio.create_task(MAIN["run"](BOT["award"], HTTP["get"], gate))
    await asyncio.sleep(0)
    _, awaiting = TaskPort(asyncio.get_running_loop()).caller_name(task, code)
    gate.set()
    await task
    return awaiting


async def test_it_is_the_first_thing_outside_of_the_module_that_holds_the_transaction() -> None:
    assert await named(BOT["award"].__code__) == "httpx_like.get"


async def test_without_the_holder_it_is_seen_from_the_tasks_root() -> None:
    assert await named(None) == "bot.award"
    assert await named(compile("", "x", "exec")) == "bot.award"
