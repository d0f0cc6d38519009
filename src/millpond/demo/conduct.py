"""Runs the demonstration: one side after the other, each in processes of its own, and has both verified."""

from __future__ import annotations

import json
import os
import platform
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from sqlite3 import sqlite_version
from time import monotonic
from typing import IO, Any, NoReturn

from millpond.demo.ledger import read_records
from millpond.demo.outcome import Outcome, SideOutcome, Verified, summarise
from millpond.demo.side import GRACE_S, Assignment
from millpond.engine.sqlite import library

__all__ = ["DemoFailed", "Phase", "Plan", "Progress", "conduct"]

_START_LIMIT_S = 30.0
_END_LIMIT_S = GRACE_S + 15.0
_FILE = "bot.db"
_IN_MEMORY = (
    "The files were in memory (tmpfs), where syncing costs nothing: both sides look faster than on a disk, and what "
    "grouping the commits saves is not to be seen. --keep DIR on a disk shows it."
)


class DemoFailed(Exception):
    """A part could not be carried out; `detail` has what its process said."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. seconds: of each part; data: a log to replay; keep: a folder for the files, else a passing one."""

    workers: int = 25
    seconds: float = 8.0
    processes: int = 1
    seed: int = 0
    data: Path | None = None
    keep: Path | None = None
    tuned: bool = False

    def settings(self) -> dict[str, Any]:
        return {
            "workers": self.workers, "seconds": self.seconds, "processes": self.processes, "seed": self.seed,
            "data": None if self.data is None else self.data.name, "sqlite3": "tuned" if self.tuned else "defaults",
            "durability": "full",
        }  # fmt: skip


