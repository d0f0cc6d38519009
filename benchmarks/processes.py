"""One, two and four processes with 25 workers each on one file: who fails, how long do they wait, who starves?"""

from functools import partial

from benchmarks.bars import Bar, figure, ratio
from benchmarks.harness import Question, Scenario, answer

_ALL = ("sqlite3", "aiosqlite", "asqlite", "millpond")
QUESTION = Question(
    "processes",
    [
        *(Scenario("write", processes=number, rounds=3 if number == 4 else 2, systems=_ALL) for number in (1, 2, 4)),
        Scenario("transaction", processes=4, systems=_ALL),
        *(
            Scenario("read", processes=number, rounds=2, systems=("sqlite3", "aiosqlite", "millpond"))
            for number in (1, 2, 4)
        ),
    ],
    systems=_ALL,
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
