"""The demonstration while it runs, on stderr: a moving line on a terminal, else a plain line every few seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from textwrap import fill
from typing import TYPE_CHECKING, TextIO

from millpond.cli.demo_text import setting_of
from millpond.cli.terminal import Screen, screen_of
from millpond.cli.view import has_rich
from millpond.demo.conduct import Phase, Plan, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

__all__ = ["figures", "progress", "what_runs"]

_LINE_EVERY_S = 2.0
_BAR_COLUMNS = 20

Tell = Callable[[Progress], None]


@contextmanager
def progress(plan: Plan, stream: TextIO, *, quiet: bool) -> Iterator[Tell]:
    """A function to tell the progress to."""
    screen = screen_of(stream)
    if quiet:
        yield lambda _: None
        return
    stream.write(f"millpond demo: {setting_of(plan.settings())}\n")
    show = _Bars(plan, stream, screen) if screen.moving and has_rich() else _Lines(plan, stream, screen)
    try:
        yield show.tell
    finally:
        show.end()


def what_runs(plan: Plan, phase: Phase) -> str:
    """What a part does, so that nobody need guess."""
    if phase is Phase.CHECKING:
        return "checking: an independent process counts again"
    if phase is Phase.AFTER:
        where = f"{plan.workers} tasks" + (f" in {plan.processes} processes" if plan.processes > 1 else "")
        return f"after: Millpond, {where}, one Database(path), its defaults (full durability)"
    how = "WAL, timeout 30 s, BEGIN IMMEDIATE" if plan.tuned else "defaults (timeout 5 s, no WAL)"
    return f"before: sqlite3, {plan.workers} threads, a connection each, {how}"


def figures(told: Progress) -> str:
    """Rate, errors so far and time left."""
    rate = told.ops / told.elapsed_s if told.elapsed_s else 0.0
    errors = f"{told.locked:,} locked" if told.locked == told.errors else f"{told.errors:,} errors"
    left = max(0.0, told.seconds - told.elapsed_s)
    return f"{rate:,.0f} events/s, {errors}, {left:.0f} s left"


class _Lines:
    """Without rich: one line that moves where lines can move, else new lines now and then."""

    def __init__(self, plan: Plan, stream: TextIO, screen: Screen) -> None:
        self._plan = plan
        self._stream = stream
        self._screen = screen
        self._phase: Phase | None = None
        self._next_s = 0.0
        self._width = 0

    def tell(self, told: Progress) -> None:
        if told.phase is not self._phase:
            self.end()
            self._phase, self._next_s = told.phase, _LINE_EVERY_S
            if told.phase is not Phase.CHECKING:
                self._stream.write(fill(what_runs(self._plan, told.phase), self._screen.width) + "\n")
        if told.phase is Phase.CHECKING:
            return
        if self._screen.moving:
            done = int(_BAR_COLUMNS * min(1.0, told.elapsed_s / told.seconds))
            text = f"  [{'#' * done}{'.' * (_BAR_COLUMNS - done)}] {figures(told)}"
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        elif told.elapsed_s >= min(self._next_s, told.seconds) and self._next_s < inf:
            self._stream.write(f"  {told.elapsed_s:4.1f} s: {figures(told)}\n")
            self._next_s = told.elapsed_s + _LINE_EVERY_S if told.elapsed_s < told.seconds else inf
        self._stream.flush()

    def end(self) -> None:
        if self._width:
            self._stream.write("\n")
            self._width = 0
        self._stream.flush()


class _Bars:
    """With rich: a bar for each part, below the line that says what runs."""

    def __init__(self, plan: Plan, stream: TextIO, screen: Screen) -> None:
        from rich.console import Console

        self._plan = plan
        self._console = Console(
            file=stream, width=screen.width, no_color=not screen.colour, force_terminal=True, highlight=False
        )
        self._phase: Phase | None = None
        self._bar: Bars | None = None

    def tell(self, told: Progress) -> None:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bars

        if told.phase is not self._phase:
            self.end()
            self._phase = told.phase
            if told.phase is not Phase.CHECKING:
                self._console.print(what_runs(self._plan, told.phase))
                self._bar = Bars(
                    TextColumn(" "), BarColumn(_BAR_COLUMNS), TextColumn("{task.description}"), console=self._console
                )
                self._bar.add_task("", total=told.seconds)
                self._bar.start()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=told.elapsed_s, description=figures(told))

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
