"""The demonstration while it runs, on stderr: a moving line on a terminal, else a plain line every few seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from millpond.cli.demo_text import setting_of
from millpond.cli.terminal import Screen, screen_of
from millpond.cli.view import has_rich
from millpond.demo.conduct import Phase, Plan, Progress

__all__ = ["progress"]

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
    if screen.moving and has_rich():
        with _rich(plan, stream, screen) as tell:
            yield tell
        return
    show = _Lines(plan, stream, screen)
    try:
        yield show.tell
    finally:
        show.end()


def what_runs(plan: Plan, phase: Phase) -> str:
    """What a part does, so that nobody need guess."""
    if phase is Phase.CHECKING:
        return "checking: an independent process counts again"
    if phase is Phase.AFTER:
        where = f"{plan.processes} processes with" if plan.processes > 1 else ""
        return (
            f"after: Millpond, {where} {plan.workers} tasks, one Database(path), db.write(fn), full durability".replace(
                "  ", " "
            )
        )
    how = "WAL, timeout 30 s, BEGIN IMMEDIATE" if plan.tuned else "its defaults (timeout 5 s, no WAL), BEGIN"
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
                self._stream.write(what_runs(self._plan, told.phase) + "\n")
        if told.phase is Phase.CHECKING:
            return
        if self._screen.moving:
            done = int(_BAR_COLUMNS * min(1.0, told.elapsed_s / told.seconds))
            text = f"  [{'#' * done}{'.' * (_BAR_COLUMNS - done)}] {figures(told)}"
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        elif told.elapsed_s >= self._next_s or told.elapsed_s >= told.seconds:
            self._stream.write(f"  {told.elapsed_s:4.1f} s: {figures(told)}\n")
            self._next_s = told.elapsed_s + _LINE_EVERY_S
        self._stream.flush()

    def end(self) -> None:
        if self._width:
            self._stream.write("\n")
            self._width = 0
        self._stream.flush()


@contextmanager
def _rich(plan: Plan, stream: TextIO, screen: Screen) -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    console = Console(file=stream, width=screen.width, no_color=not screen.colour, force_terminal=True, highlight=False)
    with Bars(BarColumn(_BAR_COLUMNS), TextColumn("{task.description}"), console=console) as bars:
        tasks = {}

        def tell(told: Progress) -> None:
            if told.phase is Phase.CHECKING:
                return
            if told.phase not in tasks:
                console.print(what_runs(plan, told.phase))
                tasks[told.phase] = bars.add_task("", total=told.seconds)
            bars.update(tasks[told.phase], completed=told.elapsed_s, description=figures(told))

        yield tell
