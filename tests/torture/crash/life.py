"""A life of a file: processes are started on it and killed, and after each death it is looked at."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from signal import SIGKILL
from time import monotonic
from typing import Any

from tests.torture.case import Broken, must
from tests.torture.crash.ledger import CopySeen, Ledger, Seen
from tests.torture.crash.plan import RECOVERING, Death, Life, Orders, Point
from tests.torture.crash.tokens import body
from tests.torture.crash.zygote import Process, Zygote, hear

__all__ = ["Lived", "seen_of"]

REACHED_S = 20.0
"""Who says nothing for so long hangs."""
SPEAKING = 5
"""Times that: who speaks on, and has not come to where it was ordered to, never will."""
TOLD_S = 0.5
MIGRATED_ROWS = 3
SHOWN = 5


class Lived:
    """Runs one life. serves_s: so long after a death all others are served, given a processor. Raises: Broken."""

    def __init__(self, life: Life, folder: Path, random: Random, zygote: Zygote, serves_s: float) -> None:
        self._life = life
        self._random = random
        self._zygote = zygote
        self._serves_s = serves_s
        self._path = str(folder / "a.db")
        self._migrations = folder / "migrations"
        self._migrations.mkdir()
        self._migrated = 0
        self.ledger = Ledger()
        self._living: dict[int, Process] = {}
        self._started = 0
        self._asked: set[int] = set()
        self._served: set[int] = set()
        self._targets: dict[str, int] = {}
        self._report: dict[str, Any] | None = None
        self._ready = 0
        self.counts = Counter[str]()

    def run(self) -> Counter[str]:
        if self._life.start != "new":
            self._begin_with_another_program()
        for death in self._life.deaths:
            self._live_and_die(death)
        self._kill_all()
        self.check(leaves=True)
        left = [name for name in ("-wal", "-shm", "-gate") if os.path.exists(self._path + name)]
        must(not left, f"closed by the last one, the file has still {', '.join(left)} beside it")
        self.counts["writes acknowledged"] = self.ledger.acknowledged
        return self.counts

    def _begin_with_another_program(self) -> None:
        hot = self._life.start == "hot"
        orders = Orders("rollback", self._path, self._number(), 0, hot=hot, page_size=self._life.page_size)
        process = self._zygote.start(orders)
        self._living[process.orders.process] = process
        self._until(lambda: not self._living)
        must(process.status == (-SIGKILL if hot else 0), f"the other program ended with {process.status}")
        must(os.path.exists(self._path + "-journal") == hot, "the other program did not leave what it was to leave")

    def _live_and_die(self, death: Death) -> None:
        if death.migrates:
            self._add_migration()
        taken = {process.orders.slot for process in self._living.values()}
        free = [slot for slot in range(self._life.processes) if slot not in taken]
        victim = self._start(free[0], death.point, death)
        if death.point is None or not death.point.first:
            for slot in free[1:]:
                self._start(slot, None, death)
        if death.point is None:
            victim = self._random.choice(list(self._living.values()))
            self._until(lambda: False, death.after_s)
            self._kill(victim, "at a random instant")
        else:
            self._dies_at(victim, death.point)
        if death.everybody:
            self._kill_all()
        else:
            self._others_are_served()
        if not self._living:
            for _ in range(death.again):
                self._dies_at(self._start(0, RECOVERING, death), RECOVERING)
        self.check(death.leaves)

    def _start(self, slot: int, point: Point | None, death: Death) -> Process:
        orders = Orders(
            "load", self._path, self._number(), self._random.randrange(2**32), slot=slot,
            threads=self._life.threads, settings=self._life.settings, copies=self._random.random() < 0.2,
        )  # fmt: skip
        if point is not None:
            hit = self._random.randint(1, point.most) if point is RECOVERING else death.hit
            after = self._random.randint(1, 30)
            orders = replace(
                orders, point=point.name, hit=hit, torn=death.torn, copies=orders.copies or point.copies,
                ends_after=after if point.ends else 0, rests_after=after if point.rests else 0,
            )  # fmt: skip
        process = self._zygote.start(orders)
        self._living[orders.process] = process
        return process

    def _number(self) -> int:
        self._started += 1
        return self._started

    def _add_migration(self) -> None:
        """One more file: some process applies it, once."""
        self._migrated += 1
        token = self._migrated
        self.ledger.intends(token, MIGRATED_ROWS)
        values = ",\n".join(
            f"({token}, {part}, {MIGRATED_ROWS}, 100, '{body(token, part, 100)}')" for part in range(MIGRATED_ROWS)
        )
        (self._migrations / f"{token:04}_rows.sql").write_text(
            f"CREATE TABLE made_by_{token} (id INTEGER PRIMARY KEY);\n"
            f"INSERT INTO entry (token, part, parts, size, body) VALUES\n{values};\n"
        )

    def _dies_at(self, victim: Process, point: Point) -> None:
        most = monotonic() + SPEAKING * REACHED_S
        while victim.status is None and monotonic() < min(most, victim.heard + REACHED_S):
            self._until(lambda: victim.status is not None, min(most, victim.heard + REACHED_S) - monotonic())
        if victim.status is None:
            raise Broken(f"{point.name!r} was not reached, hit {victim.orders.hit}: {self._silence(victim)}")
        as_ordered = victim.status == -SIGKILL and victim.died_at == point.name
        must(as_ordered, f"it was to die at {point.name!r}, and ended at {victim.died_at!r} with {victim.status}")
        self.counts["kills"] += 1
        self.counts[f"at: {point.name}"] += 1

    def _silence(self, victim: Process) -> str:
        """For people: who has said nothing for how long. On stderr all tell what they are at."""
        silent = {process: monotonic() - process.heard for process in self._living.values()}
        for process in silent:
            process.where()
            self._until(lambda: False, TOLD_S)  # one after the other
        return ", ".join(
            f"{'it' if process is victim else f'process {process.pid}'} was silent for {seconds:.1f} s"
            for process, seconds in silent.items()
        )

    def _kill(self, victim: Process, how: str) -> None:
        if victim.status is None:
            victim.kill()
            self._until(lambda: victim.status is not None)
        must(victim.status == -SIGKILL, f"a process that was to be killed ended by itself, with {victim.status}")
        self.counts["kills"] += 1
        self.counts[how] += 1

    def _kill_all(self) -> None:
        victims = list(self._living.values())
        for victim in victims:
            victim.kill()
        for victim in victims:
            self._kill(victim, "together with the others")

    def _others_are_served(self) -> None:
        """Those that go on get an answer to what they have asked since."""
        self._until(lambda: False, 0.0)
        self._asked.clear()
        self._served.clear()
        waiting = set(self._living)
        began, starved_s = monotonic(), self._starved_s
        while not waiting <= self._served:
            left_s = began + self._serves_s + self._starved_s - starved_s - monotonic()
            must(left_s > 0, f"a process beside a killed one got no answer within {self._serves_s:g} s")
            self._until(lambda: waiting <= self._served, left_s)
        self.counts["others served on"] += len(waiting)

    def check(self, leaves: bool) -> None:
        """A process that knows nothing opens the file, writes it, and looks at all of it. leaves: then it closes it."""
        self._until(lambda: False, 0.0)
        self.ledger.open_window()
        seen = self._look(leaves)
        faults = self.ledger.judge(seen)
        if faults:
            more = f" (and {len(faults) - SHOWN} more)" if len(faults) > SHOWN else ""
            raise Broken("; ".join(faults[:SHOWN]) + more)
        inside, outside = self.ledger.settle(set(self._living), seen)
        self.counts["checks"] += 1
        self.counts["unanswered writes found whole"] += inside
        self.counts["unanswered writes not found"] += outside
        self.counts["backups looked at"] += sum(copy is not None for copy in seen.copies.values())

    def _look(self, leaves: bool) -> Seen:
        writing = {process.orders.slot for process in self._living.values() if process.orders.job == "load"}
        targets = [f"{self._path}.copy{slot}" for slot in range(self._life.processes) if slot not in writing]
        orders = Orders(
            "check", self._path, self._number(), 0, settings=self._life.settings, leaves=leaves, targets=tuple(targets)
        )
        self._report = None
        starved_s = self._starved_s
        checker = self._zygote.start(orders)
        self._living[orders.process] = checker
        self._until(lambda: self._report is not None or checker.status is not None)
        report: Any = self._report
        if report is None:
            raise Broken(f"the next process could not open, write and read the file: {self._silence(checker)}")
        late_s = report["writable_ms"] / 1000 - (self._starved_s - starved_s)
        must(late_s <= self._serves_s, f"the next process could write only {late_s:.1f} s after it came")
        self._until(lambda: checker.status is not None or (not leaves and self._ready == orders.process))
        self._until(lambda: False, 0.0)
        if not leaves:
            checker.kill()
            self._until(lambda: checker.status is not None)
            self.counts["checkers killed, too"] += 1
        must(checker.status == (0 if leaves else -SIGKILL), f"the next process ended with {checker.status}")
        return seen_of(report)

    @property
    def _starved_s(self) -> float:
        """Of all that live: what they wait for a processor is not theirs to answer for, but the machine's."""
        return sum(process.starved_s() for process in self._living.values())

    def _until(self, holds: Callable[[], bool], timeout_s: float = REACHED_S) -> None:
        """Hear what all have to say until it holds, or the time is over. Nothing more is waited for in no time."""
        until = monotonic() + timeout_s
        while not holds() and self._living:
            speaking = hear(list(self._living.values()), until - monotonic())
            for process in speaking:
                self._hear(process)
            if not speaking:
                return

    def _hear(self, process: Process) -> None:
        lines = process.take()
        if lines is None:
            del self._living[process.orders.process]
            self._zygote.bury(process)
            return
        for line in lines:
            self._note(process, *line.split(" ", 1))

    def _note(self, process: Process, kind: str, words: str = "") -> None:
        number = process.orders.process
        match kind:
            case "i":
                token, parts, *sliced = words.split()
                self.ledger.intends(int(token), int(parts), sliced=bool(sliced))
                self._asked.add(int(token))
            case "d":
                self.ledger.deletes(int(words))
                self._asked.add(int(words))
            case "a" | "n" | "D":
                self._answers[kind](int(words))
                if int(words) in self._asked:
                    self._served.add(number)
            case "m":
                for migration in range(1, int(words) + 1):
                    self.ledger.did(migration)
            case "b":
                self.ledger.copies(words, number)
            case "B":
                self.ledger.copied(words)
                self.counts["backups made"] += 1
            case "r":
                self._report = json.loads(words)
            case "h":
                process.died_at = words
            case "u":
                self._ready = number
            case "w":
                self.counts["warnings"] += 1
            case "e":
                raise Broken(f"a process on the file met an error: {words}")

    @property
    def _answers(self) -> dict[str, Callable[[int], None]]:
        ledger = self.ledger
        return {"a": ledger.did, "n": ledger.undid, "D": ledger.deleted}


def seen_of(report: Mapping[str, Any]) -> Seen:
    """What a checker found, from its line: there, numbers that are keys are text."""

    def numbers(found: Mapping[str, Any]) -> dict[int, Any]:
        return {int(key): value for key, value in found.items()}

    copies = {
        target: copy and CopySeen(copy["problem"], numbers(copy["counts"]), numbers(copy["wrong"]))
        for target, copy in report["copies"].items()
    }
    return Seen(
        report["integrity"], numbers(report["counts"]), numbers(report["wrong"]), numbers(report["tally"]),
        report["balance"], copies,
    )  # fmt: skip
