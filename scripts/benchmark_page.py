"""The tables of docs/benchmarks/README.md, from benchmarks/out/*.json: rewrites what is between the page's marks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

START, END = "<!-- results:start -->", "<!-- results:end -->"
NAMES = {
    "millpond": "**Millpond**", "millpond-sync": "Millpond, threads", "sqlite3": "sqlite3, threads",
    "aiosqlite": "aiosqlite", "aiosqlitepool": "aiosqlitepool", "asqlite": "asqlite", "sqlalchemy": "SQLAlchemy",
    "raw": "raw apsw loop", "raw-grouped": "raw loop, 25 per commit", "empty": "nothing, asyncio",
    "empty-threads": "nothing, threads",
}  # fmt: skip
ACTS = {
    "read": "point reads, nothing kept",
    "repeat": "repeated reads, steady",
    "repeat filling": "repeated reads, first 1.5 s",
    "write FULL": "`write(fn)`, 2 statements, FULL",
    "transaction FULL": "transaction, 2 statements, FULL",
    "single FULL": "`execute`, FULL",
    "write NORMAL": "`write(fn)`, NORMAL",
    "mixed FULL": "70/25/5 mix, FULL",
}
Line = Mapping[str, Any]
BUSY = 0.05
"""As in benchmarks/harness.py."""


def write(results: Path, page: Path) -> None:
    """Tables of all that was run; the prose around them stays."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(results.glob("*.json"))}
    parts = [facts(found)]
    for name, shown in SECTIONS.items():
        if name in found:
            parts.append(shown(found[name]))
            parts += [picture(page.parent, *drawn) for drawn in PICTURES.get(name, ())]
    for name, result in found.items():
        if name not in SECTIONS:
            parts += [other(result), *(picture(page.parent, *drawn) for drawn in PICTURES.get(name, ()))]
    text = page.read_text(encoding="utf-8")
    inside = "\n\n".join(part for part in parts if part)
    page.write_text(f"{text[: text.index(START)]}{START}\n{inside}\n{text[text.index(END) :]}", encoding="utf-8")


def facts(found: Mapping[str, Any]) -> str:
    result = next(iter(found.values()))
    measured = [result for result in found.values() if "rounds" in result["settings"]]
    machine, rounds = result["machine"], max(result["settings"]["rounds"] for result in measured)
    stolen, others = (max(result["settings"].get(key, 0.0) for result in measured) for key in ("stolen", "others"))
    spreads = sorted(row["spread"] for result in measured for row in result["rows"] if row.get("rates"))
    system = ".".join(machine["system"].split(".")[:2])
    took = found.get("bars", {}).get("settings", {}).get("seconds")
    text = (
        f"{machine.get('processor', 'unknown processor')}, {machine['cores']} cores, {system}, "
        f"Python {machine['python']}, SQLite {machine['sqlite_apsw']} (apsw). Up to {rounds} rounds; half of the rows "
        f"differ by less than {spreads[len(spreads) // 2]:.0%} between rounds, nine of ten by less than "
        f"{spreads[len(spreads) * 9 // 10]:.0%}. Meanwhile the host took away {stolen:.1%} of the processors' time "
        f"at most, and other programs {others:.0%}."
    )
    if others > BUSY:
        text += " **The machine was not quiet: the figures say little.**"
    return text + (f" All of it took {took // 60} min {took % 60} s." if took else "")


def picture(folder: Path, name: str, words: str) -> str:
    return f"![{words}]({name}.svg)" if (folder / f"{name}.svg").exists() else ""


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    marks = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, marks, *lines))


def bars(result: Line) -> str:
    lines = []
    for row in result["rows"]:
        if row["found"] is None:
            continue
        by = f" by {row['missed_by']:.1%}" if row.get("missed_by") else ""
        verdict = "ok" if row["ok"] else f"**missed{by}**"
        lines.append(
            [row["bar"], f"{'≥' if row['way'] == '>=' else '≤'} {row['limit']:g}", f"{row['found']:.3g}", verdict]
        )
    held = sum(row["found"] is not None and row["ok"] for row in result["rows"])
    title = f"### The bars\nWhat is aimed at; {held} of {len(lines)} hold.\n\n"
    return title + table(["", "bar", "found", ""], lines)


def overhead(result: Line) -> str:
    each = [f"{NAMES[row['system']]}: {1e6 / row['ops_per_s']:.2f} µs" for row in result["rows"]]
    return f"### What the measuring costs\nPer call, with a system that does nothing: {', '.join(each)}."


