"""Write what the demonstration and the benchmarks found here into both READMEs: `make readme`.

Pictures: docs/pictures/demo-light.svg and -dark.svg, of a run made now. Figures: of benchmarks/out, which
`make bench` writes.
"""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 84
_NORMAL = [(36, 41, 47), (207, 34, 46), (17, 99, 41), (77, 45, 0), (9, 105, 218), (130, 80, 223), (27, 124, 131)]
_BRIGHT = [
    (230, 237, 243), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207),
]  # fmt: skip
THEMES = {
    "light": TerminalTheme((255, 255, 255), (31, 35, 40), [*_NORMAL, (110, 119, 129)]),
    "dark": TerminalTheme((13, 17, 23), (230, 237, 243), [*_BRIGHT, (139, 148, 158)]),
}
NAMES = {
    "raw": "raw apsw loop", "sqlite3": "sqlite3", "aiosqlite": "aiosqlite", "aiosqlitepool": "aiosqlitepool",
    "asqlite": "asqlite", "sqlalchemy": "SQLAlchemy", "millpond": "**Millpond**", "millpond-sync": "Millpond, threads",
}  # fmt: skip
SCENARIOS = (
    ("reads", "read", "point reads, nothing kept", "單筆讀取，不留結果"),
    ("reads", "repeat", "repeated reads (Zipf), 1 % writes", "重複讀取（Zipf），寫入 1 %"),
    ("writes", "write FULL", "`write(fn)`, two statements", "`write(fn)`，兩個陳述式"),
    ("writes", "transaction FULL", "transactions, two statements", "交易，兩個陳述式"),
    ("mixed", "mixed FULL", "70 % reads, 25 % writes, 5 % scans", "讀取 70 %、寫入 25 %、掃描 5 %"),
    ("processes", "write FULL 4 processes", "writes by four processes", "四個行程的寫入"),
)
PAGES = {"README.md": 0, "README.zh-TW.md": 1}


def main() -> int:
    shown = demonstration()
    draw(shown)
    results = {name: figures(name) for name, *_ in SCENARIOS}
    for page, language in PAGES.items():
        path = ROOT / page
        text = path.read_text(encoding="utf-8")
        path.write_text(between(text, "bench", table(results, language)), encoding="utf-8")
    return 0


def demonstration() -> str:
    """What `millpond demo` prints on a terminal with colours, up to the end of its proof."""
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(WIDTH), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "millpond", "demo"]
    printed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
    return printed[: printed.index("In your own bot")].rpartition("\n\n")[0].strip("\n")


def draw(shown: str) -> None:
    plain = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)  # no fonts from elsewhere
    for name, theme in THEMES.items():
        console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
        console.print(Text.from_ansi(shown))
        svg = console.export_svg(title="millpond demo", theme=theme, code_format=plain, unique_id="demo")
        (ROOT / "docs" / "pictures" / f"demo-{name}.svg").write_text(svg, encoding="utf-8")


def figures(name: str) -> dict[str, Any]:
    path = ROOT / "benchmarks" / "out" / f"{name}.json"
    if not path.exists():
        sys.exit(f"{path.relative_to(ROOT)} is missing: run `make bench` first")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def table(results: dict[str, dict[str, Any]], language: int) -> str:
    """Calls per second by system, and the P99 in ms."""
    lines = [f"| | {' | '.join(NAMES.values())} |", "|---|" + "--:|" * len(NAMES)]
    for name, title, *words in SCENARIOS:
        rows = {row["system"]: row for row in results[name]["rows"] if row["scenario"] == title}
        lines.append(f"| {words[language]} | {' | '.join(cell(rows.get(system)) for system in NAMES)} |")
    machine, settings = results["reads"]["machine"], results["reads"]["settings"]
    titles = {title for _, title, *_ in SCENARIOS}
    shown = [row for result in results.values() for row in result["rows"] if row["scenario"] in titles]
    spread = max(row["spread"] for row in shown if not row["missing"])
    facts = f"{machine['cores']} cores, Python {machine['python']}, SQLite {machine['sqlite_apsw']}"
    return "\n".join([*lines, "", f"{facts}, {settings['rounds']} rounds, +-{spread / 2:.0%}."])


def cell(row: dict[str, Any] | None) -> str:
    if row is None or row["missing"]:
        return "-"
    p99 = f"{row['p99_ms']:.2g}" if row["p99_ms"] < 10 else f"{row['p99_ms']:,.0f}"
    return f"{row['ops_per_s']:,.0f} ({p99})"


def between(text: str, mark: str, inside: str) -> str:
    start, end = f"<!-- {mark}:start -->", f"<!-- {mark}:end -->"
    return f"{text[: text.index(start)]}{start}\n{inside}\n{text[text.index(end) :]}"


if __name__ == "__main__":
    sys.exit(main())
