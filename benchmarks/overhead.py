"""What does the measuring itself cost per call? The loop of the other benchmarks, around nothing."""

from collections.abc import Sequence
from functools import partial

from benchmarks.bars import Bar
from benchmarks.harness import Question, Scenario, answer

QUESTION = Question("overhead", [Scenario("read")], systems=("empty", "empty-threads"))
BARS: Sequence[Bar] = ()
main = partial(answer, QUESTION)

if __name__ == "__main__":
    main()
