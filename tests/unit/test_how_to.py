"""The examples of the how-to pages run, and are the same in both languages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = sorted((DOCS / "how-to").glob("*.md"))
SAYS = {
    "watch-for-changes.md": [r"(\[.*\]\n)*\['bye', 'hello', 'hi'\]", r"job 1\njob 2"],
}


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


EXAMPLES = [(page, number) for page in PAGES for number in range(len(blocks(page)))]


@pytest.mark.parametrize(("page", "number"), EXAMPLES, ids=lambda what: getattr(what, "stem", str(what)))
def test_each_example_runs_and_says_what_is_expected(page: Path, number: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocks(page)[number]],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(SAYS[page.name][number], done.stdout.strip()), done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_both_languages_have_the_same_examples(page: Path) -> None:
    assert blocks(DOCS / "zh-TW" / "how-to" / page.name) == blocks(page)
