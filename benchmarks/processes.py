"""One, two and four processes with 25 workers each on one file: who fails, how long do they wait, who starves?"""

from functools import partial

from benchmarks.bars import Bar, figure, ratio
from benchmarks.harness import Question, Scenario, answer

_FEW = ("sqlite3", "aiosqlite", "millpond")
QUESTION = Question(
    "processes",
    [
        Scenario("write", processes=4),
        Scenario("transaction", processes=4, rounds=2, quick=False),
        *(Scenario("write", processes=number, rounds=2, quick=False, systems=_FEW) for number in (1, 2)),
        *(Scenario("read", processes=number, rounds=2, quick=False, systems=_FEW) for number in (1, 2, 4)),
    ],
    systems=(*_FEW, "asqlite"),
    ratios=[
        ("write FULL 4 processes", "millpond", "aiosqlite"),
        ("transaction FULL 4 processes", "millpond", "aiosqlite"),
    ],
)
BARS = [
    Bar("4 processes, P99 / best peer's", ratio("write FULL 4 processes", "best peer", "p99_ms"), "<=", 0.05),
    Bar("4 processes, longest (ms)", figure("write FULL 4 processes", "max_ms"), "<=", 50),
    Bar("4 processes, slowest / fastest", figure("write FULL 4 processes", "evenness"), ">=", 0.85),
    Bar("4 processes, errors", figure("write FULL 4 processes", "errors"), "<=", 0),
]
main = partial(answer, QUESTION)

if __name__ == "__main__":
    main()
