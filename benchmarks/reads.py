"""How fast are point reads by primary key?"""

from benchmarks.harness import Question, Scenario, answer

QUESTION = Question(
    "reads",
    [Scenario("read")],
    systems=("raw", "sqlite3", "aiosqlite", "aiosqlitepool", "asqlite", "sqlalchemy", "millpond", "millpond-sync"),
    ratios=[("read", "millpond", "raw"), ("read", "millpond", "aiosqlite"), ("read", "millpond-sync", "millpond")],
)

if __name__ == "__main__":
    answer(QUESTION)
