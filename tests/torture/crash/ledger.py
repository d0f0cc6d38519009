"""What each write may have left in the file, by what its process said of it; and the verdict on what was found.

A process says what it is about to do before it does it, and that it is done when it was acknowledged. So for each
token there is a set of numbers of rows that may be found:

    intent {0, n} --acknowledged--> {n} --about to delete--> {0, n} --acknowledged--> {0}
                  --rolled back---> {0}                      (in slices: {0, 1, ... n} until acknowledged)

What a check found of a dead process's writes holds from then on: nothing comes back, nothing goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

from tests.torture.crash.tokens import EACH

__all__ = ["CopySeen", "Ledger", "Seen"]

Allowed = frozenset[int]
NOTHING: Allowed = frozenset((0,))


@dataclass
class CopySeen:
    """What was found of a backup. problem: why it is no database, or "ok"."""

    problem: str
    counts: Mapping[int, int] = field(default_factory=dict)
    wrong: Mapping[int, str] = field(default_factory=dict)


@dataclass
class Seen:
    """What was found in the file. integrity: SQLite's own verdict, "ok" if it has none against it.

    counts, wrong: of `tokens.sort_out`. tally: by process, what triggers have counted in the same transactions.
    balance: of all accounts together. copies: those that nobody is writing; None where there is no such file.
    """

    integrity: str
    counts: Mapping[int, int]
    wrong: Mapping[int, str]
    tally: Mapping[int, int]
    balance: int
    copies: Mapping[str, CopySeen | None] = field(default_factory=dict)


class Ledger:
    """Fed with what the processes said, in the order in which each said it."""

    def __init__(self) -> None:
        self._allowed: dict[int, Allowed] = {}
        self._dead: set[int] = set()
        self._window: dict[int, Allowed] | None = None
        self._deleted: set[int] = set()
        self._copying: dict[str, frozenset[int]] = {}
        self._copied: set[str] = set()
        self._least: dict[str, frozenset[int]] = {}
        self.acknowledged = 0

    def intends(self, token: int, parts: int, *, sliced: bool = False) -> None:
        if token in self._allowed:
            raise ValueError(f"token {token} is used twice")
        self._set(token, frozenset(range(parts + 1) if sliced else (0, parts)))

    def did(self, token: int) -> None:
        """A write was acknowledged."""
        self._set(token, frozenset((max(self._allowed[token]),)))
        self.acknowledged += 1

    def undid(self, token: int) -> None:
        """It failed, or was rolled back, and the error said that nothing of it is there."""
        self._set(token, NOTHING)

    def deletes(self, token: int) -> None:
        self._deleted.add(token)
        self._set(token, self._allowed[token] | NOTHING)

    def deleted(self, token: int) -> None:
        self._set(token, NOTHING)
        self.acknowledged += 1

    def copies(self, target: str, process: int) -> None:
        """A process is about to begin a backup: what it was told of, and what the dead were, is to be in it."""
        known = {process, *self._dead}  # what the others said before that cannot be told from what they say now
        due = frozenset(
            token for token, allowed in self._allowed.items() if 0 not in allowed and token // EACH in known
        )
        self._copying[target] = due
        self._least.setdefault(target, due)  # each since then may be the one that is there

    def copied(self, target: str) -> None:
        self._copied.add(target)
        self._least[target] = self._copying.pop(target)

    def open_window(self) -> None:
        """A check begins beside processes that go on: it may see each moment from now to its end."""
        self._window = {}

    def judge(self, seen: Seen) -> list[str]:
        """What is wrong, in words; nothing if all is well. Ends the window."""
        faults = [] if seen.integrity == "ok" else [f"integrity_check: {seen.integrity}"]
        faults += [f"token {token}: {why}" for token, why in seen.wrong.items()]
        window, self._window = self._window or {}, None
        for token, allowed in self._allowed.items():
            allowed = window.get(token, allowed)
            number = seen.counts.get(token, 0)
            if number not in allowed and token not in seen.wrong:
                faults.append(_not_allowed(token, number, allowed))
        faults += [f"token {token}: nobody wrote it" for token in seen.counts if token not in self._allowed]
        faults += self._tally(seen)
        if seen.balance:
            faults.append(f"the accounts have {seen.balance}: half a transfer")
        for target, copy in seen.copies.items():
            faults += self._judge_copy(target, copy)
        return faults

    def settle(self, living: Set[int], seen: Seen) -> tuple[int, int]:
        """What was found of the dead holds from now on. Returns how many unanswered writes are in, and are not.

        Process 0 stands for migrations, which anybody may still apply.
        """
        living = living | {0}
        inside = outside = 0
        for token, allowed in self._allowed.items():
            if len(allowed) > 1 and token // EACH not in living:
                number = seen.counts.get(token, 0)
                self._allowed[token] = frozenset((number,))
                inside += number > 0
                outside += number == 0
        self._dead = {token // EACH for token in self._allowed} - living
        return inside, outside

    def _set(self, token: int, allowed: Allowed) -> None:
        if self._window is not None:
            before = self._window.get(token, self._allowed.get(token, NOTHING))
            self._window[token] = before | allowed
        self._allowed[token] = allowed

    def _tally(self, seen: Seen) -> list[str]:
        present: dict[int, int] = {}
        for token in {*seen.counts, *seen.wrong}:
            present[token // EACH] = present.get(token // EACH, 0) + 1
        return [
            f"process {process}: {seen.tally.get(process, 0)} writes were counted, {present.get(process, 0)} are there"
            for process in {*seen.tally, *present}
            if seen.tally.get(process, 0) != present.get(process, 0)
        ]

    def _judge_copy(self, target: str, copy: CopySeen | None) -> list[str]:
        """Absent, if none was ever acknowledged; else whole, and not older than the last acknowledged one."""
        if copy is None:
            return [f"backup {target} was acknowledged and is not there"] if target in self._copied else []
        if copy.problem != "ok":
            return [f"backup {target}: {copy.problem}"]
        faults = [f"backup {target}, token {token}: {why}" for token, why in copy.wrong.items()]
        due = self._least.get(target, frozenset()) - self._deleted
        missing = [token for token in due if token not in copy.counts]
        faults += [f"backup {target}: token {token} was acknowledged before it, and is missing" for token in missing]
        return faults


def _not_allowed(token: int, number: int, allowed: Allowed) -> str:
    if number == 0:
        return f"token {token}: acknowledged, and none of its {max(allowed)} rows is there"
    if allowed == NOTHING:
        return f"token {token}: {number} rows of what was rolled back or deleted"
    return f"token {token}: {number} rows, where there may be {', '.join(map(str, sorted(allowed)))}"
