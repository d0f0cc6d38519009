"""How fast are writes of two statements, as functions and as interactive transactions, and of one statement?"""

from benchmarks.harness import Question, Scenario, answer

_TITLES = [f"{name} {durability}" for durability in ("FULL", "NORMAL") for name in ("write", "transaction", "single")]
QUESTION = Question(
    "writes",
    [Scenario(name, full=full) for full in (True, False) for name in ("write", "transaction", "single")],
    ratios=[(title, "millpond", beside) for title in _TITLES for beside in ("raw", "raw-grouped", "aiosqlite")],
)

if __name__ == "__main__":
    answer(QUESTION)
