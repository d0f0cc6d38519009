"""Processes that cost five milliseconds: forked by one that has imported Millpond and never opens a database."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from time import monotonic
from types import TracebackType

from tests.torture.crash.plan import Orders

__all__ = ["Process", "Zygote", "hear"]

ROOT = Path(__file__).parents[3]


class Process:
    """One of them. It is alive until the end of its pipe is met. status: how it ended, as `subprocess` says it.

    heard: when it said something. died_at: where it said that it kills itself.
    """

    def __init__(self, pid: int, orders: Orders, reader: int) -> None:
        self.pid = pid
        self.orders = orders
        self.reader = reader
        self.status: int | None = None
        self.heard = monotonic()
        self.died_at = ""
        self._rest = b""

    def kill(self) -> None:
        """It is not waited for yet, so the number is still its own."""
        os.kill(self.pid, signal.SIGKILL)

    def starved_s(self) -> float:
        """For how long its threads were ready to run and had no processor."""
        waited_ns = 0
        for task in Path(f"/proc/{self.pid}/task").glob("*/schedstat"):
            with suppress(OSError):  # a thread that has ended
                waited_ns += int(task.read_text().split()[1])
        return waited_ns / 1e9

    def where(self) -> None:
        """Have it tell on stderr what its threads are at."""
        os.kill(self.pid, signal.SIGUSR1)

    def take(self) -> list[str] | None:
        """The next lines. None: it is over, and what it had not ended is not a line."""
        text = os.read(self.reader, 2**20)
        self.heard = monotonic()
        if not text:
            return None
        *lines, self._rest = (self._rest + text).split(b"\n")
        return [line.decode() for line in lines]


class Zygote:
    """`with Zygote(errors) as zygote`: all of its processes end with the block. errors: where their stderr goes."""

    def __init__(self, errors: Path) -> None:
        self._errors = errors

    def __enter__(self) -> Zygote:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.torture.workers.crash", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], cwd=ROOT, stdin=subprocess.DEVNULL, stderr=errors,
            )  # fmt: skip
        theirs.close()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.wait(10)

    def start(self, orders: Orders) -> Process:
        reader, writer = os.pipe()
        socket.send_fds(self._socket, [b"run " + json.dumps(asdict(orders)).encode()], [writer])
        os.close(writer)
        return Process(int(self._answer()), orders, reader)

    def bury(self, process: Process) -> None:
        """After the end of its pipe."""
        self._socket.send(f"wait {process.pid}".encode())
        process.status = int(self._answer())
        os.close(process.reader)

    def _answer(self) -> str:
        answer = self._socket.recv(65_536).decode()
        if not answer:
            raise RuntimeError(f"the zygote has died: {self._errors.read_text(errors='replace')[-2_000:]}")
        return answer


def hear(processes: Sequence[Process], timeout_s: float) -> list[Process]:
    """Those that have something to say, waited for so long at most."""
    by_reader = {process.reader: process for process in processes}
    return [by_reader[reader] for reader in select.select(list(by_reader), (), (), max(0.0, timeout_s))[0]]
