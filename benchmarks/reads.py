"""How fast are point reads by primary key: of any row, and of the rows that are asked for again and again?"""

from functools import partial

from benchmarks.bars import Bar, crowd, figure, ratio
from benchmarks.harness import UNGROUPED, Question, Scenario, answer

QUESTION = Question(
    "reads",
    [
        Scenario("read"),
        Scenario("repeat"),
        Scenario("read", workers=10_000, systems=("millpond",)),
        Scenario("repeat", workers=10_000, quick=False, systems=("millpond",)),
        *(
            Scenario(
                "read",
                workers=workers,
                rounds=2,
                quick=False,
                systems=("sqlite3", "aiosqlite", "millpond", "millpond-sync"),
            )
            for workers in (1, 100, 1_000)
        ),
        Scenario("repeat", workers=1, rounds=2, quick=False, systems=("millpond",)),
        Scenario("read", workers=10_000, rounds=1, quick=False, systems=("aiosqlite",)),
    ],
    systems=UNGROUPED,
    ratios=[
        (scenario, system, beside)
        for scenario in ("read", "repeat")
        for system, beside in (("millpond", "raw"), ("millpond", "aiosqlite"), ("millpond-sync", "millpond"))
    ],
)
BARS = [
    Bar("point reads / raw loop", ratio("read", "raw"), ">=", 0.75),
    Bar("point reads / aiosqlite", ratio("read", "aiosqlite"), ">=", 8),
    Bar("repeated reads / raw loop, which only reads", ratio("repeat", "raw"), ">=", 2),
    Bar("point reads, 10,000 workers / 25", crowd("read", 10_000), ">=", 0.9),
    Bar("repeated reads, 10,000 workers / 25", crowd("repeat", 10_000), ">=", 0.9),
    Bar("point reads, threads / asyncio", ratio("read", "millpond", system="millpond-sync"), ">=", 0.7),
    Bar("repeated reads, threads / asyncio", ratio("repeat", "millpond", system="millpond-sync"), ">=", 0.7),
    Bar("ticker late P99, point reads (ms)", figure("read", "late_p99_ms"), "<=", 5),
    Bar("ticker late P99, repeated reads (ms)", figure("repeat", "late_p99_ms"), "<=", 5),
]
main = partial(answer, QUESTION)

if __name__ == "__main__":
    main()
