"""Errors: their families, notes and pickles; their texts, one by one; and their page in both languages."""

from __future__ import annotations

import copy
import logging
import pickle
import re
import traceback
import warnings
from pathlib import Path

import pytest

import millpond
from millpond import errors, messages
from millpond.errors import Error, Holder

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (DOCS / "reference" / "errors.md", DOCS / "zh-TW" / "reference" / "errors.md")

SIMPLIFIED_OR_MAINLAND = ("數據庫", "線程", "默認", "內存", "隊列", "事務", "数据", "连接", "信息", "文件夾")
"""Words that Taiwan does not use for these things."""


def kinds() -> list[type[Error]]:
    """All classes of errors, bases included."""
    found = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Error)]
    assert len(found) > 30
    return found


def foreign() -> Holder:
    return Holder(pid=4711, program="python nightly_report.py", held_s=7.2)


def own() -> Holder:
    return Holder(pid=4000, held_s=4.8, place="bot.py:212 in award()", ours=True)


def examples() -> dict[str, Error]:
    """One error of each builder, as the reference prints it."""
    insert = "INSERT INTO message(author, body)\n   VALUES (7, 'hi')"
    return {
        "lock-timeout": messages.lock_timeout(
            sql=insert, waited_s=5, file="bot.db", holder=foreign(), behind=31, oldest_s=5
        ),
        "lock-timeout, unseen": messages.lock_timeout(
            sql=insert, waited_s=5, file="bot.db", holder=Holder(held_s=7.2), behind=1, oldest_s=5
        ),
        "lock-timeout, two databases": messages.lock_timeout(
            sql=insert, waited_s=5, file="bot.db", holder=Holder(pid=4711, ours=True), behind=2, oldest_s=5
        ),
        "held-by-own-code": messages.lock_timeout(
            sql="UPDATE user SET level = level + 1", waited_s=5, file="bot.db", holder=own(), behind=31, oldest_s=5,
            task="Task-88", statements=2, last_statement_s=4.7, awaiting="httpx.get",
        ),
        "deadline": messages.deadline_exceeded(
            sql="SELECT * FROM message", timeout_s=2, queue_s=1.62, lock_s=0, running_s=0.38, detail="4 lanes, 4 busy"
        ),
        "overloaded": messages.overloaded(
            sql=insert, waiting=10_000, limit_name="max_queue", oldest_s=1, retry_after=1.5, write=True
        ),
        "inside-transaction": messages.would_wait_for_itself(
            call="execute", here="bot.py:219 in award()", opened="bot.py:212 in award()"
        ),
        "lease-expired": messages.lease_expired(
            opened="bot.py:212 in award()", held_s=10, limit_s=10, statements=2, waited_writes=57, awaiting="httpx.get"
        ),
        "transaction-control": messages.transaction_control("BEGIN", "Use `async with db.transaction() as tx:`."),
        "transaction-lost": messages.transaction_lost(
            opened="bot.py:212 in award()", cause_sql="INSERT OR ROLLBACK INTO user VALUES (1)"
        ),
        "transaction-lost, shared": messages.transaction_lost(opened="bot.py:212 in award()", shared=True),
        "closed": messages.database_closed("bot.db", "main.py:31 in stop()", 2.1),
        "loop": messages.wrong_loop("conftest.py:9 in db()", 0x7F00A0),
        "forked": messages.forked(4000, 4711),
        "engine-conflict": messages.engine_conflict("bot.db", "apps.legacy, line 12", "3.54.1", "3.40.1"),
        "missing-extra": messages.missing_extra("the dashboard", "dashboard"),
    }  # fmt: skip


# Families


def test_the_families_are_those_of_pep_249() -> None:
    assert issubclass(errors.InterfaceError, Error)
    assert issubclass(errors.DatabaseError, Error)
    for kind in (
        errors.DataError, errors.OperationalError, errors.IntegrityError, errors.InternalError,
        errors.ProgrammingError, errors.NotSupportedError,
    ):  # fmt: skip
        assert issubclass(kind, errors.DatabaseError)
    assert not issubclass(errors.InterfaceError, errors.DatabaseError)
    assert not issubclass(errors.Warning, Error)


