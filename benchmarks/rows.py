"""How much does a result cost that has 1, 100 or 10,000 rows?"""

from collections.abc import Sequence
from functools import partial

from benchmarks.bars import Bar
from benchmarks.harness import Question, Scenario, answer

_SYSTEMS = ("raw", "sqlite3", "aiosqlite", "sqlalchemy", "millpond", "millpond-sync")
QUESTION = Question(
    "rows",
    [Scenario("rows", rows=number, rounds=2) for number in (1, 100, 10_000)],
    systems=_SYSTEMS,
    ratios=[(f"rows {n:,}", "millpond", beside) for n in (1, 100, 10_000) for beside in ("raw", "aiosqlite")],
)
BARS: Sequence[Bar] = ()
main = partial(answer, QUESTION)

if __name__ == "__main__":
    main()
