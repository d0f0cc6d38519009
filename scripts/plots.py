"""Draw what `make bench` found, as SVG and PNG, and write its tables into the page: `make bench-plots`.

Reads benchmarks/out/*.json; writes docs/benchmarks/. A benchmark that was not run leaves its picture as it was.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import benchmark_page
import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "out"
PAGES = ROOT / "docs" / "benchmarks"
Rows = list[dict[str, Any]]
WORKERS = 25

INK, FAINT, GRID, PAPER = "#1f2328", "#6e7781", "#e3e6ea", "#ffffff"
# The colours of Okabe and Ito, which people with any colour vision can tell apart; markers tell the same again.
STYLES: dict[str, tuple[str, str, str]] = {
    "millpond": ("Millpond", "#0072B2", "o"),
    "millpond-sync": ("Millpond, threads", "#56B4E9", "s"),
    "sqlite3": ("sqlite3, threads", "#595959", "D"),
    "aiosqlite": ("aiosqlite", "#D55E00", "^"),
    "aiosqlitepool": ("aiosqlitepool", "#E69F00", "v"),
    "asqlite": ("asqlite", "#009E73", "P"),
    "sqlalchemy": ("SQLAlchemy", "#CC79A7", "X"),
    "raw": ("raw apsw loop", "#1f2328", "|"),
    "raw-grouped": ("raw loop, 25 per commit", "#8c959f", "|"),
}
PARAMETERS: dict[Any, Any] = {
    "font.family": "DejaVu Sans", "font.size": 8.5, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": FAINT,
    "axes.linewidth": 0.7, "xtick.color": FAINT, "ytick.color": FAINT, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "xtick.major.size": 3, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.grid": True, "axes.grid.axis": "y", "grid.color": GRID, "grid.linewidth": 0.7, "axes.axisbelow": True,
    "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 8,
    "figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER,
    "svg.hashsalt": "millpond", "figure.dpi": 100,
    "figure.constrained_layout.h_pad": 0.12, "figure.constrained_layout.w_pad": 0.1,
}  # fmt: skip


def main() -> int:
    mpl.use("Agg")
    mpl.rcParams.update(PARAMETERS)
    PAGES.mkdir(parents=True, exist_ok=True)
    for name, (needed, draw) in PICTURES.items():
        absent = [need for need in needed if not (RESULTS / f"{need}.json").exists()]
        if absent:
            print(f"{name}: left as it was, benchmarks/out/{absent[0]}.json is missing", file=sys.stderr)
            continue
        save(name, draw(*(rows(need) for need in needed)))
    benchmark_page.write(RESULTS, PAGES / "README.md")
    return 0


def rows(name: str) -> Rows:
    found: Rows = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return [row for row in found if not row.get("missing")]


def save(name: str, figure: Figure) -> None:
    figure.savefig(PAGES / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.12)
    figure.savefig(PAGES / f"{name}.png", dpi=170, metadata={"Software": None}, bbox_inches="tight", pad_inches=0.12)
    plt.close(figure)
    print(f"drew {name}")


def side_by_side(reads: Rows, writes: Rows, mixed: Rows) -> Figure:
    """All systems with 25 workers, one panel per scenario."""
    panels = [
        (reads, "read", "Point reads, nothing kept"),
        (reads, "repeat", "Repeated reads, 1 % writes"),
        (mixed, "mixed FULL", "70 % reads, 25 % writes, 5 % scans"),
        (writes, "write FULL", "write(fn), two statements"),
        (writes, "transaction FULL", "Transactions, two statements"),
        (writes, "single FULL", "One statement (execute)"),
    ]
    figure, axes = plt.subplots(2, 3, figsize=(10.5, 5.4), sharey=True, layout="constrained")
    order = [system for system in STYLES if system != "raw-grouped"]
    for axis, (found, scenario, title) in zip(axes.flat, panels, strict=True):
        there = {row["system"]: row for row in found if row["scenario"] == scenario}
        axis.set(xscale="log", title=title)
        axis.grid(axis="x")
        axis.grid(visible=False, axis="y")
        for place, system in enumerate(reversed(order)):
            if system not in there:
                continue
            _, colour, _ = STYLES[system]
            row = there[system]
            bold = system == "millpond"
            axis.plot([min(row["rates"]), max(row["rates"])], [place, place], color=colour, lw=2.2, alpha=0.35,
                      solid_capstyle="round")  # fmt: skip
            axis.plot(row["ops_per_s"], place, "o", color=colour, ms=7 if bold else 5.5)
            axis.annotate(thousands(row["ops_per_s"]), (max(row["rates"]), place), xytext=(7, 0), va="center",
                          textcoords="offset points", fontsize=8, weight="bold" if bold else "normal")  # fmt: skip
        axis.set_yticks(range(len(order)), [STYLES[system][0] for system in reversed(order)])
        widen(axis, 0.25, 4.5)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.xaxis.set_minor_formatter(NullFormatter())
    figure.supxlabel("operations per second, 25 workers; the bar is the range of the rounds", fontsize=8.5)
    return figure


def throughput_by_workers(reads: Rows, writes: Rows) -> Figure:
    return by_workers(reads, writes, "ops_per_s", "operations per second")


def p99_by_workers(reads: Rows, writes: Rows) -> Figure:
    return by_workers(reads, writes, "p99_ms", "P99 (ms)")


def by_workers(reads: Rows, writes: Rows, key: str, label: str) -> Figure:
    panels = [
        (reads, "read", "Point reads, nothing kept"),
        (writes, "write FULL", "write(fn), two statements, synced"),
        (writes, "transaction FULL", "Interactive transactions, synced"),
        (writes, "single FULL", "One statement (execute), synced"),
    ]
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for axis, (found, act, title) in zip(axes.flat, panels, strict=True):
        several = {row["system"] for row in found if row["act"] == act and row["workers"] != WORKERS}
        several |= {"raw", "raw-grouped"}
        curves(axis, [row for row in found if row["act"] == act and row["system"] in several], "workers", key)
        axis.set(title=title, ylabel=label, xlabel="workers")
        axis.set_xticks([1, 25, 100, 1_000, 10_000], ["1", "25", "100", "1,000", "10,000"])
    if any(row["unfinished"] for row in (*reads, *writes)):
        note = "open marker: calls were cut off in the end; the true value is worse"
        figure.supxlabel(note, fontsize=8, color=FAINT, x=0.01, ha="left")
    return figure


def processes(found: Rows) -> Figure:
    """Left and middle: throughput; right: tails of writes."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.7), layout="constrained")
    panels = [
        ("read", "ops_per_s", "Point reads", "operations per second"),
        ("write FULL", "ops_per_s", "write(fn), synced", "operations per second"),
        ("write FULL", "p99_ms", "write(fn), synced: P99 and longest", "ms"),
    ]
    for axis, (act, key, title, label) in zip(axes, panels, strict=True):
        chosen = [row for row in found if row["act"] == act]
        curves(axis, chosen, "processes", key)
        if key == "p99_ms":
            for row in chosen:
                axis.plot([row["processes"]] * 2, [row["p99_ms"], row["max_ms"]], color=STYLES[row["system"]][1],
                          lw=1, ls=":")  # fmt: skip
                axis.plot(row["processes"], row["max_ms"], "_", color=STYLES[row["system"]][1], ms=8)
        axis.set(title=title, ylabel=label, xlabel="processes with 25 workers each")
        axis.set_xticks([1, 2, 4], ["1", "2", "4"])
    return figure