@pytest.mark.parametrize(
    ("kind", "parents"),
    [
        (errors.LockTimeout, (errors.OperationalError,)),
        (errors.DeadlineExceeded, (errors.OperationalError,)),
        (errors.Overloaded, (errors.OperationalError,)),
        (errors.DatabaseCorrupt, (errors.DatabaseError,)),
        (errors.SettingsError, (errors.InterfaceError, ValueError)),
        (errors.MissingExtra, (errors.InterfaceError, ImportError)),
        (errors.EngineConflict, (errors.OperationalError, UserWarning)),
        (errors.ParameterError, (errors.ProgrammingError,)),
        (errors.UniqueViolation, (errors.IntegrityError,)),
        (errors.WouldWaitForItself, (errors.InterfaceError,)),
    ],
)
def test_finer_classes_have_the_parents_that_callers_catch(kind: type, parents: tuple[type, ...]) -> None:
    assert all(issubclass(kind, parent) for parent in parents)


def test_all_classes_are_public() -> None:
    names = {kind.__name__ for kind in kinds()} | {"Warning", "Holder"}
    assert names <= set(errors.__all__)
    assert names <= set(millpond.__all__)


def test_each_class_says_in_one_line_what_it_means() -> None:
    for kind in kinds():
        assert kind.__doc__
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.code)
        if kind is not Error:
            assert "\n" not in kind.__doc__


def test_slugs_are_not_shared_but_by_the_two_that_mean_the_same() -> None:
    slugs = [kind.code for kind in kinds() if kind is not errors.NoSuchColumn]
    assert len(slugs) == len(set(slugs))
    assert errors.NoSuchColumn.code == errors.NoSuchTable.code


# Notes and attributes


def test_detail_hint_and_link_are_notes_and_not_in_the_line() -> None:
    error = errors.LockTimeout("primary", detail="facts", hint="what to do")
    assert str(error) == "primary"
    assert error.__notes__ == ["detail: facts", "hint: what to do", "see: docs/reference/errors.md#lock-timeout"]
    assert "hint: what to do" in "".join(traceback.format_exception(error))


def test_a_log_shows_the_notes(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise errors.LockTimeout("primary", hint="what to do")
    except Error:
        logging.getLogger(__name__).exception("failed")
    assert "hint: what to do" in caplog.text


def test_an_error_is_retryable_as_its_class_says_unless_told_otherwise() -> None:
    assert errors.LockTimeout("x").retryable
    assert not errors.LockTimeout("x", retryable=False).retryable
    assert errors.OperationalError("x", retryable=True).retryable
    assert not errors.UniqueViolation("x").retryable


def everything(kind: type[Error]) -> Error:
    return kind(
        "what failed", detail="facts", hint="do this", extended_code=2067, sql="INSERT INTO t VALUES (?)", waited=1.5,
        holder=foreign(), retryable=True, retry_after=0.5, applied="unknown", path="/srv/bot.db", see="finer",
    )  # fmt: skip


ATTRIBUTES = (
    "args", "code", "detail", "hint", "extended_code", "sql", "waited", "holder", "retryable", "retry_after", "applied",
    "path", "__notes__",
)  # fmt: skip


@pytest.mark.parametrize("kind", kinds())
def test_an_error_pickles_with_all_that_it_knows(kind: type[Error]) -> None:
    error = everything(kind)
    error.add_note("a note of the caller's")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))
        assert type(again) is kind
        assert str(again) == str(error) == "what failed"
        for name in ATTRIBUTES:
            assert getattr(again, name) == getattr(error, name), name


def test_a_copy_has_notes_of_its_own() -> None:
    error = everything(errors.MissingExtra)
    again = copy.copy(error)
    again.add_note("another")
    assert "another" not in error.__notes__
    assert again.path == "/srv/bot.db"


def test_missing_extra_is_an_import_error_like_any_other() -> None:
    with pytest.raises(ImportError, match=r"pip install 'millpond\[dashboard\]'") as caught:
        raise messages.missing_extra("the dashboard", "dashboard")
    assert caught.value.msg == str(caught.value)


def test_an_engine_conflict_can_be_warned() -> None:
    with pytest.warns(errors.EngineConflict, match="beside Millpond"):
        conflict = examples()["engine-conflict"]
        assert isinstance(conflict, errors.EngineConflict)
        warnings.warn(conflict, stacklevel=1)


# Texts


