"""What do callers feel under a mix of 70 % point reads, 25 % writes and 5 % aggregates?"""

from functools import partial

from benchmarks.bars import Bar, figure
from benchmarks.harness import UNGROUPED, Question, Scenario, answer

QUESTION = Question(
    "mixed",
    [Scenario("mixed")],
    systems=UNGROUPED,
    ratios=[("mixed FULL", "millpond", "aiosqlite"), ("mixed FULL", "millpond", "raw")],
)
BARS = [
    Bar("mixed P95 (ms)", figure("mixed FULL", "p95_ms"), "<=", 2),
    Bar("mixed P99 (ms)", figure("mixed FULL", "p99_ms"), "<=", 10),
    Bar("ticker late P99, mixed (ms)", figure("mixed FULL", "late_p99_ms"), "<=", 5),
]
main = partial(answer, QUESTION)

if __name__ == "__main__":
    main()
