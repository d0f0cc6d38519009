"""Where a process kills itself: functions of Millpond's are wrapped here, in this process alone.

A place is the moment before or after a call, or inside one: then it is the n-th of SQLite's system calls there
(writes, truncations, deletions; reads where a log is recovered), half done or not done at all.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

import apsw

from millpond.callers.tasks import TaskPort
from millpond.callers.threads import ThreadPort
from millpond.engine.sqlite import turnstile
from millpond.engine.sqlite.checkpoint import Checkpoint
from millpond.engine.sqlite.connection import Connection
from millpond.engine.sqlite.copying import Copy
from millpond.engine.sqlite.engine import Engine
from millpond.engine.sqlite.turnstile import Turnstile
from millpond.engine.sqlite.writer import Writer
from millpond.migrations.steps import Step
from tests.torture.crash.plan import RECOVERING, Orders
from tests.torture.workers.crash_log import Said

__all__ = ["Places"]


class Places:
    """reached: a place was passed; the ordered one kills at the ordered hit."""

    def __init__(self, orders: Orders, said: Said) -> None:
        self._orders = orders
        self._said = said
        self._hits = 0
        self._lock = threading.Lock()
        self._inside: dict[int, str] = {}
        self._kept: list[Any] = []
        if orders.point:
            self._wrap()
            self._intercept()

    def reached(self, name: str) -> None:
        if name == self._orders.point and self._is_hit():
            self._die()

    def _is_hit(self) -> bool:
        with self._lock:
            self._hits += 1
            return self._hits == self._orders.hit

    def _die(self) -> None:
        self._said("h", self._orders.point)
        os.kill(os.getpid(), signal.SIGKILL)

    def _around(
        self,
        owner: Any,
        function: str,
        *,
        before: Callable[..., str] = lambda *_: "",
        inside: Callable[..., str] = lambda *_: "",
        after: Callable[..., str] = lambda *_: "",
        once: bool = False,
    ) -> None:
        """Name the places of a function, from its arguments. once: it is not called again, so its end is a hit too."""
        original = getattr(owner, function)

        @wraps(original)
        def wrapped(*args: Any, **named: Any) -> Any:
            self.reached(before(*args))
            me = threading.get_ident()
            place, outer = inside(*args), self._inside.get(me, "")
            if place:
                self._inside[me] = place
            try:
                result = original(*args, **named)
            finally:
                if place:
                    self._inside[me] = outer
            if once and place == self._orders.point:
                self._die()
            self.reached(after(*args))
            return result

        setattr(owner, function, staticmethod(wrapped) if owner is Checkpoint else wrapped)

    def _wrap(self) -> None:
        point = self._orders.point
        around = self._around

        def statement(before: str, when: str = "") -> Callable[..., str]:
            return lambda _, sql: before if sql == when else ""

        opening = point if point in ("creating the file", "converting it to WAL", RECOVERING.name) else ""
        around(Engine, "_open_writer", inside=lambda _: opening, once=True)
        around(turnstile, "_lock_byte", before=lambda *_: "making the gate")
        around(os, "posix_fallocate", before=lambda *_: "making the gate")
        around(Engine, "open_known_reader", before=lambda *_: "opening the readers")
        around(Step, "__call__", after=lambda *_: "in a migration")
        around(
            Connection,
            "run",
            before=lambda _, sql: {"BEGIN IMMEDIATE": "before BEGIN", "COMMIT": "before COMMIT"}.get(sql, ""),
            inside=statement("in COMMIT", "COMMIT"),
            after=lambda _, sql: {"BEGIN IMMEDIATE": "after BEGIN", "COMMIT": "after COMMIT"}.get(sql, ""),
        )
        around(Connection, "change", after=lambda on, *_: "in a statement" if on.db.in_transaction else "")
        around(Connection, "many", after=lambda *_: "in a bulk write")
        for port in (TaskPort, ThreadPort):
            around(port, "settle", before=lambda _, replies: "before the answers" if replies else "")
        around(Writer, "_lost", after=lambda *_: "while a lost batch is taken up again")
        around(
            Checkpoint,
            "make",
            before=lambda _, __, mode: "before the log begins anew" if mode == "RESTART" else "",
            inside=lambda _, __, mode: {"PASSIVE": "in a checkpoint", "TRUNCATE": "while the log is emptied"}.get(
                mode, ""
            ),
            after=lambda _, __, mode: "after the log began anew" if mode == "RESTART" else "",
        )
        around(Engine, "_take_down", before=lambda *_: "before closing")
        around(
            Connection,
            "close",
            inside=lambda on: "in the last close" if threading.current_thread().name == "millpond-writer" else "",
            once=True,
        )
        around(Turnstile, "close", before=lambda _: "before leaving the gate", after=lambda _: "after leaving the gate")
        around(Copy, "_copy", inside=lambda *_: "in a backup")
        around(Copy, "publish", before=lambda _: "before a backup appears", after=lambda _: "after a backup appeared")
        around(Turnstile, "_take", after=lambda gate: "holding the turn" if gate._held else "")
        around(turnstile, "_pause", after=lambda _: "waiting for the turn")
        around(Turnstile, "leave", before=lambda gate: "before giving the turn back" if gate._held else "")

    def _intercept(self) -> None:
        """Have SQLite call us where it calls the system: the table of its calls is made for that."""
        if self._orders.point == RECOVERING.name:
            self._call("pread64", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
        else:
            self._call("pwrite64", ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
            self._call("ftruncate", ctypes.c_int, ctypes.c_int64)
            self._call("unlink", ctypes.c_char_p)

    def _call(self, name: str, *arguments: Any) -> None:
        vfs = apsw.VFS(f"crash-{name}", "unix")
        call = ctypes.CFUNCTYPE(ctypes.c_ssize_t if len(arguments) == 4 else ctypes.c_int, *arguments, use_errno=True)
        address = vfs.xGetSystemCall(name)
        assert address is not None, name
        original = call(address)

        def ours(*given: Any) -> int:
            if self._inside.get(threading.get_ident()) == self._orders.point and self._is_hit():
                if name == "pwrite64" and self._orders.torn:
                    descriptor, data, length, offset = given
                    original(descriptor, data, length // 2, offset)
                self._die()
            result: int = original(*given)
            return result

        hook = call(ours)
        place = ctypes.cast(hook, ctypes.c_void_p).value
        assert place is not None
        vfs.xSetSystemCall(name, place)
        self._kept += [hook, original, vfs]