def test_each_primary_line_is_as_it_was_agreed() -> None:
    assert {name: str(error) for name, error in examples().items()} == {
        "lock-timeout": "INSERT INTO message(author, body) VALUES (?, ?) waited 5.00 s for the write lock of bot.db, "
        "held by pid 4711 (python nightly_report.py) for 7.2 s",
        "lock-timeout, unseen": "INSERT INTO message(author, body) VALUES (?, ?) waited 5.00 s for the write lock of "
        "bot.db, held by a process that cannot be seen from here for 7.2 s",
        "lock-timeout, two databases": "INSERT INTO message(author, body) VALUES (?, ?) waited 5.00 s for the write "
        "lock of bot.db, held by pid 4711",
        "held-by-own-code": "UPDATE user SET level = level + ? waited 5.00 s for the writer, held by "
        "bot.py:212 in award() for 4.8 s while it awaits httpx.get",
        "deadline": "SELECT * FROM message not done in 2.00 s: queue 1.62 s, lock 0.00 s, running 0.38 s",
        "overloaded": "INSERT INTO message(author, body) VALUES (?, ?) refused: 10,000 writes wait already (max_queue)",
        "inside-transaction": "db.execute(...) at bot.py:219 in award() inside the transaction opened at "
        "bot.py:212 in award()",
        "lease-expired": "transaction opened at bot.py:212 in award() was rolled back after 10.0 s (max_lease)",
        "transaction-control": "BEGIN typed by hand: the connection is shared, and transactions belong to blocks",
        "transaction-lost": "the transaction opened at bot.py:212 in award() was ended by a statement of its own: "
        "INSERT OR ROLLBACK INTO user VALUES (?)",
        "transaction-lost, shared": "the transaction opened at bot.py:212 in award() was undone with the batch that "
        "it shared",
        "closed": "bot.db is closed (closed at main.py:31 in stop(), 2.1 s ago)",
        "loop": "this Database belongs to event loop 0x7f00a0 (opened at conftest.py:9 in db()), called from another",
        "forked": "opened in pid 4000, used in 4711: a database does not survive a fork",
        "engine-conflict": "sqlite3 3.40.1 (module apps.legacy, line 12) has bot.db open in this process beside "
        "Millpond's SQLite 3.54.1",
        "missing-extra": "the dashboard needs: pip install 'millpond[dashboard]'",
    }


def test_each_builder_says_what_was_applied_and_what_to_do() -> None:
    for name, error in examples().items():
        if name not in ("deadline", "closed", "loop", "forked", "engine-conflict", "missing-extra"):
            assert error.applied == "no", name
        if name != "missing-extra":
            assert error.hint, name
        assert not str(error).endswith("."), name


def test_a_lock_timeout_carries_its_holder_for_programs() -> None:
    error = examples()["lock-timeout"]
    assert error.holder == foreign()
    assert error.waited == 5
    assert error.sql is not None
    assert error.sql.startswith("INSERT")
    assert (
        error.detail == "another process; 31 writes wait behind it, the oldest for 5.0 s. Not applied; safe to retry."
    )


def test_a_holder_in_another_container_is_not_called_a_pid() -> None:
    error = examples()["lock-timeout, unseen"]
    assert error.detail is not None
    assert "another container" in error.detail
    assert "1 write waits behind it" in error.detail


def test_ones_own_transaction_is_shown_with_task_statements_and_what_it_awaits() -> None:
    error = examples()["held-by-own-code"]
    assert error.detail == (
        'this process; task "Task-88"; the transaction has run 2 statements, the last 4.7 s ago; '
        "31 writes wait behind it, the oldest for 5.0 s. Not applied; safe to retry."
    )
    assert error.__notes__[-1] == "see: docs/reference/errors.md#held-by-own-code"
    assert error.code == "lock-timeout"


@pytest.mark.parametrize(
    ("spent", "words"),
    [((1.0, 0.1, 0.1), "the queue"), ((0.1, 1.0, 0.1), "another process's lock"), ((0.1, 0.1, 1.0), "running it")],
)
def test_a_deadline_says_what_took_most_of_the_time(spent: tuple[float, float, float], words: str) -> None:
    queue_s, lock_s, running_s = spent
    error = messages.deadline_exceeded(sql="SELECT 1", timeout_s=1, queue_s=queue_s, lock_s=lock_s, running_s=running_s)
    assert error.hint is not None
    assert words in error.hint
    assert error.waited == pytest.approx(1.2)


