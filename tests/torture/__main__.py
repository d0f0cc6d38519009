"""Run the attacks: python -m tests.torture [PART ...] [--minutes N] [--seed S] [--fresh] [--case N]."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from tests.torture.case import Case, Part, all_parts

OUT = Path(__file__).parent / "out"
SHOWN_EVERY_S = 1.0
MOST_BROKEN = 20
"""After so many a part is given up: the rest would say the same."""


def main() -> int:
    parts = all_parts()
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    parser.add_argument("names", nargs="*", metavar="PART", help=f"only these: {', '.join(parts)}")
    parser.add_argument("--minutes", type=float, help="stop after so long, and go on from there the next time")
    parser.add_argument("--seed", type=int, default=1, help="where all that is random comes from (default: 1)")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs with this seed did")
    parser.add_argument("--case", type=int, help="run this case of one part again, and show its counts")
    args = parser.parse_args()
    chosen = args.names or list(parts)
    if unknown := set(chosen) - set(parts):
        parser.error(f"unknown part {', '.join(sorted(unknown))}; there are: {', '.join(parts)}")
    if args.case is not None:
        if len(chosen) != 1:
            parser.error("--case wants one PART")
        print(json.dumps(_run(parts[chosen[0]], args.case, args.seed)))
        return 0
    OUT.mkdir(exist_ok=True)
    end = None if args.minutes is None else time.monotonic() + args.minutes * 60
    states = {}
    for left, name in zip(range(len(chosen), 0, -1), chosen, strict=True):
        now = time.monotonic()
        until = None if end is None else now + max(0.0, end - now) / left
        states[name] = _attack(name, parts[name], args.seed, until, fresh=args.fresh)
    return _summary(parts, states, args.seed)


def _attack(name: str, part: Part, seed: int, until: float | None, *, fresh: bool) -> dict[str, Any]:
    """Run a part's cases until its goal or the time is reached; what was done is kept after each case."""
    kept = OUT / f"{name}-{seed}.json"
    state: dict[str, Any] = {"next": 0, "counts": {}, "broken": [], "seconds": 0.0}
    if kept.exists() and not fresh:
        state = json.loads(kept.read_text(encoding="utf-8"))
    counts = Counter[str](state["counts"])
    shown = 0.0
    while (
        counts[part.UNIT] < part.GOAL
        and len(state["broken"]) < MOST_BROKEN
        and (until is None or time.monotonic() < until)
    ):
        number = state["next"]
        began = time.monotonic()
        try:
            counts.update(_run(part, number, seed))
        except Exception as exc:
            state["broken"].append({"case": number, "error": f"{type(exc).__name__}: {exc}"})
            print(f"\n{name}: case {number} broke a promise", file=sys.stderr)
            traceback.print_exc()
            print(f"again: python -m tests.torture {name} --seed {seed} --case {number}", file=sys.stderr)
        state.update(next=number + 1, counts=dict(counts), seconds=state["seconds"] + time.monotonic() - began)
        kept.write_text(json.dumps(state), encoding="utf-8")
        if time.monotonic() - shown >= SHOWN_EVERY_S:
            shown = time.monotonic()
            _progress(name, part, state)
    _progress(name, part, state)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    return state


def _run(part: Part, number: int, seed: int) -> dict[str, int]:
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:
        return dict(part.run(Case(number, seed, Path(folder))))


def _progress(name: str, part: Part, state: dict[str, Any]) -> None:
    done = state["counts"].get(part.UNIT, 0)
    line = f"{name}: {done:,} of {part.GOAL:,} {part.UNIT}, {len(state['broken'])} broken, {state['seconds']:.0f} s"
    print(f"\r\033[K{line}" if sys.stderr.isatty() else line, end="" if sys.stderr.isatty() else "\n", file=sys.stderr)


def _summary(parts: dict[str, Part], states: dict[str, dict[str, Any]], seed: int) -> int:
    """What was attacked and how often, and what did not hold. 1 if anything did not, or nothing was tried."""
    print(f"\nseed {seed}")
    failed = False
    for name, state in states.items():
        part = parts[name]
        counts = {key: count for key, count in sorted(state["counts"].items()) if key != part.UNIT}
        done = state["counts"].get(part.UNIT, 0)
        print(f"{part.TITLE}: {done:,} {part.UNIT} (goal {part.GOAL:,}) in {state['seconds']:.0f} s")
        print("    " + ", ".join(f"{count:,} {key}" for key, count in counts.items()))
        for broken in state["broken"]:
            print(f"    BROKEN in case {broken['case']}: {broken['error']}")
        failed = failed or bool(state["broken"]) or not done
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
