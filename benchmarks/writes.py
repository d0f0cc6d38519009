"""How fast are writes of two statements, as functions and as interactive transactions, and of one statement?

Synced at each commit (FULL) for each crowd; 25 workers also without (NORMAL). With 1,000 threads on a connection each
`sqlite3` mostly waits for its lock: it is measured up to 100.
"""

from functools import partial

from benchmarks.bars import Bar, crowd, figure, ratio
from benchmarks.harness import Question, Scenario, answer

_FEW = ("raw", "raw-grouped", "sqlite3", "aiosqlite", "millpond")
_SCENARIOS = [
    Scenario("write"),
    Scenario("transaction"),
    Scenario("single", quick=False, systems=_FEW),
    Scenario("write", full=False, quick=False, systems=_FEW),
    Scenario("write", workers=10_000, systems=("millpond",)),
    *(Scenario(name, workers=10_000, quick=False, systems=("millpond",)) for name in ("transaction", "single")),
    *(
        Scenario(name, workers=workers, rounds=2, quick=False, systems=systems)
        for workers in (1, 100, 1_000)
        for name, systems in (
            ("write", ("aiosqlite", "millpond", "millpond-sync")),
            ("transaction", ("aiosqlite", "millpond", "millpond-sync")),
            ("single", ("aiosqlite", "millpond")),
        )
    ),
    *(Scenario("write", workers=workers, rounds=2, quick=False, systems=("sqlite3",)) for workers in (1, 100)),
    Scenario("write", workers=10_000, rounds=1, quick=False, systems=("aiosqlite",)),
]
_SIDE_BY_SIDE = [s.title for s in _SCENARIOS if s.workers == 25]
QUESTION = Question(
    "writes",
    _SCENARIOS,
    ratios=[(title, "millpond", beside) for title in _SIDE_BY_SIDE for beside in ("raw", "raw-grouped", "aiosqlite")],
)
BARS = [
    Bar("write(fn) FULL / raw loop, ungrouped", ratio("write FULL", "raw"), ">=", 5),
    Bar("write(fn) FULL / best peer", ratio("write FULL", "best peer"), ">=", 15),
    Bar("write(fn) FULL / raw loop grouped by 25", ratio("write FULL", "raw-grouped"), ">=", 0.4),
    Bar("write(fn) NORMAL / raw loop, ungrouped", ratio("write NORMAL", "raw"), ">=", 1),
    Bar("write(fn) NORMAL / best peer", ratio("write NORMAL", "best peer"), ">=", 15),
    Bar("transactions FULL / aiosqlite", ratio("transaction FULL", "aiosqlite"), ">=", 12),
    Bar("transactions FULL P99 (ms)", figure("transaction FULL", "p99_ms"), "<=", 3),
    *(
        Bar(f"{what}, 10,000 workers / 25", crowd(act, 10_000), ">=", 0.9)
        for what, act in (
            ("write(fn) FULL", "write FULL"),
            ("transactions FULL", "transaction FULL"),
            ("execute FULL", "single FULL"),
        )
    ),
    *(
        Bar(f"{what}, threads / asyncio", ratio(act, "millpond", system="millpond-sync"), ">=", 0.7)
        for what, act in (("write(fn) FULL", "write FULL"), ("transactions FULL", "transaction FULL"))
    ),
    *(
        Bar(f"ticker late P99, {act} (ms)", figure(act, "late_p99_ms"), "<=", 5)
        for act in ("write FULL", "write NORMAL", "transaction FULL", "single FULL")
    ),
]
main = partial(answer, QUESTION)

if __name__ == "__main__":
    main()
