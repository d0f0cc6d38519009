"""Threads that are answered together are woken one by the other, and none is forgotten."""

from __future__ import annotations

import random
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from millpond.callers.threads import ThreadPort, ThreadWaiter

PATIENCE_S = 20.0


def reply(waiter: ThreadWaiter, result: Any = None) -> Any:
    return (SimpleNamespace(waiter=waiter), result, None)


def asleep(waiter: ThreadWaiter, came: list[Any]) -> threading.Thread:
    """A thread that waits there, and is asleep by now."""

    def main() -> None:
        assert waiter.wait(PATIENCE_S)
        came.append(waiter.result())

    thread = threading.Thread(target=main, daemon=True)
    thread.start()
    while not waiter.asleep:
        pass
    return thread


def test_all_get_their_own_answer() -> None:
    port = ThreadPort()
    came: list[Any] = []
    waiters = [port.waiter() for _ in range(25)]
    threads = [asleep(waiter, came) for waiter in waiters]
    port.settle([reply(waiter, i) for i, waiter in enumerate(waiters)])
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(came) == list(range(25))


def test_who_was_not_asleep_yet_does_not_break_the_chain() -> None:
    port = ThreadPort()
    came: list[Any] = []
    early, late = port.waiter(), port.waiter()
    thread = asleep(late, came)
    port.settle([reply(early, "early"), reply(late, "late")])
    thread.join(PATIENCE_S)
    assert came == ["late"]
    assert early.wait(0.0)
    assert early.result() == "early"


def test_an_answer_that_comes_too_late_changes_nothing() -> None:
    port = ThreadPort()
    came: list[Any] = []
    given_up, other = port.waiter(), port.waiter()
    given_up.give_up()
    thread = asleep(other, came)
    port.settle([reply(given_up, 1), reply(other, 2)])
    thread.join(PATIENCE_S)
    assert came == [2]
    assert given_up.result() is None


def test_a_thread_that_is_interrupted_while_it_waits_wakes_the_next() -> None:
    port = ThreadPort()
    came: list[Any] = []
    broken, other = port.waiter(), port.waiter()

    class Interrupted:
        """A lock whose owner is struck by Ctrl-C as it is woken."""

        def acquire(self, timeout: float) -> bool:
            port.settle([reply(broken, 1), reply(other, 2)])
            raise KeyboardInterrupt

        def release(self) -> None:
            pass

    thread = asleep(other, came)
    broken._lock = Interrupted()  # type: ignore[assignment]  # stands for a lock
    with pytest.raises(KeyboardInterrupt):
        broken.wait(PATIENCE_S)
    thread.join(PATIENCE_S)
    assert came == [2]


def test_many_callers_and_settlers_at_once_lose_nobody() -> None:
    seed = random.randrange(2**32)
    print("seed", seed)
    dice = random.Random(seed)
    port = ThreadPort()
    inbox: list[ThreadWaiter] = []
    answered: list[int] = []

    def call(times: int) -> None:
        for _ in range(times):
            waiter = port.waiter()
            inbox.append(waiter)
            assert waiter.wait(PATIENCE_S), "nobody woke it"
            answered.append(waiter.result())

    callers = [threading.Thread(target=call, args=(200,)) for _ in range(16)]
    for caller in callers:
        caller.start()
    settled = 0
    while settled < 3_200 and any(caller.is_alive() for caller in callers):
        batch = [inbox.pop() for _ in range(min(len(inbox), dice.randint(1, 16)))]
        port.settle([reply(waiter, settled + i) for i, waiter in enumerate(batch)])
        settled += len(batch)
    for caller in callers:
        caller.join(PATIENCE_S)
    assert sorted(answered) == list(range(3_200))
