"""What is done at quiet times, and when is a time quiet enough?"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

__all__ = ["Outcome", "Sight", "Task", "UpkeepPlan"]

MOMENT_S = 0.02
"""In the end so short a pause between two writes will do: a job gives way within a millisecond or two."""
HALVES_S = 60.0
"""What is overdue for so long is content with half of the quiet, after twice that with a quarter..."""
GLANCE_S = 0.5
"""While pauses are short, it is looked for one no more often than this."""
LONG_QUIET = 20
"""After so many times `quiet_s` a log of usual length is emptied too: sooner, whoever writes now and then would have
it all copied each time, and each commit after it would let the file grow again."""
LOOK_EVERY_S = 10.0
MANY_ROWS = 10_000
"""Rows changed since the statistics were last looked after: time to look again, whatever the clock says."""
LEAST_FREE, FREE_SHARE = 1_000, 0.05
"""A free list of so many pages, or such a share of the file, is worth giving back."""
FEWEST, MOST, FIRST = 10, 4_000, 100
STEP_S = 0.005
"""Pages per step of a vacuum, so that a step takes about this long..."""
REST = 4
"""... and so many times that of rest after it."""
BACK_OFF_S, BACK_OFF_MOST_S = 5.0, 60.0


class Task(enum.Enum):
    """One kind of upkeep."""

    LOG = "log"
    LOOK = "look"
    ANALYZE = "analyze"
    VACUUM = "vacuum"
    SHRINK = "shrink"


class Outcome(enum.Enum):
    """How a task ended."""

    DONE = "done"
    MORE = "one step is done, there are more"
    STOPPED = "it gave way to a write"
    IN_VAIN = "a reader, another process or the disk is in the way"


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look found. changes: rows that our connection has changed since it was opened. incremental: pages
    may be given back step by step."""

    changes: int
    schema: int
    pages: int
    free_pages: int
    incremental: bool


@dataclass(slots=True, repr=False)
class UpkeepPlan:
    """Upkeep waits for a valley: `quiet_s` without a write; less the longer it is overdue.

        idle --wrote--> due --quiet--> LOOK --much changed--> ANALYZE, table by table
                         |              `--free pages--> VACUUM, step by step
                         |--quiet--> LOG, if it is long; in a long quiet, whatever it is
                         `--`shrink_s` of quiet--> SHRINK

    A day without valleys must not be one without upkeep: what is due wants less quiet with each minute, but for
    the log, which is copied under load anyway. What was in vain is tried again after pauses that double.

    Promises: nothing while the quiet is shorter than MOMENT_S; nothing at all, and no wake-up, once all is done
    and nobody writes; at most 1 / GLANCE_S looks for a pause in a second; after something in vain BACK_OFF_S at
    least. Times are seconds on the shell's clock.
    """

    quiet_s: float
    usual_log: int
    empty_log: bool = True
    analyze: bool = True
    analyze_every_s: float = 3_600.0
    vacuum: bool = True
    shrink_s: float | None = 30.0
    vacuum_pages: int = FIRST
    _due: dict[Task, float] = field(default_factory=dict)
    _not_before: dict[Task, float] = field(default_factory=dict)
    _failed: dict[Task, int] = field(default_factory=dict)
    _looked: float | None = None
    _analyzed: tuple[float, int, int] | None = None
    _sight: Sight | None = None

    def opened(self, now: float) -> None:
        """The database is open: its log may be old, its statistics missing."""
        if self.empty_log:
            self._due[Task.LOG] = now
        self._look_at(now)

    def wrote(self, now: float) -> None:
        """Somebody has committed since the last time."""
        if self.empty_log:
            self._due.setdefault(Task.LOG, now)
        if self.shrink_s is not None:
            self._due.setdefault(Task.SHRINK, now)
        self._look_at(now if self._looked is None else max(now, self._looked + LOOK_EVERY_S))

    def next(self, now: float, quiet_since: float, log_bytes: int) -> Task | float | None:
        """What to do now; or in how many seconds to ask again; or None: after the next commit.

        quiet_since: when the last write ended; `now` while one is under way. log_bytes: of the log's file.
        """
        soonest: float | None = None
        for task, due in self._due.items():
            need = self._need_s(task, now, due, log_bytes)
            at = max(due, self._not_before.get(task, due), quiet_since + need)
            if at <= now:
                return task
            at = max(at, now + GLANCE_S) if need < GLANCE_S and due <= now else at
            soonest = at if soonest is None else min(soonest, at)
        return None if soonest is None else soonest - now

    def saw(self, now: float, sight: Sight) -> None:
        """A look has found this."""
        self._looked = now
        self._sight = sight
        if self.analyze and self._wants_analysis(now, sight):
            self._due.setdefault(Task.ANALYZE, now)
        worth = sight.free_pages >= min(LEAST_FREE, max(1.0, sight.pages * FREE_SHARE))
        if self.vacuum and sight.incremental and worth:
            self._due.setdefault(Task.VACUUM, now)
        self.did(Task.LOOK, now, Outcome.DONE)
        if self.analyze and Task.ANALYZE not in self._due and self._analyzed is not None:
            at, changes, _ = self._analyzed
            if changes != sight.changes:
                self._due[Task.LOOK] = at + self.analyze_every_s

    def did(self, task: Task, now: float, outcome: Outcome, took_s: float = 0.0) -> None:
        """A task has ended, or one of its steps. took_s: for how long that ran."""
        match outcome:
            case Outcome.DONE:
                for kept in (self._due, self._not_before, self._failed):
                    kept.pop(task, None)
                if task is Task.ANALYZE and self._sight is not None:
                    self._analyzed = now, self._sight.changes, self._sight.schema
            case Outcome.MORE:
                self._failed.pop(task, None)
                self._not_before[task] = now + REST * took_s
                if task is Task.VACUUM:
                    self._size_step(took_s)
            case Outcome.STOPPED:
                self._not_before[task] = now + REST * took_s
                if task is Task.VACUUM:
                    self.vacuum_pages = max(FEWEST, self.vacuum_pages // 2)
            case Outcome.IN_VAIN:
                failed = self._failed.get(task, 0)
                self._failed[task] = min(failed + 1, 10)
                self._not_before[task] = now + min(BACK_OFF_MOST_S, BACK_OFF_S * 2**failed)

    def _need_s(self, task: Task, now: float, due: float, log_bytes: int) -> float:
        if task is Task.SHRINK:
            return self.shrink_s or 0.0
        if task is Task.LOG:
            return self.quiet_s if log_bytes > 2 * self.usual_log else LONG_QUIET * self.quiet_s
        overdue = max(0.0, now - due)
        share: float = 0.5 ** (overdue / HALVES_S)
        return max(MOMENT_S, self.quiet_s * share)

    def _wants_analysis(self, now: float, sight: Sight) -> bool:
        if self._analyzed is None:
            return True
        at, changes, schema = self._analyzed
        return (
            now - at >= self.analyze_every_s
            or abs(sight.changes - changes) >= MANY_ROWS
            or sight.schema != schema
        )  # fmt: skip

    def _look_at(self, at: float) -> None:
        if self.analyze or self.vacuum:
            self._due[Task.LOOK] = min(at, self._due.get(Task.LOOK, at))

    def _size_step(self, took_s: float) -> None:
        if took_s > STEP_S:
            self.vacuum_pages = max(FEWEST, self.vacuum_pages // 2)
        elif took_s < STEP_S / 2:
            self.vacuum_pages = min(MOST, self.vacuum_pages * 2)