def per_result(found: Rows) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.9), layout="constrained")
    chosen = [{**row, "rows_per_s": row["ops_per_s"] * row["per_result"],
               "rates": [rate * row["per_result"] for rate in row["rates"]]} for row in found]  # fmt: skip
    curves(axes[0], chosen, "per_result", "rows_per_s")
    curves(axes[1], chosen, "per_result", "p99_ms")
    axes[0].set(title="Rows per second", ylabel="rows per second")
    axes[1].set(title="P99 of a call", ylabel="P99 (ms)")
    for axis in axes:
        axis.set(xlabel="rows per result")
        axis.set_xticks([1, 100, 10_000], ["1", "100", "10,000"])
    return figure


def hot_and_cold(found: Rows) -> Figure:
    """Each system's rate with the file in the page cache and out of it, and the time to the first row."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 2.9), sharey=True, layout="constrained")
    systems = [s for s in STYLES if sum(row["system"] == s for row in found) == 2][::-1]  # hot and cold
    top = len(systems) - 1
    for axis, key, title, label in (
        (axes[0], "ops_per_s", "5,000 scattered reads", "reads per second"),
        (axes[1], "first_ms", "From opening to the first row", "ms"),
    ):
        axis.set(xscale="log", title=title, xlabel=label)
        axis.grid(axis="x")
        axis.grid(visible=False, axis="y")
        for place, system in enumerate(systems):
            hot, cold = (
                next(row[key] for row in found if row["system"] == system and row["act"] == f"scattered {state}")
                for state in ("hot", "cold")
            )
            _, colour, _ = STYLES[system]
            axis.plot([hot, cold], [place, place], color=colour, lw=1.4, alpha=0.5)
            axis.plot(hot, place, "o", color=colour, ms=7)
            axis.plot(cold, place, "o", color=colour, ms=7, mfc=PAPER, mew=1.5)
            for value, other in ((hot, cold), (cold, hot)):
                right = value > other
                axis.annotate(short(value), (value, place), xytext=(8 if right else -8, 0), va="center",
                              ha="left" if right else "right", textcoords="offset points", fontsize=8)  # fmt: skip
            if key == "ops_per_s" and place == top:
                for value, word in ((hot, "in the page cache"), (cold, "dropped from it")):
                    axis.annotate(word, (value, top), xytext=(0, 8), ha="center", textcoords="offset points",
                                  fontsize=8, color=FAINT)  # fmt: skip
        axis.set_yticks(range(len(systems)), [STYLES[system][0] for system in systems])
        axis.set_ylim(-0.6, top + 0.9)
        widen(axis, 0.45, 2.2)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.xaxis.set_minor_formatter(NullFormatter())
    return figure


def tails(writes: Rows, mixed: Rows) -> Figure:
    """How the waiting is spread: P50, P95, P99 and the longest."""
    panels = [(writes, "write FULL", "write(fn), two statements"), (mixed, "mixed FULL", "The mix")]
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), sharey=True, layout="constrained")
    measured = [{row["system"] for row in found if row["scenario"] == scenario} for found, scenario, _ in panels]
    order = [system for system in STYLES if system in measured[0] & measured[1] - {"raw"}][::-1]
    steps = (("p50_ms", "P50", 5.5), ("p95_ms", "P95", 4.5), ("p99_ms", "P99", 4.5), ("max_ms", "longest", 4))
    for axis, (found, scenario, title) in zip(axes, panels, strict=True):
        there = {row["system"]: row for row in found if row["scenario"] == scenario}
        axis.set(xscale="log", title=title, xlabel="ms, 25 workers")
        axis.grid(axis="x")
        axis.grid(visible=False, axis="y")
        for place, system in enumerate(order):
            row, colour = there[system], STYLES[system][1]
            axis.plot([row["p50_ms"], row["max_ms"]], [place, place], color=colour, lw=1.2, alpha=0.5)
            for key, _, size in steps:
                filled = key in ("p50_ms", "p99_ms")
                axis.plot(row[key], place, "|" if key == "max_ms" else "o", color=colour, ms=size + 2, mew=1.5,
                          mfc=colour if filled else PAPER)  # fmt: skip
        clearest = max(order, key=lambda system: apart([there[system][key] for key, *_ in steps]))
        for key, word, _ in steps:
            axis.annotate(word, (there[clearest][key], order.index(clearest)), xytext=(0, 8), ha="center",
                          textcoords="offset points", fontsize=7.5, color=FAINT)  # fmt: skip
        axis.set_yticks(range(len(order)), [STYLES[system][0] for system in order])
        axis.set_ylim(-0.6, len(order) - 0.1)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.xaxis.set_minor_formatter(NullFormatter())
    return figure


def bulk(found: Rows) -> Figure:
    """Small writes beside a bulk write: how long they wait, and how fast the bulk write is."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 2.9), sharey=True, layout="constrained")
    scenarios = [row["scenario"] for row in found][::-1]
    there = {row["scenario"]: row for row in found}
    for axis, key, title, label in (
        (axes[0], "p99_ms", "Small writes: P99 and longest", "ms"),
        (axes[1], "bulk_rows_per_s", "The bulk write", "rows per second"),
    ):
        axis.set(xscale="log" if key == "p99_ms" else "linear", title=title, xlabel=label)
        axis.grid(axis="x")
        axis.grid(visible=False, axis="y")
        colour = STYLES["millpond"][1]
        for place, scenario in enumerate(scenarios):
            row = there[scenario]
            if not row[key]:
                continue
            axis.plot(row[key], place, "o", color=colour, ms=7)
            end = row[key]
            if key == "p99_ms":
                end = row["max_ms"]
                axis.plot([row[key], end], [place, place], color=colour, lw=1.2, alpha=0.5)
                axis.plot(end, place, "|", color=colour, ms=8, mew=1.5)
            axis.annotate(short(row[key]), (end, place), xytext=(8, 0), va="center", textcoords="offset points",
                          fontsize=8)  # fmt: skip
        axis.set_yticks(range(len(scenarios)), scenarios)
        axis.set_ylim(-0.6, len(scenarios) - 0.4)
        if key == "p99_ms":
            widen(axis, 0.6, 2.2)
        else:
            axis.set_xlim(0, axis.get_xlim()[1] * 1.15)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        axis.xaxis.set_minor_formatter(NullFormatter())
    return figure


