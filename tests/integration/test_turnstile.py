"""Turns between processes: fair, given back by the dead, and done without where they cannot be had."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from millpond import Database
from millpond.engine.sqlite import platform, turnstile
from millpond.engine.sqlite.turnstile import GIVE_WAY_S, SUFFIX, Turnstile

from .outside import ask

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has what it rests on")


@pytest.fixture
def path(tmp_path: Path) -> str:
    name = tmp_path / "a.db"
    name.touch()
    return str(name)


def opened(path: str) -> Turnstile:
    found = Turnstile.open(path)
    assert found is not None
    return found


@pytest.fixture
def two(path: str) -> Iterator[tuple[Turnstile, Turnstile]]:
    """As two processes have it: each with a descriptor of its own."""
    pair = opened(path), opened(path)
    yield pair
    for one in pair:
        one.close()


def forever() -> bool:
    return True


def test_one_at_a_time(two: tuple[Turnstile, Turnstile]) -> None:
    first, second = two
    assert first.slip_in()
    assert not second.slip_in()
    first.leave()
    first.leave()
    assert second.wait(forever)
    assert not first.slip_in()


def test_who_gives_up_is_heard(two: tuple[Turnstile, Turnstile]) -> None:
    first, second = two
    assert first.slip_in()
    looks = iter([True, True, False])
    assert not second.wait(lambda: next(looks))
    assert not first.crowded


def test_a_turn_may_hold_several_batches(two: tuple[Turnstile, Turnstile], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = two
    monkeypatch.setattr(turnstile, "TURN_S", 3_600.0)
    assert first.wait(forever)
    first._page[second._flag] = 1
    first.leave()
    assert first.slip_in()
    first.leave()
    first._page[(second._flag + 1 - 64) % 256 + 64] = 1
    assert not second.slip_in(), "somebody else had the last turn, and another one waits"


def test_who_has_had_its_turn_lets_the_waiting_go_first(
    two: tuple[Turnstile, Turnstile], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    monkeypatch.setattr(turnstile, "TURN_S", 0.0)
    assert first.wait(forever)
    order: list[str] = []
    waits = threading.Event()

    def other() -> None:
        def wanted() -> bool:
            waits.set()
            return True

        assert second.wait(wanted)
        order.append("second")
        second.leave()

    thread = threading.Thread(target=other)
    thread.start()
    assert waits.wait(10)
    first.leave()
    assert not first.slip_in(), "not past those who wait"
    assert first.wait(forever)
    order.append("first")
    thread.join(10)
    assert order == ["second", "first"]


def test_the_flag_of_a_dead_process_costs_one_short_wait(
    two: tuple[Turnstile, Turnstile], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    monkeypatch.setattr(turnstile, "TURN_S", 0.0)
    first._page[second._flag] = 1
    assert first.wait(forever)
    first.leave()
    assert first.crowded
    assert first.wait(forever)
    first.leave()
    assert not first.crowded
    assert GIVE_WAY_S < 0.01


def test_the_lock_of_a_killed_process_is_free(path: str) -> None:
    code = (
        "import sys; from millpond.engine.sqlite.turnstile import Turnstile; t = Turnstile.open(sys.argv[1]); "
        "assert t.slip_in(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "held"
        mine = opened(path)
        assert not mine.slip_in()
        process.kill()
        assert mine.wait(forever)
    mine.close()


def test_the_last_one_out_removes_the_side_file(path: str) -> None:
    first, second = opened(path), opened(path)
    first.close()
    assert os.path.exists(path + SUFFIX)
    second.close()
    second.close()
    assert not os.path.exists(path + SUFFIX)


def test_where_it_cannot_be_had_there_is_none(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir(path + SUFFIX)
    assert Turnstile.open(path) is None
    os.rmdir(path + SUFFIX)
    monkeypatch.setattr(platform, "linux_facts", False)
    assert Turnstile.open(path) is None


def test_a_link_in_its_place_is_not_followed(path: str, tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("do not touch")
    os.symlink(target, path + SUFFIX)
    assert Turnstile.open(path) is None
    assert target.read_text() == "do not touch"


@pytest.mark.parametrize("loss", ["deleted", "never had"])
async def test_the_service_goes_on_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    path = tmp_path / "a.db"
    if loss == "never had":
        monkeypatch.setattr(turnstile.Turnstile, "open", staticmethod(lambda _: None))
    async with Database(path) as db:
        await db.execute("CREATE TABLE t(a)")
        if loss == "deleted":
            os.unlink(str(path) + SUFFIX)
        await asyncio.gather(*(db.execute("INSERT INTO t VALUES (?)", (i,)) for i in range(50)))
        assert await db.fetch_value("SELECT count(*) FROM t") == 50
    assert not (tmp_path / ("a.db" + SUFFIX)).exists()


async def test_a_long_transaction_does_not_keep_the_turn(tmp_path: Path) -> None:
    """Others then wait for SQLite's own lock, which they can be told the holder of."""
    async with Database(tmp_path / "a.db") as db:
        await db.execute("CREATE TABLE t(a)")
        mine = opened(str(tmp_path / "a.db"))
        async with db.transaction() as tx:
            await tx.execute("INSERT INTO t VALUES (1)")
            assert not mine.slip_in()
            async with asyncio.timeout(5):
                while not mine.slip_in():  # noqa: ASYNC110  # it is the writer's thread that leaves
                    await asyncio.sleep(0.01)
            mine.leave()
        mine.close()


_WRITER = """
import asyncio, json, sys, time
from millpond import Database
def both(tx):
    tx.execute("INSERT INTO t VALUES (1)")
    tx.execute("UPDATE n SET n = n + 1")
async def main():
    done = 0
    async with Database(sys.argv[1]) as db:
        print("ready", flush=True)
        sys.stdin.readline()
        end = time.monotonic() + 1.5
        async def worker():
            nonlocal done
            while time.monotonic() < end:
                await db.write(both)
                done += 1
        await asyncio.gather(*(worker() for _ in range(10)))
    print(json.dumps(done))
asyncio.run(main())
"""


def test_four_processes_share_the_file_and_none_starves(path: str) -> None:
    os.unlink(path)
    ask(path, "CREATE TABLE t(a)")
    ask(path, "CREATE TABLE n(n)")
    ask(path, "INSERT INTO n VALUES (0) RETURNING n")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert ask(path, "SELECT (SELECT count(*) FROM t), n FROM n") == f"[({sum(counts)}, {sum(counts)})]"
    assert min(counts) * 4 > max(counts), counts
    assert not os.path.exists(path + SUFFIX)
