"""The demonstration's outcome in words: verdict, before and after, proof, what to do next. Pure."""

from __future__ import annotations

from collections.abc import Callable
from shlex import quote

from millpond.cli.view import Block, Code, Columns, Mood, Text
from millpond.demo.outcome import Outcome, SideOutcome, Verified

__all__ = ["blocks_of", "compared", "setting_of"]

_EVEN = 1.05
"""Ratios nearer to 1 than this are called the same."""


def blocks_of(outcome: Outcome) -> list[Block]:
    """All that is printed when the demonstration is over, or was interrupted."""
    blocks: list[Block] = []
    before, after = outcome.before, outcome.after
    if outcome.interrupted:
        blocks.append(Text("Interrupted. As far as it came:", Mood.STRONG))
    if after is not None:
        blocks.append(_verdict(after, outcome))
    if before is not None:
        blocks.append(_verdict_before(before))
    if before is not None or after is not None:
        blocks.append(_figures(outcome))
        blocks += [Text(note, Mood.FAINT, 2) for note in _remarks(outcome)]
        blocks += [_proof_head(), _proof(outcome)]
    blocks += _troubles(outcome)
    if after is not None and after.good and not outcome.interrupted:
        blocks += _next_steps()
    blocks.append(Text(_again(outcome), Mood.FAINT, 2))
    return blocks


def setting_of(outcome_settings: dict[str, object]) -> str:
    """One line: what is about to run."""
    data = outcome_settings["data"]
    chat = f"replaying {data}" if data else f"a made-up chat, seed {outcome_settings['seed']}"
    return f"{outcome_settings['workers']} workers, twice {outcome_settings['seconds']:g} s, {chat}"


def compared(before: float | None, after: float | None, better: str, worse: str) -> str:
    """How many times more or less, in words; nothing where there is nothing to compare."""
    if not before or not after:
        return ""
    ratio = after / before
    if 1 / _EVEN < ratio < _EVEN:
        return "the same"
    times, word = (ratio, better) if ratio > 1 else (1 / ratio, worse)
    return f"{times:,.0f}x {word}" if times >= 9.95 else f"{times:.1f}x {word}"


def _verdict(side: SideOutcome, outcome: Outcome) -> Text:
    what = f"{side.verified.acknowledged:,} events, {_count(side.errors, 'error')}, {side.verified.lost:,} lost"
    if not side.good:
        return Text(f"FAILED: Millpond did not keep its word: {what}.", Mood.BAD)
    more = outcome.ratios().get("ops_per_s", 0.0)
    times = f": {_times(more)} the work of sqlite3" if more >= _EVEN else ""
    return Text(f"Millpond did {what}{times}.", Mood.GOOD)


def _verdict_before(side: SideOutcome) -> Text:
    if side.errors == 0:
        slowest = f"; its slowest event took {_ms(side.max_ms)}" if side.max_ms else ""
        return Text(f"sqlite3 did {side.verified.acknowledged:,} events without an error{slowest}.")
    return Text(
        f'sqlite3 said "database is locked" {_count(side.locked, "time")} and dropped '
        f"{_share(side.errors, side.attempts)} of its events.",
        Mood.BAD,
    )


def _figures(outcome: Outcome) -> Columns:
    sides = (outcome.before, outcome.after)
    rows: list[tuple[str, ...]] = []
    moods: list[tuple[Mood, ...]] = []

    def add_compared(
        name: str, pick: Callable[[SideOutcome], float | None], show: Show, words: tuple[str, str]
    ) -> None:
        before, after = (None if side is None else pick(side) for side in sides)
        rows.append((name, show(before), show(after), compared(before, after, *words)))
        moods.append(())

    def add_judged(name: str, show: Callable[[SideOutcome], str]) -> None:
        rows.append((name, *("-" if side is None else show(side) for side in sides), ""))
        verdicts = (Mood.PLAIN if side is None else Mood.BAD if side.errors else Mood.GOOD for side in sides)
        moods.append((Mood.PLAIN, *verdicts))

    add_compared("events per second", lambda side: side.ops_per_s, _rate, ("more", "fewer"))
    for name, pick in _TIMES:
        add_compared(name, pick, _ms, ("longer", "shorter"))
    add_judged('"database is locked"', lambda side: f"{side.locked:,}")
    add_judged("events dropped", lambda side: f"{side.errors:,} ({_share(side.errors, side.attempts)})")
    return Columns(("", "before: sqlite3", "after: Millpond", ""), tuple(rows), tuple(moods))