def curves(axis: Axes, found: Rows, x: str, key: str) -> None:
    """A line per system over x, log on both axes, with the range of the rounds, and its name at its end.

    An open marker: calls were cut off, so the true value is worse.
    """
    axis.set(xscale="log", yscale="log")
    right = max(row[x] for row in found)
    labels: list[tuple[float, float, str, str, bool]] = []
    for system in [name for name in STYLES if any(row["system"] == name for row in found)]:
        name, colour, marker = STYLES[system]
        points = sorted((row for row in found if row["system"] == system and row[key]), key=lambda row: int(row[x]))
        if not points:
            continue
        if system.startswith("raw") and len(points) == 1:  # it has no workers: one loop, whatever the crowd
            axis.axhline(points[0][key], color=colour, lw=1, ls=(0, (4, 3)))
            labels.append((right * 1.25, points[0][key], name, colour, False))
            continue
        bold = system == "millpond"
        xs, ys = [row[x] for row in points], [row[key] for row in points]
        axis.plot(xs, ys, color=colour, lw=2.2 if bold else 1.3, zorder=4 if bold else 3)
        ranges = {"ops_per_s": "rates", "rows_per_s": "rates", "p99_ms": "p99s"}[key]
        for row in points:
            lost = row["unfinished"] > 0
            axis.plot([row[x]] * 2, [min(row[ranges]), max(row[ranges])], color=colour, lw=3.5, alpha=0.25, zorder=2,
                      solid_capstyle="round")  # fmt: skip
            axis.plot(row[x], row[key], marker, color=colour, ms=6.5 if bold else 5, mfc=PAPER if lost else colour,
                      mew=1.4 if lost else 0, zorder=5)  # fmt: skip
        labels.append((xs[-1], ys[-1], name, colour, bold))
    axis.set_xlim(min(row[x] for row in found) * 0.8, right * 1.25)
    some_ticks(axis)
    axis.figure.canvas.draw()
    at_the_ends(axis, labels)


