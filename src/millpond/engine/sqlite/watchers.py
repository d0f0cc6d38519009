"""Those who wait for changes: told by our own commits, and by a look at the WAL index for those of other processes."""

from __future__ import annotations

import copy
import logging
import sys
import threading
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any, Protocol

from millpond import errors
from millpond.engine.sqlite.bell import Bell
from millpond.engine.sqlite.wal_index import CHANGES, FRAMES, HEAD, WalIndex
from millpond.ports import Port
from millpond.scheduling.watch_plan import Moved, Position, Watcher, WatchPlan, moved
from millpond.settings import Settings
from millpond.statements.profile import ANYTHING

__all__ = ["Watchers", "WatchersHost"]

log = logging.getLogger("millpond.watch")

PAUSE_S = 0.02
"""After a reading that found nothing new, the next comes so much later: many may watch a table that changes often."""
VERIFY_S = 1.0
"""Is the file still the one that was opened? Commits to another would never be seen."""


class WatchersHost(Protocol):
    """What the watchers need of the engine around them. changes: who is to be told of our own commits."""

    settings: Settings
    port: Port
    index: WalIndex | None
    changes: Watchers | None

    @property
    def memory(self) -> bool: ...
    def verify_files(self) -> errors.Error | None: ...


class Watchers:
    """All who watch results of a database, and a thread that is there only while there are any.

        nobody, no thread --join--> looked after --the last leaves--> nobody, no thread
                                         `--close--> closed

    The writer tells of each of its commits (`committing`, `committed`), with the tables. The thread looks at the head
    of the WAL index every `watch_interval_s`: what moved it besides was another process, whose tables are unknown, so
    everyone is told. A watcher is only told to look; what there is to see is asked for by whoever watches.

    Safe for all threads. `leave` may be called by a finalizer, so it only notes who has left, without the lock.
    """

    def __init__(self, host: WatchersHost) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._bell = Bell()
        self._plan = WatchPlan()
        self._left: deque[Watcher] = deque()
        self._thread: threading.Thread | None = None
        self._page: Any = None
        self._head = b""
        self._committing = False
        self._closed = False
        self._problem: errors.Error | None = None
        self._verify_at = 0.0
        self._usual_s = None if host.memory else host.settings.watch_interval_s  # nobody else has what is in memory
        self._wait_s = self._usual_s
        self._quiet_until = 0.0
        self.queries = 0

    @property
    def number(self) -> int:
        """How many watch."""
        with self._lock:
            return len(self._plan) - len(self._left)

    def join(self) -> Watcher:
        """One more who watches. Raises: OperationalError where no thread can be started."""
        watcher = Watcher()
        with self._lock:
            self._look_on()
            self._plan.enter(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """It watches no more; whoever waits for its next change is woken. Once for each."""
        self._left.append(watcher)
        self._bell.ring()

    def begin(self, watcher: Watcher, tables: frozenset[str]) -> int:
        """Before a reading that depends on these tables. Returns what `read` is to be given."""
        with self._lock:
            self.queries += 1
            return self._plan.begin(watcher, _known(tables))

    def read(self, watcher: Watcher, moment: int, tables: frozenset[str], *, news: bool) -> None:
        """After it. tables: what the result turned out to depend on. news: there was something new in it."""
        with self._lock:
            self._plan.read(watcher, moment, _known(tables), 0.0 if news else monotonic() + PAUSE_S)

    def wait(self, watcher: Watcher) -> Any:
        """Where to wait until it should look again; None: it should look at once.

        Raises: what is wrong with the file, if its changes cannot be seen any more; OperationalError.
        """
        with self._lock:
            if self._problem is not None:
                raise copy.copy(self._problem)
            self._look_on()
            before = self._plan.next_at
            if self._closed or not self._plan.wait(watcher, monotonic()):
                return None
            watcher.waiter = self._host.port.waiter()
            if self._plan.next_at != before:
                self._bell.ring()
            return watcher.waiter

    def committing(self) -> None:
        """In the writer: from now on the head may move by our own doing."""
        self._committing = True

    def committed(self, tables: set[str], *, wrote: bool) -> None:
        """In the writer: our commit has ended, well or not. tables: all it may have written to. wrote: to the file."""
        with self._lock:
            self._committing = False
            before = self._plan.next_at
            told = self._ours(tables, wrote=wrote)
            if self._plan.next_at != before:
                self._bell.ring()
        self._tell(told)

    def close(self, grace_s: float) -> None:
        """Everyone is woken, and finds the database closed."""
        with self._lock:
            self._closed = True
            self._page = None
            self._host.changes = None
            told = self._plan.everyone()
            thread = self._thread
        self._bell.ring()
        self._tell(told)
        if thread is not None:
            thread.join(grace_s)

    def forked(self) -> None:
        """In a child process. Without the lock, whose holder was not forked; nothing here takes it any more."""
        self._closed = True
        self._page = None
        self._host.changes = None

    def _look_on(self) -> None:
        """See to it that there is a thread that looks."""
        host = self._host
        if self._thread is not None or self._closed:
            return
        begins = host.changes is None
        if begins:
            self._committing = False
            host.changes = self
            # After that: what is committed from now on is told of, and what was is seen by whoever looks now.
            self._page = host.index.page if host.index is not None else None
            self._head = self._page[HEAD] if self._page is not None else b""
        self._verify_at = monotonic() + VERIFY_S
        thread = threading.Thread(target=self._main, name="millpond-watch", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            if begins:
                host.changes = None
            raise errors.OperationalError(f"changes cannot be watched: {exc}") from exc
        self._thread = thread

    def _main(self) -> None:
        try:
            while self._look_after():
                while not self._bell.wait(self._wait_s) and self._is_quiet():
                    pass
        except BaseException as exc:  # a fault of Millpond's own: whoever waits next has another thread look
            log.error("the watch for changes failed", exc_info=exc)
            with self._lock:
                self._thread = None
                told = self._plan.everyone()
            self._tell(told, errors.InternalError(f"the watch for changes failed: {type(exc).__name__}: {exc}"))

    def _is_quiet(self) -> bool:
        """Nothing has moved, and it is nobody's time yet. Most looks are this one, so it does little."""
        page = self._page
        return page is not None and page[HEAD] == self._head and monotonic() < self._quiet_until

    def _look_after(self) -> bool:
        """Tell those who are to be told now. False: nobody watches any more, so this thread is to end."""
        now = monotonic()
        problem = self._problem
        if now >= self._verify_at:
            self._verify_at = now + VERIFY_S
            problem = self._host.verify_files()
        with self._lock:
            self._problem = problem
            told = self._swept()
            anyone = len(self._plan) > 0 and not self._closed
            if not anyone:
                self._thread = None
                self._host.changes = None
            elif problem is not None:
                told += self._plan.everyone()
            else:
                told += self._by_others(now)
                told += self._plan.in_time(now)
            self._wait_s, self._quiet_until = self._usual_s, self._verify_at
            if (next_at := self._plan.next_at) is not None:
                self._wait_s = next_at - now if self._usual_s is None else min(next_at - now, self._usual_s)
                self._quiet_until = min(next_at, self._verify_at)
        self._tell(told)
        return anyone

    def _swept(self) -> list[Watcher]:
        """Those who have left, as far as they waited."""
        waiting: list[Watcher] = []
        while self._left:
            watcher = self._left.popleft()
            self._plan.leave(watcher)
            if watcher.waits:
                waiting.append(watcher)
        return waiting

    def _by_others(self, now: float) -> list[Watcher]:
        """Has another process committed?"""
        page = self._page
        if page is None or self._committing:
            return []
        head: bytes = page[HEAD]
        if head == self._head or not WalIndex.whole(head):
            return []
        before, self._head = self._head, head
        if moved(_position(before), _at(head), wrote=False) is Moved.NOBODY:
            return []
        return self._plan.committed(None, now)

    def _ours(self, tables: set[str], *, wrote: bool) -> list[Watcher]:
        """After our own commit."""
        if self._closed:
            return []
        now = monotonic()
        known = _known(tables)
        if self._page is None:
            return self._plan.committed(known, now) if wrote else []
        head: bytes = self._page[HEAD]
        if head == self._head:
            return []
        if not WalIndex.whole(head):  # somebody commits just now: the thread will see it
            return self._plan.committed(known, now) if wrote else []
        before, self._head = self._head, head
        match moved(_position(before), _at(head), wrote=wrote):
            case Moved.NOBODY:
                return []
            case Moved.OURS:
                return self._plan.committed(known, now)
            case Moved.OTHERS:
                return self._plan.committed(None, now)

    def _tell(self, told: Sequence[Watcher], error: errors.Error | None = None) -> None:
        if told:
            self._host.port.settle([(watcher, None, copy.copy(error)) for watcher in told])


def _known(tables: frozenset[str] | set[str]) -> frozenset[str] | None:
    """As the plan wants them: None where any may be meant."""
    return None if ANYTHING in tables else frozenset(tables)


def _position(head: bytes) -> Position | None:
    return _at(head) if head and WalIndex.whole(head) else None


def _at(head: bytes) -> Position:
    return Position(int.from_bytes(head[CHANGES], sys.byteorder), int.from_bytes(head[FRAMES], sys.byteorder))
