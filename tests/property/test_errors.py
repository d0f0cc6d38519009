"""Laws of the texts: one short printable line whatever the names are, and never a literal of the statement."""

from __future__ import annotations

import pickle
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from millpond import errors, messages
from millpond.engine.sqlite.files import FileFacts
from millpond.engine.sqlite.translate import translate, translate_open
from millpond.errors import Error, Holder
from millpond.messages import LINE

names = st.one_of(st.text(max_size=300), st.text("ab1 \n'\"\x1b\ud800漢", max_size=300))
"""Anything: programs, files, places, statements."""

long_names = st.one_of(names, st.integers(1, 300).map("n".__mul__))
seconds = st.floats(0, 1e7)
counts = st.integers(0, 10**9)
maybe_names = st.none() | long_names
holders = st.builds(
    Holder, pid=st.none() | st.integers(1, 2**31), program=maybe_names, held_s=st.none() | seconds, place=maybe_names,
    ours=st.booleans(),
)  # fmt: skip
applied = st.sampled_from([None, "no", "yes", "unknown"])


def holds(error: Error) -> None:
    """What must hold of every error's text."""
    line = str(error)
    assert line
    assert len(line) <= LINE
    assert line.isprintable()
    assert not line.endswith("\n")
    assert pickle.loads(pickle.dumps(error)).__notes__ == error.__notes__


@given(
    st.fixed_dictionaries(
        {
            "sql": long_names, "waited_s": seconds, "file": long_names, "holder": holders, "behind": counts,
            "oldest_s": seconds, "task": maybe_names, "statements": counts, "last_statement_s": seconds,
            "awaiting": maybe_names,
        }
    )
)  # fmt: skip
def test_a_lock_timeout_is_one_short_line(facts: dict[str, Any]) -> None:
    error = messages.lock_timeout(**facts)
    holds(error)
    if error.holder is not None and error.holder.pid is not None and not error.holder.ours:
        assert f"pid {error.holder.pid}" in str(error)


@given(long_names, st.integers(1, 2**31), seconds)
def test_the_holder_is_never_cut_off(name: str, pid: int, held_s: float) -> None:
    holder = Holder(pid=pid, program=name, held_s=held_s)
    error = messages.lock_timeout(sql=name, waited_s=5.0, file=name, holder=holder, behind=1, oldest_s=1.0)
    if held_s < 1e6:
        assert str(error).endswith(f" for {held_s:.1f} s")


@given(long_names, seconds, seconds, seconds, seconds, maybe_names, applied)
def test_a_deadline_is_one_short_line(
    sql: str, timeout_s: float, queue_s: float, lock_s: float, running_s: float, detail: str | None, known: Any
) -> None:
    holds(
        messages.deadline_exceeded(
            sql=sql, timeout_s=timeout_s, queue_s=queue_s, lock_s=lock_s, running_s=running_s, detail=detail,
            applied=known,
        )
    )  # fmt: skip


@given(long_names, long_names, long_names, maybe_names, seconds, counts, st.booleans())
def test_each_other_builder_gives_one_short_line(
    first: str, second: str, third: str, perhaps: str | None, time_s: float, count: int, flag: bool
) -> None:
    for error in (
        messages.overloaded(
            sql=first, waiting=count, limit_name="max_queue", oldest_s=time_s, retry_after=time_s, write=flag
        ),
        messages.would_wait_for_itself(call="execute_many", opened=first, here=perhaps),
        messages.lease_expired(
            opened=first, held_s=time_s, limit_s=time_s, statements=count, waited_writes=count, awaiting=perhaps
        ),
        messages.transaction_control(first, second),
        messages.transaction_lost(opened=perhaps, cause_sql=second, cause=perhaps, shared=flag),
        messages.database_closed(first, perhaps, time_s if flag else None),
        messages.wrong_loop(first, count),
        messages.forked(count, count),
        messages.engine_conflict(first, second, "3.54.1", perhaps),
        messages.missing_extra(first, third),
    ):
        holds(error)


@given(st.sampled_from(sorted(errors.__all__)), long_names, maybe_names, maybe_names, applied, holders)
def test_every_error_survives_pickling(
    name: str, sql: str, detail: str | None, hint: str | None, known: Any, holder: Holder
) -> None:
    kind = getattr(errors, name)
    if not (isinstance(kind, type) and issubclass(kind, Error)):
        return
    error = kind("x", sql=sql, detail=detail, hint=hint, applied=known, holder=holder, path=sql)
    again = pickle.loads(pickle.dumps(error))
    assert (again.args, again.sql, again.applied, again.holder, again.path) == (("x",), sql, known, holder, sql)
    assert again.__notes__ == error.__notes__


