"""What if the file is not in the page cache? 5,000 scattered rows of a file of some 100 MB, each read once.

Cold: all its pages are dropped (posix_fadvise) before it is opened, and it is seen that they are gone. Hot: the file
was read just before. `first_ms` is the time from opening to the first row.
"""

from collections.abc import Sequence
from functools import partial

from benchmarks.bars import Bar
from benchmarks.harness import Question, Scenario, answer

QUESTION = Question(
    "cold",
    [Scenario("scattered", cold=cold, rounds=2) for cold in (False, True)],
    systems=("raw", "sqlite3", "aiosqlite", "millpond", "millpond-sync"),
    ratios=[(f"scattered {s}", "millpond", beside) for s in ("hot", "cold") for beside in ("raw", "aiosqlite")],
)
BARS: Sequence[Bar] = ()
main = partial(answer, QUESTION)

if __name__ == "__main__":
    main()
