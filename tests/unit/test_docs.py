"""Documents that must keep up with the code."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from millpond import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "README.zh-TW.md", *(ROOT / "docs").rglob("*.md")])
FORBIDDEN = ("數據庫", "線程", "默認", "內存", "隊列", "事務")


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks("README.md"))))
def test_the_examples_of_the_readme_run(number: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", blocks("README.md")[number]],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("1 hi", "[True, True, False]")


COMING_FROM = re.findall(
    r"^\| ([A-Za-z0-9/ ]+) \| `(.+?)` \| `(.+?)`(.*?) \|$",
    (ROOT / "README.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)
OLD = {
    "aiosqlite": "import aiosqlite\nasync def main():\n    async with aiosqlite.connect('bot.db') as db:\n        {}",
    "SQLAlchemy Core": "from sqlalchemy.ext.asyncio import create_async_engine\nasync def main():\n"
    "    engine = create_async_engine('sqlite+aiosqlite:///bot.db')\n    {}\n    await engine.dispose()",
    "sqlite3": "import sqlite3\nasync def main():\n    conn = sqlite3.connect('bot.db')\n    {}\n    conn.close()",
}
NEW = {
    "": "from millpond import Database\nasync def main():\n    async with Database('bot.db') as db:\n"
    "        database = db\n        {}",
    " with `millpond.sync`": "from millpond.sync import Database\nasync def main():\n"
    "    with Database('bot.db') as db:\n        {}",
}


def line_runs(frame: str, line: str, folder: Path) -> None:
    """Run a line of the table, a block with nothing in it, in the place that it is written for."""
    body = line + " pass" if line.endswith(":") else line
    script = "import asyncio\nsql, params = 'SELECT ?', (1,)\n" + frame.format(body) + "\nasyncio.run(main())\n"
    done = subprocess.run(
        [sys.executable, "-c", script.replace("execute_fetchall(sql)", "execute_fetchall('SELECT 1')")
         .replace("(sql)", "('SELECT 1')")],
        cwd=folder, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0, script + done.stderr


@pytest.mark.parametrize(("library", "old", "new", "where"), COMING_FROM, ids=lambda text: text[:30])
def test_each_line_of_the_way_here_runs(library: str, old: str, new: str, where: str, tmp_path: Path) -> None:
    if library in OLD:  # encode/databases is unkept, and not installed
        line_runs(OLD[library], old, tmp_path)
    line_runs(NEW[where], new, tmp_path)


def test_the_table_of_the_way_here_was_read() -> None:
    assert {library for library, *_ in COMING_FROM} == {"aiosqlite", "encode/databases", "SQLAlchemy Core", "sqlite3"}


def test_both_readmes_say_the_same() -> None:
    english, chinese = (ROOT / name for name in ("README.md", "README.zh-TW.md"))
    assert blocks("README.md") == blocks("README.zh-TW.md")
    headings = [re.findall(r"^#+ ", page.read_text(encoding="utf-8"), re.MULTILINE) for page in (english, chinese)]
    assert headings[0] == headings[1]
    rows = [re.findall(r"^\|", page.read_text(encoding="utf-8"), re.MULTILINE) for page in (english, chinese)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_no_dead_link_and_no_foreign_word(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
    assert not [word for word in FORBIDDEN if word in text]


def test_every_setting_is_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    for field in dataclasses.fields(Settings):
        assert f"| `{field.name}` | `{getattr(Settings(), field.name)!r}` |" in text


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")))
        assert named <= targets, page