# Literals

SECRET = "hidden"
literals = st.sampled_from(
    [
        f"'{SECRET}'", f"'a''{SECRET}'", f"'-- {SECRET}'", f"'/* {SECRET}'", f"'\"{SECRET}'", f"'[{SECRET}'",
        f"'\n{SECRET}'", f"'`{SECRET}'", f"'?{SECRET}'",
    ]
)  # fmt: skip
bits = st.sampled_from(
    [
        " SELECT ", " a, ", "t1.b", " = ", "(", ")", ", ", "\n", " -- it's\n", " /* don't */ ", ' "a\'b" ', " `c'd` ",
        " [e f] ", " ?1 ", " :name ", " 12 ", " 1.5e-3 ", " x'00' ", " [ ", " ; ", " $x ", " || ", "-", "/", "*",
    ]
)  # fmt: skip


@given(st.lists(st.tuples(bits, literals)), st.integers(4, 10_000))
def test_a_literal_is_never_shown(pieces: list[tuple[str, str]], length: int) -> None:
    # A bit that opens a comment or a name together with its neighbours would be another statement: spaces part them.
    sql = " ".join(f" {bit} {literal} " for bit, literal in pieces)
    text = messages.clip(sql, length)
    assert SECRET not in text
    assert len(text) <= max(length, 4)


@given(st.text("x, ()", max_size=6_000), literals)
def test_a_literal_that_is_cut_off_is_not_shown_either(before: str, literal: str) -> None:
    assert SECRET not in messages.clip(before + literal, 10_000)
    assert SECRET not in messages.clip(before + literal.rstrip("'"), 10_000)


@given(long_names, st.integers(5, 200))
def test_a_shortened_name_has_its_length_and_its_ends(name: str, length: int) -> None:
    short = messages.shorten(name, length)
    assert len(short) <= length
    assert short.isprintable()


# What comes from SQLite

facts = st.builds(
    FileFacts, name=long_names, folder=long_names, exists=st.booleans(), folder_exists=st.booleans(),
    folder_writable=st.booleans(), writable=st.booleans(), free_bytes=st.none() | counts,
    total_bytes=st.none() | counts, read_only_mount=st.booleans(),
)  # fmt: skip


def _raised(kind: type[BaseException], text: str, code: int) -> BaseException:
    exc = kind(text)
    exc.extendedresult = code  # type: ignore[attr-defined]  # as apsw sets it
    return exc


_KINDS = [
    kind
    for kind in vars(__import__("apsw")).values()
    if isinstance(kind, type) and issubclass(kind, Exception) and kind.__init__ is Exception.__init__
]
texts = st.one_of(
    names,
    st.builds(
        lambda form, name: form.format(name),
        st.sampled_from(
            [
                "no such table: {}", "no such column: {}", "table t has no column named {}", 'near "{}": syntax error',
                'unrecognized token: "{}"', "UNIQUE constraint failed: {}", "UNIQUE constraint failed: index '{}'",
                "NOT NULL constraint failed: {}", "CHECK constraint failed: {}", "FOREIGN KEY constraint failed",
                "table {} already exists", "unable to open database: {}",
            ]
        ),
        long_names,
    ),
)  # fmt: skip


codes = st.sampled_from([1, 13, 275, 778, 787, 1299, 1811, 2067, 3091])


class Names:
    """A schema with one name for everything."""

    def __init__(self, name: str) -> None:
        self.name = name

    def tables(self) -> list[str]:
        return [self.name]

    def columns(self, _table: str) -> list[str]:
        return [self.name]


@given(st.sampled_from(_KINDS), texts, codes, maybe_names, facts, long_names, st.integers(0, 40))
def test_whatever_sqlite_says_becomes_one_short_line(
    kind: type[BaseException], text: str, code: int, sql: str | None, seen: FileFacts, name: str, errno: int
) -> None:
    exc = _raised(kind, text, code)
    error = translate(exc, sql=sql, schema=Names(name), path=name, files=lambda: seen, errno=errno)
    holds(error)
    assert (error.sql, error.path, error.extended_code) == (sql, name, code)


@given(st.sampled_from(_KINDS), texts, facts, st.binary(max_size=100))
def test_whatever_fails_at_opening_becomes_one_short_line(
    kind: type[BaseException], text: str, seen: FileFacts, header: bytes
) -> None:
    holds(translate_open(_raised(kind, text, 14), "/srv/bot.db", files=lambda: seen, header=header))
