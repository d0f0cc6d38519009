"""Jobs of quiet times for the writer: each is short, and gives way to whoever wants to write."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import apsw

from millpond.engine.sqlite.calls import WriteCall
from millpond.engine.sqlite.connection import Connection
from millpond.scheduling.fair_queue import Priority
from millpond.scheduling.upkeep_plan import Sight
from millpond.statements.profile import ANYTHING

__all__ = ["Answer", "UpkeepJob", "analyze", "look", "shrink", "vacuum"]

LIMIT_S = 0.25
"""No job runs longer, though nobody waits."""
STEPS = 100
"""VM steps between two looks whether somebody waits: less than a millisecond, though a step may move a page."""
ROWS_PER_INDEX = 400
"""What ANALYZE looks at. Source: sqlite.org/lang_analyze.html, "Approximate ANALYZE": 100 to 1,000."""
NEEDED = 0x10003
"""PRAGMA optimize: say which of all tables should be analyzed, and do nothing."""


class Answer:
    """Where the upkeep's own thread waits: a waiter of either port. after: called where the callers are."""

    def __init__(self, after: Callable[[], None] | None = None) -> None:
        self._event = threading.Event()
        self._after = after
        self.result: Any = None
        self.error: BaseException | None = None

    def done(self) -> bool:
        return self._event.is_set()

    def settle(self, result: Any, error: BaseException | None) -> None:
        self.result, self.error = result, error
        self._event.set()
        if self._after is not None and error is None:
            self._after()

    def set_result(self, result: Any) -> None:
        self.settle(result, None)

    def set_exception(self, error: BaseException) -> None:
        self.settle(None, error)

    def wait(self, timeout_s: float) -> bool:
        return self._event.wait(timeout_s)


class UpkeepJob(WriteCall):
    """A transaction of its own, or none at all (reads). wanted: whether somebody else wants the connection.

    ran: it was not stopped before its end. ran_s: seconds.
    """

    alone = True
    stop = property(lambda _: False, lambda _, __: None)  # a late cancel interrupts it, and that is all

    def __init__(
        self,
        name: str,
        work: Callable[[Connection], Any],
        wanted: Callable[[], bool],
        answer: Answer,
        *,
        reads: bool = False,
    ) -> None:
        super().__init__(f"upkeep: {name}", (answer, "upkeep", Priority.BATCH, 0.0, LIMIT_S, False))
        self.deadline = None  # whoever has asked for it looks after that
        self.reads = reads
        self._work = work
        self._wanted = wanted
        self.answer = answer
        self.ran = False
        self.ran_s = 0.0

    def run(self, connection: Connection) -> Any:
        if self._wanted():
            return None
        began = monotonic()
        connection.db.set_progress_handler(lambda: self._wanted() or monotonic() - began >= LIMIT_S, STEPS)
        try:
            result = self._work(connection)
        finally:
            connection.db.set_progress_handler(None)
            self.ran_s = monotonic() - began
        self.ran = True
        return result


def look(connection: Connection) -> tuple[Sight, object]:
    """What there may be to do; and a mark that differs when the statistics have changed, by whomever."""
    db = connection.db
    sight = Sight(
        changes=db.total_changes(),
        schema=db.pragma("schema_version"),
        pages=db.pragma("page_count"),
        free_pages=db.pragma("freelist_count"),
        incremental=db.pragma("auto_vacuum") == 2,
    )
    return sight, _statistics(db)


def analyze(
    connection: Connection, passed_over: set[str], wanted: Callable[[], bool], schema_touched: Callable[[], None]
) -> tuple[str | None, bool, object]:
    """Renew the statistics of one table that needs it. Its name, if there was one; whether there are more; the mark.

    passed_over: what took too long, and is not to be begun again and again.
    """
    db = connection.db
    schema = db.pragma("schema_version")
    needed = [str(sql) for (sql,) in db.execute(f"PRAGMA main.optimize({NEEDED})") if sql not in passed_over]
    if not needed:
        return None, False, None
    sql = needed[0]
    connection.touched.add(ANYTHING)
    before = db.pragma("analysis_limit")
    db.pragma("analysis_limit", ROWS_PER_INDEX)
    try:
        db.execute(sql)
    except apsw.InterruptError:
        if not wanted():
            passed_over.add(sql)
        raise
    finally:
        db.pragma("analysis_limit", before)
    if db.pragma("schema_version") != schema:  # the first ever has made the table for them
        schema_touched()
    return sql.removeprefix("ANALYZE "), len(needed) > 1, _statistics(db)


def vacuum(connection: Connection, pages: int) -> tuple[int, int]:
    """Give so many free pages back. How many were; and how many are left."""
    db = connection.db
    before = db.pragma("freelist_count")
    db.execute(f"PRAGMA main.incremental_vacuum({pages})").fetchall()
    left = db.pragma("freelist_count")
    return before - left, left


def shrink(connection: Connection) -> None:
    """Give back the memory of pages that may not be wanted again."""
    connection.db.release_memory()


def _statistics(db: apsw.Connection) -> object:
    found = db.execute("SELECT 1 FROM main.sqlite_schema WHERE name = 'sqlite_stat1'").fetchone()
    if found is None:
        return None
    rows = db.execute("SELECT tbl, idx, stat FROM main.sqlite_stat1 ORDER BY tbl, idx LIMIT 2000").fetchall()
    return hash(tuple(rows))