def test_a_deadline_says_whether_it_was_applied() -> None:
    late = {"sql": "INSERT INTO t", "timeout_s": 1.0, "queue_s": 1.0, "lock_s": 0.0, "running_s": 0.0}
    unknown = messages.deadline_exceeded(**late, applied="unknown")  # type: ignore[arg-type]  # see late
    assert "not known" in str(unknown.hint)
    refused = messages.deadline_exceeded(**late, applied="no", detail="1 waits.")  # type: ignore[arg-type]  # see late
    assert refused.detail == "1 waits. Not applied; safe to retry."


def test_a_read_that_is_refused_has_nothing_to_apply() -> None:
    error = messages.overloaded(
        sql="SELECT 1", waiting=1, limit_name="max_read_queue", oldest_s=1, retry_after=1, write=False
    )
    assert error.applied is None
    assert str(error) == "SELECT ? refused: 1 read waits already (max_read_queue)"


def test_names_and_numbers_of_lines_are_not_taken_for_data() -> None:
    error = messages.lease_expired(
        opened="bot.py:212 in v2()", held_s=1, limit_s=1, statements=1, waited_writes=1, awaiting=None
    )
    assert "bot.py:212 in v2()" in str(error)
    closed = messages.database_closed("backup-2026-11-24.db", None, None)
    assert str(closed) == "backup-2026-11-24.db is closed"


@pytest.mark.parametrize(
    ("sql", "clipped"),
    [
        ("SELECT *\n  FROM  t", "SELECT * FROM t"),
        ("SELECT 'it''s', 12, 1.5e3, .5, x'ab', 0xff", "SELECT ?, ?, ?, ?, ?, ?"),
        ("SELECT ?1, :a1, @b2, $c3, t1.b2", "SELECT ?1, :a1, @b2, $c3, t1.b2"),
        ('SELECT "a 12", `b 3`, [c 4] FROM t', 'SELECT "a 12", `b 3`, [c 4] FROM t'),
        ("SELECT 1 -- don't\n FROM t /* 'x */", "SELECT ? FROM t"),
        ("SELECT 'never closed", "SELECT ?"),
        ("SELECT 1 WHERE a IN ['hidden']", "SELECT ? WHERE a IN [?]"),
        ("SELECT\x1b[31m \ud800", "SELECT?[31m ?"),
        ("INSERT INTO message(author, body, sent, guild) VALUES", "INSERT INTO message(author, body, sent, guil ..."),
    ],
)
def test_a_statement_is_clipped_to_one_line_without_data(sql: str, clipped: str) -> None:
    assert messages.clip(sql) == clipped


def test_a_long_name_keeps_both_ends() -> None:
    assert messages.shorten("handlers_of_everything.py:212 in award_points()", 30) == "handlers_of_e...award_points()"
    assert messages.shorten("short", 30) == "short"


# The reference


@pytest.mark.parametrize("page", PAGES, ids=["en", "zh-TW"])
def test_each_class_has_its_section_under_its_slug(page: Path) -> None:
    sections = re.findall(r'^<a id="([a-z-]+)"></a>\n+#{2,3} (.+)$', page.read_text(encoding="utf-8"), re.MULTILINE)
    for kind in kinds():
        headings = [heading for slug, heading in sections if slug == kind.code]
        assert len(headings) == 1, kind
        assert kind.__name__ in headings[0]
    slugs = [slug for slug, _ in sections]
    assert len(slugs) == len(set(slugs))


def test_each_note_points_to_a_section() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in Path(errors.__file__).parent.rglob("*.py"))
    finer = set(re.findall(r'\bsee="([a-z-]+)"', source))
    assert finer
    for page in PAGES:
        anchors = set(re.findall(r'<a id="([a-z-]+)"></a>', page.read_text(encoding="utf-8")))
        assert finer <= anchors


def test_both_pages_have_the_same_sections_in_the_same_order() -> None:
    english, chinese = (re.findall(r'<a id="([a-z-]+)"></a>', page.read_text(encoding="utf-8")) for page in PAGES)
    assert english == chinese


@pytest.mark.parametrize("page", PAGES, ids=["en", "zh-TW"])
def test_the_reference_prints_what_is_raised(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name, error in examples().items():
        assert f"{type(error).__name__}: {error}" in text, name


@pytest.mark.parametrize("page", PAGES, ids=["en", "zh-TW"])
def test_links_inside_the_page_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= set(re.findall(r'<a id="([a-z-]+)"></a>', text))


def test_the_chinese_page_has_the_words_of_taiwan() -> None:
    text = PAGES[1].read_text(encoding="utf-8")
    assert [word for word in SIMPLIFIED_OR_MAINLAND if word in text] == []
