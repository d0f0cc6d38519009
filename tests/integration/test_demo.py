"""The demonstration as it is run: processes, files, Ctrl-C."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from random import Random

import jsonschema
import pytest

from millpond import Database
from millpond.cli.documents import json_schema
from millpond.demo import conduct as conducting
from millpond.demo import millpond_side, sqlite3_side
from millpond.demo.chat import Event
from millpond.demo.conduct import DemoFailed, Phase, Plan, Progress, conduct, filesystem_of
from millpond.demo.feed import Feed
from millpond.demo.generated import generate
from millpond.demo.ledger import Ledger
from millpond.demo.side import Assignment, perform

LOG = "date\ttime\tevent\tuser\ttext\n" + "".join(
    f"2004-12-25\t09:{n % 60:02}\tmessage\tuser{n * n % 40}\thello {n}\n" for n in range(300)
)
COMMAND = [sys.executable, "-m", "millpond", "demo", "--workers", "5"]


def quiet(_: Progress) -> None:
    return


def test_both_parts_run_and_are_verified(tmp_path: Path) -> None:
    told: list[Progress] = []
    outcome = conduct(Plan(workers=5, seconds=0.5, seed=1, keep=tmp_path), told.append)
    assert outcome.good, outcome.document()
    assert outcome.before is not None
    assert outcome.after is not None
    assert outcome.before.verified.good
    assert 0 < outcome.before.ops <= outcome.before.verified.acknowledged
    assert 0 < outcome.after.ops <= outcome.after.verified.acknowledged
    assert outcome.after.seconds == pytest.approx(0.5)
    assert outcome.after.late_p99_ms is not None
    assert [phase for phase in Phase if any(one.phase is phase for one in told)] == list(Phase)
    jsonschema.validate(outcome.document(), json_schema("demo"))
    with closing(sqlite3.connect(tmp_path / "millpond" / "bot.db")) as file:
        assert file.execute("SELECT count(*) FROM message").fetchone() == (outcome.after.verified.messages,)


def test_a_log_is_replayed_by_several_processes_on_one_file(tmp_path: Path) -> None:
    log = tmp_path / "chat.tsv.gz"
    log.write_bytes(gzip.compress(LOG.encode()))
    outcome = conduct(Plan(workers=6, seconds=0.5, processes=3, data=log, tuned=True), quiet)
    assert outcome.good, outcome.document()
    assert outcome.after is not None
    assert outcome.after.processes == 3
    assert outcome.settings["data"] == "chat.tsv.gz"
    assert outcome.settings["sqlite3"] == "tuned"


def test_a_passing_folder_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conducting.tempfile, "tempdir", str(tmp_path))
    conduct(Plan(workers=2, seconds=0.1), quiet)
    assert list(tmp_path.iterdir()) == []


def test_a_bots_own_modules_do_not_get_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "random.py").write_text("raise ImportError('mine')")
    monkeypatch.chdir(tmp_path)
    assert conduct(Plan(workers=2, seconds=0.1), quiet).good


def test_a_bad_log_is_told_and_nothing_is_left_running(tmp_path: Path) -> None:
    log = tmp_path / "chat.tsv.gz"
    log.write_bytes(b"no log")
    process = subprocess.run([*COMMAND, "--data", str(log)], capture_output=True, text=True, check=False)
    assert process.returncode == 3
    assert process.stdout == ""
    assert "chat.tsv.gz: not a gzipped" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize("hears", [True, False], ids=["after the order", "before the order"])
def test_a_part_that_breaks_off_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch, hears: bool) -> None:
    heard = "input(); " if hears else ""
    broken = [
        sys.executable,
        "-c",
        f"import sys; print('{{\"ready\": true}}', flush=True); {heard}sys.exit('it broke')",
    ]
    monkeypatch.setattr(conducting, "_command", lambda module, *_: broken)
    order = conducting._order

    def order_the_dead(process: subprocess.Popen[str], word: str) -> None:
        process.wait()
        order(process, word)

    if not hears:
        monkeypatch.setattr(conducting, "_order", order_the_dead)
    with pytest.raises(DemoFailed, match="the sqlite3 part broke off") as caught:
        conduct(Plan(workers=2, seconds=0.1), quiet)
    assert caught.value.detail == "it broke"


def test_a_part_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hung = [sys.executable, "-c", "print('{\"ready\": true}', flush=True); import threading; threading.Event().wait()"]
    monkeypatch.setattr(conducting, "_command", lambda module, *_: hung)
    monkeypatch.setattr(conducting, "_END_LIMIT_S", 0.2)
    with pytest.raises(DemoFailed, match="did not answer in time"):
        conduct(Plan(workers=2, seconds=0.1), quiet)


@pytest.fixture
def running() -> Iterator[subprocess.Popen[str]]:
    """A demonstration of a minute, under way."""
    command = [*COMMAND, "--seconds", "60", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "before: sqlite3" in line:
                break
        yield process
        process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_gives_the_result_so_far(running: subprocess.Popen[str], number: int, code: int) -> None:
    running.send_signal(number)
    out, _ = running.communicate(timeout=40)
    assert running.returncode == code
    document = json.loads(out)
    jsonschema.validate(document, json_schema("demo"))
    assert document["interrupted"]
    (row,) = document["rows"]
    assert row["system"] == "sqlite3"
    assert 0 < row["seconds"] < 60
    assert row["ops"] > 0
    assert row["lost"] == 0


def test_a_killed_demonstration_leaves_no_process_behind(running: subprocess.Popen[str]) -> None:
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    if not children.exists():
        pytest.skip("this system does not list a process's children")
    (child,) = map(int, children.read_text().split())
    watched = os.pidfd_open(child)
    running.kill()
    with os.fdopen(watched):
        ended = threading.Event()

        async def wait_for_end() -> None:
            gone = asyncio.Event()
            asyncio.get_running_loop().add_reader(watched, gone.set)
            await asyncio.wait_for(gone.wait(), 30)
            ended.set()

        asyncio.run(wait_for_end())
        assert ended.is_set()


@pytest.mark.parametrize("system", ["sqlite3", "millpond"])
def test_a_side_obeys_and_answers(system: str, tmp_path: Path) -> None:
    answers = io.StringIO()
    assignment = Assignment(system, str(tmp_path / "bot.db"), str(tmp_path / "book"), workers=3, seconds=0.2, seed=1)
    read, write = os.pipe()
    with os.fdopen(read) as orders, os.fdopen(write, "w") as parent:
        parent.write("go\n")
        parent.flush()
        perform(assignment, orders, answers)
    said = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert said[0] == {"ready": True}
    assert said[-1]["done"]
    assert said[-1]["ops"] > 0
    assert said[-1]["seconds"] == pytest.approx(0.2)
    assert (said[-1]["late_p99_ms"] is None) == (system == "sqlite3")


@pytest.mark.parametrize("system", ["sqlite3", "millpond"])
def test_a_side_without_a_parent_stops_at_once(system: str, tmp_path: Path) -> None:
    answers = io.StringIO()
    assignment = Assignment(system, str(tmp_path / "bot.db"), str(tmp_path / "book"), workers=3, seconds=60, seed=1)
    perform(assignment, io.StringIO(""), answers)
    assert json.loads(answers.getvalue().splitlines()[-1])["ops"] == 0


async def test_both_sides_leave_the_same_rows_behind(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "millpond.db", tmp_path / "sqlite3.db"
    events = list(islice(generate(Random(3)), 1200))
    await millpond_side.prepare(str(ours))
    async with Database(ours) as db:
        for event in events:
            await millpond_side.handle(db, event)
    sqlite3_side.prepare(str(theirs), sqlite3_side.DEFAULTS)
    with closing(sqlite3.connect(theirs)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for event in events:
            sqlite3_side.handle(connection, event, "BEGIN")
    # The one is closed and the other was opened by sqlite3 from the start.
    dumps = []
    for path in (ours, theirs):
        with closing(sqlite3.connect(path)) as file:
            dumps.append(list(file.iterdump()))
    assert dumps[0] == dumps[1]


def test_a_worker_that_cannot_open_the_file_ends_the_side(tmp_path: Path) -> None:
    feed = Feed(generate(Random(1)), lambda: 0.0)
    ledger = Ledger(io.BytesIO(), lambda: 0.0)
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        sqlite3_side.work(str(tmp_path), sqlite3_side.DEFAULTS, 3, feed, ledger, lambda: None, 1.0)


def breaking_off() -> Iterator[Event]:
    yield from islice(generate(Random(1)), 5)
    raise OSError("the log is gone")


def test_a_log_that_goes_away_ends_either_side(tmp_path: Path) -> None:
    with (tmp_path / "book").open("wb") as file:
        for number, run in enumerate(("sqlite3", "millpond")):
            path = str(tmp_path / f"{number}.db")
            feed, ledger = Feed(breaking_off(), lambda: 0.0), Ledger(file, lambda: 0.0)
            if run == "sqlite3":
                sqlite3_side.prepare(path, sqlite3_side.DEFAULTS)
                with pytest.raises(OSError, match="the log is gone"):
                    sqlite3_side.work(path, sqlite3_side.DEFAULTS, 3, feed, ledger, lambda: None, 5.0)
            else:
                asyncio.run(millpond_side.prepare(path))
                with pytest.raises(OSError, match="the log is gone"):
                    asyncio.run(millpond_side.work(path, 3, feed, ledger, lambda: None, 5.0))


def test_the_file_system_is_named_where_the_system_tells_it(tmp_path: Path) -> None:
    named = filesystem_of(tmp_path / "not" / "there" / "yet")
    assert (named is not None) == Path("/proc/self/mounts").exists()