class Phase(Enum):
    BEFORE = "before"
    AFTER = "after"
    CHECKING = "checking"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase is; ops, errors and locked so far."""

    phase: Phase
    elapsed_s: float = 0.0
    seconds: float = 0.0
    ops: int = 0
    errors: int = 0
    locked: int = 0


Tell = Callable[[Progress], None]


def conduct(plan: Plan, tell: Tell) -> Outcome:
    """Run both parts and verify both files. Takes twice `plan.seconds` and a few more.

    Ctrl-C ends it early: the outcome then holds what was reached, verified like the rest.
    Raises: DemoFailed; KeyboardInterrupt at the second Ctrl-C.
    """
    with ExitStack() as stack:
        if plan.keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="millpond-demo-")))
        else:
            folder = plan.keep
        machine = _machine(folder)
        notes = (_IN_MEMORY,) if machine["filesystem"] in ("tmpfs", "ramfs") else ()
        kept = None if plan.keep is None else str(folder)
        outcome = Outcome(
            plan.settings(), machine, folder=kept, notes=notes, data=None if plan.data is None else str(plan.data)
        )
        for phase, system in ((Phase.BEFORE, "sqlite3"), (Phase.AFTER, "millpond")):
            # The part that is compared with runs as one process, as it is run today; Millpond in as many as asked.
            processes = plan.processes if phase is Phase.AFTER else 1
            part = _Part(plan, phase, system, processes, folder / system, tell)
            side = part.run()
            if phase is Phase.BEFORE:
                outcome = replace(outcome, before=side, interrupted=part.interrupted)
            else:
                outcome = replace(outcome, after=side, interrupted=part.interrupted)
            if part.interrupted:
                break
    return outcome


class _Part:
    """One side: its processes, and what they say."""

    def __init__(self, plan: Plan, phase: Phase, system: str, processes: int, folder: Path, tell: Tell) -> None:
        self.interrupted = False
        self._plan = plan
        self._phase = phase
        self._system = system
        self._folder = folder
        self._tell = tell
        # Workers are parted between the processes, as evenly as it goes.
        self._shares = [plan.workers // processes + (number < plan.workers % processes) for number in range(processes)]
        self._said: queue.SimpleQueue[tuple[int, dict[str, Any] | None]] = queue.SimpleQueue()
        self._processes: list[subprocess.Popen[str]] = []
        self._errors: list[IO[str]] = []
        self._latest: dict[int, dict[str, Any]] = {}
        self._done: dict[int, dict[str, Any]] = {}

    def run(self) -> SideOutcome | None:
        """The side's figures; None when it was interrupted before it began."""
        self._folder.mkdir(parents=True, exist_ok=True)
        began = False
        with ExitStack() as stack:
            stack.callback(self._end_all)
            try:
                # The first makes the file, the others find it.
                for number in range(len(self._shares)):
                    self._processes.append(self._start(number, stack))
                    self._await_ready(number)
                for process in self._processes:
                    _order(process, "go\n")
                began = True
                self._listen(monotonic() + self._plan.seconds + _END_LIMIT_S)
            except KeyboardInterrupt:
                self.interrupted = True
                if not began:
                    return None
                for process in self._processes:
                    _hang_up(process)
                self._listen(monotonic() + _END_LIMIT_S)
        self._tell(Progress(Phase.CHECKING))
        try:
            return self._summary()
        except KeyboardInterrupt:
            self.interrupted = True
            return None

    def _start(self, number: int, stack: ExitStack) -> subprocess.Popen[str]:
        plan = self._plan
        assignment = Assignment(
            system=self._system,
            path=str(self._folder / _FILE),
            ledger=str(self._ledger(number)),
            workers=self._shares[number],
            seconds=plan.seconds,
            seed=plan.seed,
            data=None if plan.data is None else str(plan.data.absolute()),
            share=number,
            shares=len(self._shares),
            tuned=plan.tuned,
        )
        # A file, not a pipe, which would stop a talkative process.
        errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # the stack closes it
        self._errors.append(stack.enter_context(errors))
        process = subprocess.Popen(
            _command("millpond.demo.side", assignment.to_json()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            **_own_group(),
        )
        threading.Thread(target=self._hear, args=(number, process.stdout), daemon=True).start()
        return process

    def _hear(self, number: int, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                self._said.put((number, json.loads(line)))
        self._said.put((number, None))

    def _await_ready(self, number: int) -> None:
        speaker, facts = self._next(monotonic() + _START_LIMIT_S)
        if facts is None or "ready" not in facts:
            self._fail(speaker, "could not begin")

    def _listen(self, limit: float) -> None:
        while len(self._done) < len(self._processes):
            number, facts = self._next(limit)
            if facts is None:
                if number not in self._done:
                    self._fail(number, "broke off")
            elif "done" in facts:
                self._done[number] = facts
                self._heard(number, facts | {"at": facts["seconds"]})
            elif "at" in facts:
                self._heard(number, facts)

    def _heard(self, number: int, facts: dict[str, Any]) -> None:
        self._latest[number] = facts
        self._tell(self._progress())

    def _next(self, limit: float) -> tuple[int, dict[str, Any] | None]:
        try:
            return self._said.get(timeout=max(0.0, limit - monotonic()))
        except queue.Empty:
            missing = next(number for number in range(len(self._processes)) if number not in self._done)
            self._fail(missing, "did not answer in time")

    def _fail(self, number: int, what: str) -> NoReturn:
        self._end_all()
        self._errors[number].seek(0)
        raise DemoFailed(f"the {self._system} part {what}", self._errors[number].read().strip()[-4000:])

    def _progress(self) -> Progress:
        latest = self._latest.values()
        return Progress(
            self._phase,
            max(facts["at"] for facts in latest),
            self._plan.seconds,
            sum(facts["ops"] for facts in latest),
            sum(facts["errors"] for facts in latest),
            sum(facts["locked"] for facts in latest),
        )

    def _summary(self) -> SideOutcome:
        ledgers = [self._ledger(number) for number in range(len(self._shares))]
        verified = _have_verified(self._folder / _FILE, ledgers)
        finished = [
            (record.finished_s, record.latency_s)
            for ledger in ledgers
            for record in read_records(ledger)
            if record.acknowledged
        ]
        return summarise(self._system, self._plan.workers, list(self._done.values()), finished, verified)

    def _ledger(self, number: int) -> Path:
        return self._folder / f"acknowledged-{number}.bin"

    def _end_all(self) -> None:
        for process in self._processes:
            _hang_up(process)
            try:
                # Done is said before the interpreter ends; whoever has not said it is not waited for.
                process.wait(timeout=5.0 if len(self._done) == len(self._processes) else 0.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _have_verified(database: Path, ledgers: Sequence[Path]) -> Verified:
    command = _command("millpond.demo.verification", str(database), *map(str, ledgers))
    process = subprocess.run(
        command, capture_output=True, encoding="utf-8", check=False, stdin=subprocess.DEVNULL, **_own_group()
    )
    if process.returncode != 0:
        raise DemoFailed(f"{database.parent.name}'s file could not be verified", process.stderr.strip()[-4000:])
    return Verified(**json.loads(process.stdout))


def _command(module: str, *arguments: str) -> list[str]:
    # -P: a bot's own folder may hold a queue.py or a random.py
    return [sys.executable, "-P", "-m", module, *arguments]


def _own_group() -> dict[str, Any]:
    """Ctrl-C goes to this process alone; the others are told by their stdin."""
    if os.name == "posix":
        return {"process_group": 0}
    return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}


def _order(process: subprocess.Popen[str], word: str) -> None:
    """Whoever has ended already does not hear it: that, and why, its silence and its stderr tell."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(word)
        process.stdin.flush()


def _hang_up(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()


def _machine(folder: Path) -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "sqlite3": sqlite_version,
        "millpond_sqlite": library.sqlite_version(),
        "filesystem": filesystem_of(folder),
    }


def filesystem_of(folder: Path) -> str | None:
    """The type of the file system that holds `folder`, where the system tells it."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    target = folder.absolute()
    target = next((place for place in (target, *target.parents) if place.exists()), target).resolve()
    best: tuple[int, str | None] = (-1, None)
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split(" ")
        if target.is_relative_to(point) and len(point) >= best[0]:
            best = (len(point), kind)
    return best[1]
