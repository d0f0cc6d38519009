"""How fast are writes of two statements, as functions and as interactive transactions, and of one statement?"""

from benchmarks.harness import Question, Scenario, answer

_SCENARIOS = [Scenario(name) for name in ("write", "transaction", "single")]
_SCENARIOS += [Scenario(name, full=False) for name in ("write", "transaction")]
QUESTION = Question(
    "writes",
    _SCENARIOS,
    ratios=[(s.title, "millpond", beside) for s in _SCENARIOS for beside in ("raw", "raw-grouped", "aiosqlite")],
)

if __name__ == "__main__":
    answer(QUESTION)
