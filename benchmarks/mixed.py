"""What do callers feel under a mix of 70 % point reads, 25 % writes and 5 % aggregates?"""

from benchmarks.harness import Question, Scenario, answer

QUESTION = Question(
    "mixed",
    [Scenario("mixed")],
    systems=("raw", "sqlite3", "aiosqlite", "aiosqlitepool", "asqlite", "sqlalchemy", "millpond", "millpond-sync"),
    ratios=[("mixed FULL", "millpond", "aiosqlite"), ("mixed FULL", "millpond", "raw")],
)

if __name__ == "__main__":
    answer(QUESTION)