def at_the_ends(axis: Axes, labels: Sequence[tuple[float, float, str, str, bool]]) -> None:
    """Names right of the panel, moved apart where they would touch; dots lead there from where a line ends."""
    least = 11.5  # points between two names
    height = axis.get_window_extent().height * 72 / axis.figure.dpi
    ordered = sorted(labels, key=lambda label: label[1])
    ends = [axis.transAxes.inverted().transform(axis.transData.transform(label[:2])) for label in ordered]
    places = [end[1] * height for end in ends]
    for _ in range(200):
        for one in range(len(places) - 1):
            gap = places[one + 1] - places[one]
            if gap < least:
                places[one] -= (least - gap) / 2
                places[one + 1] += (least - gap) / 2
    for place, end, (_, _, name, colour, bold) in zip(places, ends, ordered, strict=True):
        axis.annotate(name, (1.0, place / height), xycoords="axes fraction", xytext=(4, 0), va="center",
                      textcoords="offset points", fontsize=8.5, color=colour, weight="bold" if bold else "normal",
                      annotation_clip=False)  # fmt: skip
        if end[0] < 0.999:
            axis.plot([end[0], 1.0], [end[1], place / height], transform=axis.transAxes, color=colour, lw=0.8,
                      ls=(0, (1, 2)), zorder=2, clip_on=False)  # fmt: skip


def some_ticks(axis: Axes) -> None:
    """More than a tick per power of ten where there are few of those."""
    low, high = axis.get_ylim()
    few = high / low < 80
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=20))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())


def apart(values: Sequence[float]) -> float:
    """The smallest step between neighbours, as a ratio."""
    return min(after / before if before else 1.0 for before, after in pairwise(values))


def widen(axis: Axes, left: float, right: float) -> None:
    """Room for the words beside the outermost points of a logarithmic axis."""
    low, high = axis.get_xlim()
    axis.set_xlim(low * (1 - left), high * right)


def thousands(value: float) -> str:
    return f"{value:,.0f}"


def short(value: float) -> str:
    """1.2k, 30k, 1.5M; small numbers as they are."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


PICTURES: dict[str, tuple[tuple[str, ...], Callable[..., Figure]]] = {
    "side-by-side": (("reads", "writes", "mixed"), side_by_side),
    "workers-throughput": (("reads", "writes"), throughput_by_workers),
    "workers-p99": (("reads", "writes"), p99_by_workers),
    "tails": (("writes", "mixed"), tails),
    "processes": (("processes",), processes),
    "rows": (("rows",), per_result),
    "cold": (("cold",), hot_and_cold),
    "bulk": (("bulk",), bulk),
}

if __name__ == "__main__":
    sys.exit(main())
