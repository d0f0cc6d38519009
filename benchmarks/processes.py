"""Four processes with 25 workers each write to one file: who fails, and how long do they wait?"""

from benchmarks.harness import Question, Scenario, answer

QUESTION = Question(
    "processes",
    [Scenario("write", processes=4), Scenario("transaction", processes=4)],
    systems=("sqlite3", "aiosqlite", "asqlite", "millpond"),
    ratios=[
        ("write FULL 4 processes", "millpond", "aiosqlite"),
        ("transaction FULL 4 processes", "millpond", "aiosqlite"),
    ],
)

if __name__ == "__main__":
    answer(QUESTION)