def _remarks(outcome: Outcome) -> list[str]:
    remarks: list[str] = list(outcome.notes)
    before, after = outcome.before, outcome.after
    if before is None or after is None:
        return remarks
    short = [
        name
        for name, own, ours in (
            ("P50", before.p50_ms, after.p50_ms),
            ("P95", before.p95_ms, after.p95_ms),
        )
        if own and ours and own * _EVEN < ours
    ]
    if short:
        remarks.append(
            f"sqlite3's {' and '.join(short)}: short for those who get through, because nobody queues. Who has the "
            "lock takes it again at once, and the others wait (see average and slowest) or fail. Millpond's workers "
            "take turns."
        )
    return remarks


def _proof_head() -> Text:
    return Text("Proof, by an independent process that opened the files afterwards with Python's own sqlite3:")


def _proof(outcome: Outcome) -> Columns:
    sides = [None if side is None else side.verified for side in (outcome.before, outcome.after)]
    rows, moods = [], []
    for name, show, good in _PROOFS:
        rows.append((name, *("-" if side is None else show(side) for side in sides)))
        verdicts = (Mood.PLAIN if side is None else Mood.GOOD if good(side) else Mood.BAD for side in sides)
        moods.append((Mood.PLAIN, *verdicts))
    return Columns(("", "sqlite3", "Millpond"), tuple(rows), tuple(moods))


def _balances(verified: Verified) -> str:
    return "agree" if verified.consistent else f"{verified.uneven_rows:,} rows are off"


def _troubles(outcome: Outcome) -> list[Block]:
    after = outcome.after
    if after is None or not after.reasons:
        return []
    return [Text(f"{times:,} x {reason}", Mood.BAD, 4) for reason, times in list(after.reasons.items())[:5]]


def _next_steps() -> list[Block]:
    return [
        Text("In your own bot (pip install millpond), three lines:", Mood.STRONG),
        Code(
            (
                'async with millpond.Database("bot.db") as db:',
                '    await db.execute("INSERT INTO message VALUES (?, ?)", (7, "hi"))',
                '    rows = await db.fetch_all("SELECT * FROM message WHERE id = ?", (7,))',
            )
        ),
        Text(
            "Your file stays plain SQLite: open it with anything, leave any day. Threads instead of asyncio: "
            "millpond.sync.Database, the same methods."
        ),
    ]


def _again(outcome: Outcome) -> str:
    settings = outcome.settings
    words = ["millpond demo"]
    if outcome.data is not None:
        words.append(f"--data {quote(outcome.data)}")
    else:
        words.append(f"--seed {settings['seed']}")
    for name, usual in (("workers", 25), ("seconds", 8.0), ("processes", 1)):
        if settings[name] != usual:
            words.append(f"--{name} {settings[name]:g}")
    if settings["sqlite3"] == "tuned":
        words.append("--tuned")
        other = ""
    else:
        other = "  With WAL, a long timeout and BEGIN IMMEDIATE in sqlite3: add --tuned."
    kept = f"  The databases are in {outcome.folder}." if outcome.folder else ""
    return f"Again: {' '.join(words)}.{other}{kept}"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / 1000:,.2f} s" if value >= 1000 else f"{value:,.1f} ms"


def _share(part: int, whole: int) -> str:
    if not part or not whole:
        return "0 %"
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %"


def _times(ratio: float) -> str:
    return f"{ratio:.0f} times" if ratio >= 9.95 else f"{ratio:.1f} times"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


Show = Callable[[float | None], str]

_TIMES: tuple[tuple[str, Callable[[SideOutcome], float | None]], ...] = (
    ("time of an event: average", lambda side: side.mean_ms),
    ("time of an event: P50", lambda side: side.p50_ms),
    ("time of an event: P95", lambda side: side.p95_ms),
    ("time of an event: P99", lambda side: side.p99_ms),
    ("slowest event", lambda side: side.max_ms),
)

_PROOFS: tuple[tuple[str, Callable[[Verified], str], Callable[[Verified], bool]], ...] = (
    ("events acknowledged", lambda file: f"{file.acknowledged:,}", lambda file: file.acknowledged > 0),
    ("found again in the file", lambda file: f"{file.found:,}", lambda file: file.lost == 0),
    ("lost", lambda file: f"{file.lost:,}", lambda file: file.lost == 0),
    ("failed, but in the file", lambda file: f"{file.failed_but_stored:,}", lambda file: file.failed_but_stored == 0),
    ("balances (xp, messages)", _balances, lambda file: file.consistent),
    ("integrity_check", lambda file: file.integrity_check[:24], lambda file: file.integrity_check == "ok"),
)
