"""The crash harness: a few lives of files, and the lies that its checker must find."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from random import Random

import apsw
import pytest

from tests.torture.case import Broken, Case
from tests.torture.crash import life as living
from tests.torture.crash.ledger import CopySeen, Ledger, Seen
from tests.torture.crash.life import Lived
from tests.torture.crash.plan import POINTS, Death, Life, Point, draw
from tests.torture.crash.tokens import EACH, INSERT, row, rows, sort_out
from tests.torture.crash.zygote import Zygote
from tests.torture.parts import crash
from tests.waiting import IN_TIME_S

SETTINGS = {"checkpoint_pages": 10, "wal_limit_bytes": 2**16, "quiet_s": 0.05}


@pytest.mark.parametrize("number", [0, 1])
def test_what_was_acknowledged_survives_kills(number: int, tmp_path: Path) -> None:
    assert crash.run(Case(number, 1, tmp_path), serves_s=IN_TIME_S)["kills"] >= 8


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3, 5, 7])
def test_what_was_acknowledged_survives_more_kills(number: int, tmp_path: Path) -> None:
    assert crash.run(Case(number, 1, tmp_path))["kills"] >= 8


def test_a_whole_run_comes_to_all_places_several_times() -> None:
    lives = [draw(number, Case(number, 1, Path()).random) for number in range(crash.GOAL // 14)]
    planned = [death.point.name for life in lives for death in life.deaths if death.point is not None]
    assert {point.name for point in POINTS if planned.count(point.name) < 3} == set()
    assert {(life.threads, life.processes) for life in lives} == {(t, p) for t in (False, True) for p in (1, 2, 3)}
    assert {life.start for life in lives} == {"new", "rollback", "hot"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crash")


@pytest.fixture(scope="module")
def zygote(folder: Path) -> Iterator[Zygote]:
    with Zygote(folder / "stderr.txt") as zygote:
        yield zygote


def _life(point: Point | None, *, hit: int = 1, settings: Mapping[str, object] = SETTINGS) -> Life:
    death = Death(point, hit, torn=False, after_s=0.1, everybody=True, again=0, leaves=True, migrates=True)
    return Life("new", 1, threads=False, page_size=4096, settings=dict(settings), deaths=(death,))


@pytest.fixture(scope="module")
def lived(folder: Path, zygote: Zygote) -> Lived:
    """A process has written some, and made a backup, and was killed after a second one."""
    lived = Lived(_life(Point("after a backup appeared", 9, copies=True), hit=3), folder, Random(1), zygote, IN_TIME_S)
    lived.run()
    return lived


def _sql(sql: str) -> Callable[[Path], None]:
    def lie(path: Path) -> None:
        db = apsw.Connection(str(path))
        with db:
            db.execute(sql)
        assert db.total_changes(), "the lie has changed nothing"
        db.close()

    return lie


def _damage(path: Path) -> None:
    db = apsw.Connection(str(path))
    root: int = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'entry_token'").get
    size: int = db.pragma("page_size")
    db.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\x0d" * 100)


def _truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


ONE_OF_SEVERAL = "(SELECT token FROM entry WHERE parts > 1 ORDER BY token LIMIT 1)"
COLUMNS = "token, part, parts, size, body"
LIES: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "an acknowledged write is gone": (
        _sql(f"DELETE FROM entry WHERE token = {ONE_OF_SEVERAL}"), "", r"acknowledged, and none of its \d+ rows",
    ),
    "half a transaction": (
        _sql(f"DELETE FROM entry WHERE part = 1 AND token = {ONE_OF_SEVERAL}"), "", "some are missing",
    ),
    "the end of a transaction is gone": (
        _sql(f"DELETE FROM entry WHERE part = parts - 1 AND token = {ONE_OF_SEVERAL}"), "", r"\d+ rows of \{\d+\}",
    ),
    "a row twice": (
        _sql(f"INSERT INTO entry ({COLUMNS}) SELECT {COLUMNS} FROM entry WHERE token = {ONE_OF_SEVERAL} LIMIT 1"),
        "", "some are there twice",
    ),
    "a write twice": (
        _sql(f"INSERT INTO entry ({COLUMNS}) SELECT {COLUMNS} FROM entry WHERE token = {ONE_OF_SEVERAL}"),
        "", "some are there twice",
    ),
    "a torn row": (_sql("UPDATE entry SET body = substr(body, 2) WHERE id = 1"), "", "not what was written"),
    "a write of nobody's": (_sql(f"INSERT INTO entry ({COLUMNS}) VALUES (99, 0, 1, 0, '')"), "", "nobody wrote it"),
    "counted, and not there": (_sql("UPDATE tally SET writes = writes + 1 WHERE process = 1"), "", "were counted"),
    "half a transfer": (_sql("UPDATE account SET balance = balance + 1 WHERE id = 1"), "", "half a transfer"),
    "a damaged page": (_damage, "", "integrity_check|DatabaseCorrupt"),
    "a backup without what was acknowledged before it": (
        _sql("DELETE FROM entry"), ".copy0", "was acknowledged before it, and is missing",
    ),
    "half a transaction in a backup": (
        _sql(f"DELETE FROM entry WHERE part = 1 AND token = {ONE_OF_SEVERAL}"), ".copy0", "backup .*some are missing",
    ),
    "a backup that is not whole": (_truncate, ".copy0", r"backup \S+: .*(Corrupt|NotADB|malformed|invalid page)"),
    "a backup that is gone": (Path.unlink, ".copy0", "acknowledged and is not there"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIES)
def test_a_lie_in_the_file_is_found(name: str, lived: Lived, folder: Path, tmp_path: Path) -> None:
    lie, suffix, words = LIES[name]
    files = [folder / "a.db", folder / "a.db.copy0"]
    kept = deepcopy(lived.ledger)
    for file in files:
        shutil.copy(file, tmp_path)
    try:
        lie(folder / f"a.db{suffix}")
        with pytest.raises(Broken, match=words):
            lived.check(leaves=True)
    finally:
        lived.ledger = kept
        for file in files:
            for rest in ("-wal", "-shm", "-gate"):
                Path(f"{file}{rest}").unlink(missing_ok=True)
            shutil.copy(tmp_path / file.name, file)


def test_without_a_lie_nothing_is_found(lived: Lived) -> None:
    lived.check(leaves=True)


def test_a_place_that_is_not_reached_is_a_failure(
    tmp_path: Path, zygote: Zygote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(living, "REACHED_S", 0.1)
    with pytest.raises(Broken, match="'nowhere' was not reached"):
        Lived(_life(Point("nowhere", 1)), tmp_path, Random(1), zygote, IN_TIME_S).run()


def test_an_error_of_a_process_is_a_failure(tmp_path: Path, zygote: Zygote) -> None:
    life = _life(None, settings={"durability": "sometimes"})
    with pytest.raises(Broken, match="met an error: load: SettingsError"):
        Lived(life, tmp_path, Random(1), zygote, IN_TIME_S).run()


def _seen(ledger: Ledger, counts: dict[int, int]) -> list[str]:
    tally: dict[int, int] = {}
    for token in counts:
        tally[token // EACH] = tally.get(token // EACH, 0) + 1
    return ledger.judge(Seen("ok", counts, {}, tally, 0))


@pytest.fixture
def ledger() -> Ledger:
    """Of process 1: an acknowledged write, one without an answer, one in slices, one that was rolled back."""
    ledger = Ledger()
    for token, parts in ((0, 3), (1, 3), (2, 100), (3, 2)):
        ledger.intends(EACH + token, parts, sliced=token == 2)
    ledger.did(EACH)
    ledger.undid(EACH + 3)
    return ledger


@pytest.mark.parametrize("unanswered", [0, 3])
@pytest.mark.parametrize("sliced", [0, 1, 57, 100])
def test_what_had_no_answer_is_in_or_out(ledger: Ledger, unanswered: int, sliced: int) -> None:
    counts = {token: number for token, number in ((EACH, 3), (EACH + 1, unanswered), (EACH + 2, sliced)) if number}
    assert _seen(ledger, counts) == []


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({}, "acknowledged, and none of its 3 rows is there"),
        ({EACH: 3, EACH + 1: 2}, "2 rows, where there may be 0, 3"),
        ({EACH: 3, EACH + 2: 101}, "101 rows"),
        ({EACH: 3, EACH + 3: 2}, "2 rows of what was rolled back or deleted"),
        ({EACH: 3, EACH + 4: 1}, "nobody wrote it"),
    ],
)
def test_the_ledger_finds(ledger: Ledger, counts: dict[int, int], words: str) -> None:
    assert words in "; ".join(_seen(ledger, counts))


def test_what_was_found_once_holds_from_then_on(ledger: Ledger) -> None:
    seen = Seen("ok", {EACH: 3, EACH + 2: 57}, {}, {1: 2}, 0)
    assert ledger.judge(seen) == []
    assert ledger.settle(set(), seen) == (1, 1)
    assert ledger.judge(seen) == []
    assert _seen(ledger, {EACH: 3, EACH + 1: 3, EACH + 2: 57})
    assert _seen(ledger, {EACH: 3, EACH + 2: 58})


def test_of_the_living_nothing_is_settled(ledger: Ledger) -> None:
    seen = Seen("ok", {EACH: 3}, {}, {1: 1}, 0)
    ledger.settle({1}, seen)
    assert _seen(ledger, {EACH: 3, EACH + 1: 3}) == []


def test_a_check_beside_others_may_see_any_moment_of_it(ledger: Ledger) -> None:
    ledger.open_window()
    ledger.did(EACH + 1)
    ledger.deletes(EACH)
    ledger.deleted(EACH)
    assert _seen(ledger, {EACH: 3}) == []
    assert _seen(ledger, {EACH: 3, EACH + 1: 3}), "the window is over: what was deleted is gone"
    assert _seen(ledger, {EACH + 1: 3}) == []


def test_a_backup_has_what_was_acknowledged_before_it_unless_it_was_deleted(ledger: Ledger) -> None:
    ledger.copies("copy", 1)
    assert ledger.judge(Seen("ok", {EACH: 3}, {}, {1: 1}, 0, {"copy": None})) == []
    ledger.copied("copy")
    for copy, words in ((None, "is not there"), (CopySeen("ok"), "is missing"), (CopySeen("NotADB"), "NotADB")):
        assert words in "; ".join(ledger.judge(Seen("ok", {EACH: 3}, {}, {1: 1}, 0, {"copy": copy})))
    ledger.deletes(EACH)
    assert ledger.judge(Seen("ok", {EACH: 3}, {}, {1: 1}, 0, {"copy": CopySeen("ok")})) == []


def test_a_backup_without_an_answer_may_be_the_one_that_is_there(ledger: Ledger) -> None:
    ledger.copies("copy", 1)
    ledger.did(EACH + 1)
    ledger.copies("copy", 1)
    seen = Seen("ok", {EACH: 3, EACH + 1: 3}, {}, {1: 2}, 0)
    for there in (None, CopySeen("ok", {EACH: 3}), CopySeen("ok", {EACH: 3, EACH + 1: 3})):
        seen.copies = {"copy": there}
        assert ledger.judge(seen) == []
    ledger.copied("copy")
    seen.copies = {"copy": CopySeen("ok", {EACH: 3})}
    assert ledger.judge(seen) == [f"backup copy: token {EACH + 1} was acknowledged before it, and is missing"]


def test_rows_are_sorted_out_by_their_token() -> None:
    good = [*rows(1, 3, 50), *rows(2, 9, 50, sliced=True)]
    assert sort_out(good) == ({1: 3, 2: 9}, {})
    assert sort_out(good[:-4]) == ({1: 3, 2: 5}, {}), "the beginning of what came in slices"
    assert set(sort_out(good[1:])[1]) == set(sort_out([good[1], *good])[1]) == {1}
    assert set(sort_out([*good[:2], *good[3:]])[1]) == {1}, "it says of itself that it has three rows"
    assert set(sort_out([*good, (3, 0, 1, 50, "text")])[1]) == {3}
    assert INSERT.count("?") == len(row(1, 0, 1, 1))
