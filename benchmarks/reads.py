"""How fast are point reads by primary key: of any row, and of the rows that are asked for again and again?"""

from benchmarks.harness import Question, Scenario, answer

QUESTION = Question(
    "reads",
    [Scenario("read"), Scenario("repeat")],
    systems=("raw", "sqlite3", "aiosqlite", "aiosqlitepool", "asqlite", "sqlalchemy", "millpond", "millpond-sync"),
    ratios=[
        (scenario, system, beside)
        for scenario in ("read", "repeat")
        for system, beside in (("millpond", "raw"), ("millpond", "aiosqlite"), ("millpond-sync", "millpond"))
    ],
)

if __name__ == "__main__":
    answer(QUESTION)