def at_25(title: str) -> Callable[[Line], str]:
    """Systems by scenario with 25 workers, then what crowds do."""

    def shown(result: Line) -> str:
        rows = [row for row in result["rows"] if row["processes"] == 1]
        acts = list(dict.fromkeys(row["act"] for row in rows))
        few = {(row["act"], row["system"]): row for row in rows if row["workers"] == 25}
        systems = [system for system in NAMES if any(key[1] == system for key in few)]
        text = f"### {title}\nCalls per second and, in brackets, P99 and longest in ms; 25 workers.\n\n"
        text += table(
            ["", *(NAMES[system] for system in systems)],
            ([ACTS.get(act, act), *(cell(few.get((act, system))) for system in systems)] for act in acts),
        )
        crowds = sorted({row["workers"] for row in rows})
        if len(crowds) == 1:
            return text
        many = {(row["act"], row["system"], row["workers"]): row for row in rows}
        swept = [(act, system) for act in acts for system in NAMES
                 if sum((act, system, crowd) in many for crowd in crowds) > 1]  # fmt: skip
        text += "\n\nThe same by workers:\n\n"
        return text + table(
            ["", "", *(f"{crowd:,}" for crowd in crowds)],
            ([ACTS.get(act, act), NAMES[system], *(cell(many.get((act, system, crowd))) for crowd in crowds)]
             for act, system in swept),
        )  # fmt: skip

    return shown


def processes(result: Line) -> str:
    rows = {(row["act"], row["system"], row["processes"]): row for row in result["rows"]}
    pairs = list(dict.fromkeys((act, system) for act, system, _ in rows))
    lines = []
    for act, system in pairs:
        four = rows.get((act, system, 4))
        cells = [cell(rows.get((act, system, number))) for number in (1, 2, 4)]
        tail = f"{four['evenness']:.2f}" if four else ""
        lines.append([ACTS.get(act, act), NAMES[system], *cells, tail])
    head = ["", "", "1 process", "2", "4", "of 4: slowest / fastest"]
    return "### Several processes on one file\nCalls per second of all processes (P99, longest in ms).\n\n" + table(
        head, lines
    )


def per_result(result: Line) -> str:
    rows = {(row["system"], row["per_result"]): row for row in result["rows"]}
    sizes = sorted({size for _, size in rows})
    lines = [[NAMES[system], *(cell(rows.get((system, size))) for size in sizes)]
             for system in NAMES if (system, sizes[0]) in rows]  # fmt: skip
    title = "### Rows per result\nCalls per second (P99, longest in ms), 25 workers.\n\n"
    return title + table(["", *(f"{size:,} rows" if size > 1 else "1 row" for size in sizes)], lines)


def cold(result: Line) -> str:
    rows = {(row["system"], row["act"].split()[1]): row for row in result["rows"]}
    lines = [
        [NAMES[system], cell(rows[system, "hot"]), cell(rows[system, "cold"]),
         number(rows[system, "hot"]["first_ms"]), number(rows[system, "cold"]["first_ms"])]
        for system in NAMES if (system, "hot") in rows
    ]  # fmt: skip
    head = ["", "in the page cache", "dropped from it", "first row, cached (ms)", "first row, dropped (ms)"]
    return "### A cold file\n5,000 scattered reads: calls per second (P99, longest in ms).\n\n" + table(head, lines)


def memory(result: Line) -> str:
    idle = next(row for row in result["rows"] if row["scenario"] == "idle")
    lines = [[row["scenario"], number(row["kib_each"]), number(row["peak_kib_each"])]
             for row in result["rows"] if "kib_each" in row]  # fmt: skip
    service = f"An idle service with {idle['connections']} connections: {idle['resident_mib']:g} MiB resident."
    text = f"### Memory\n{service} Of each caller, asyncio's task included:\n\n"
    return text + table(["callers", "KiB, waiting", "KiB, at most"], lines)


def other(result: Line) -> str:
    """A benchmark that has no table of its own here: its ratios."""
    lines = [[name, number(ratio)] for name, ratio in result["ratios"].items()]
    return f"### {result['benchmark']}\n" + table(["", "ratio"], lines) if lines else ""


def cell(row: Line | None) -> str:
    if row is None:
        return ""
    if row["missing"]:
        return str(row["missing"])
    errors = f"; {row['errors']} errors" if row["errors"] else ""
    cut = f"; {row['unfinished']:,} cut off" if row["unfinished"] else ""
    return f"{row['ops_per_s']:,.0f} ({number(row['p99_ms'])}, {number(row['max_ms'])}{errors}{cut})"


def number(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


SECTIONS: dict[str, Callable[[Line], str]] = {
    "bars": bars,
    "reads": at_25("Reads"),
    "writes": at_25("Writes"),
    "mixed": at_25("The mix"),
    "processes": processes,
    "rows": per_result,
    "cold": cold,
    "memory": memory,
    "overhead": overhead,
}
PICTURES = {
    "bars": [("side-by-side", "Operations per second of each system with 25 workers, in six scenarios")],
    "writes": [
        ("workers-throughput", "Throughput against the number of workers, for reads and three kinds of writes"),
        ("workers-p99", "P99 against the number of workers, for reads and three kinds of writes"),
    ],
    "mixed": [("tails", "P50, P95, P99 and the longest call of each system, for writes and for the mix")],
    "processes": [("processes", "Throughput and tails with one, two and four processes on one file")],
    "rows": [("rows", "Rows per second and P99 against the number of rows per result")],
    "cold": [("cold", "Scattered reads of a file in the page cache and dropped from it")],
    "bulk": [("bulk", "Small writes beside a bulk write")],
}
