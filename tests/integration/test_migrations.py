"""`db.migrate(folder)`, on real files."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import millpond
import millpond.sync
from millpond import Database, Migration, MigrationError

USER = "CREATE TABLE user(id INTEGER PRIMARY KEY, name TEXT UNIQUE);\nINSERT INTO user(name) VALUES ('ann');\n"
TAGS = """
def migrate(tx):
    tx.execute('CREATE TABLE tag(name TEXT)')
    tx.execute('INSERT INTO tag VALUES (?)', ('a',))
"""
RAISES = """
def migrate(tx):
    tx.execute('CREATE TABLE x(a)')
    raise LookupError('why')
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "migrations"
    path.mkdir()
    (path / "0001_user.sql").write_text(USER)
    (path / "0002_tags.py").write_text(TAGS)
    return path


async def test_each_is_applied_once_and_recorded(db_path: str, folder: Path) -> None:
    async with Database(db_path) as db:
        assert await db.migrate(folder) == [
            Migration(1, "0001_user.sql", str(folder / "0001_user.sql")),
            Migration(2, "0002_tags.py", str(folder / "0002_tags.py")),
        ]
        assert await db.migrate(folder) == []
        assert await db.fetch_all("SELECT name FROM user UNION ALL SELECT name FROM tag") == [("ann",), ("a",)]
        rows = await db.fetch_all(
            "SELECT number, name, length(sha256), applied_at LIKE '20__-%Z' FROM millpond_migration"
        )
        assert rows == [(1, "0001_user.sql", 64, 1), (2, "0002_tags.py", 64, 1)]
        (folder / "0003_more.sql").write_text("INSERT INTO tag VALUES ('b')")
        assert [one.number for one in await db.migrate(str(folder))] == [3]


def test_the_synchronous_twin(db_path: str, folder: Path) -> None:
    with millpond.sync.Database(db_path) as db:
        assert [one.name for one in db.migrate(folder, dry_run=True)] == ["0001_user.sql", "0002_tags.py"]
        assert [one.name for one in db.migrate(folder, timeout=20)] == ["0001_user.sql", "0002_tags.py"]
        assert db.migrate(folder) == []
        assert db.fetch_value("SELECT count(*) FROM user, tag") == 1


async def test_a_database_in_memory(folder: Path) -> None:
    async with Database(":memory:") as db:
        assert len(await db.migrate(folder)) == 2
        assert await db.fetch_value("SELECT name FROM user") == "ann"


async def test_a_dry_run_changes_nothing(db_path: str, folder: Path) -> None:
    async with Database(db_path) as db:
        assert [one.number for one in await db.migrate(folder, dry_run=True)] == [1, 2]
        assert await db.fetch_value("SELECT count(*) FROM sqlite_schema") == 0


async def test_an_empty_folder_is_fine_and_a_missing_one_is_not(db_path: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    async with Database(db_path) as db:
        assert await db.migrate(tmp_path / "empty") == []
        with pytest.raises(MigrationError, match=r"the folder of migrations nowhere cannot be read: No such file"):
            await db.migrate(tmp_path / "nowhere")


async def test_a_failing_one_leaves_nothing_and_names_its_file_and_statement(db_path: str, folder: Path) -> None:
    (folder / "0003_bad.sql").write_text("CREATE TABLE x(a);\n-- why\nINSERT INTO user(name) VALUES ('ann');\nSELECT 1")
    async with Database(db_path) as db:
        with pytest.raises(millpond.UniqueViolation) as caught:
            await db.migrate(folder)
        assert str(caught.value).startswith("0003_bad.sql: INSERT INTO user(name) VALUES (?)")
        assert caught.value.applied == "no"
        assert caught.value.path == str(folder / "0003_bad.sql")
        assert await db.fetch_all("SELECT number FROM millpond_migration") == [(1,), (2,)]
        assert await db.fetch_value("SELECT count(*) FROM sqlite_schema WHERE name = 'x'") == 0
        (folder / "0003_bad.sql").write_text("CREATE TABLE x(a)")
        assert [one.number for one in await db.migrate(folder)] == [3]


@pytest.mark.parametrize(
    ("text", "kind", "start"),
    [
        ("CREATE TABLE x(a); SELEC 1", millpond.ProgrammingError, "3_bad.sql: SELEC ?: syntax error"),
        ("CREATE TABLE x(a); INSERT INTO y VALUES (1)", millpond.NoSuchTable, "3_bad.sql: table y does not exist"),
        ("BEGIN; CREATE TABLE x(a); COMMIT", millpond.TransactionControl, "3_bad.sql: BEGIN typed by hand"),
        ("CREATE TABLE x(a); VACUUM", millpond.NotSupportedError, "3_bad.sql: VACUUM cannot run inside a transaction"),
    ],
)
async def test_what_an_sql_file_may_not_hold(
    db_path: str, folder: Path, text: str, kind: type[Exception], start: str
) -> None:
    (folder / "3_bad.sql").write_text(text)
    async with Database(db_path) as db:
        with pytest.raises(kind) as caught:
            await db.migrate(folder)
        assert str(caught.value).startswith(start)
        assert await db.fetch_value("SELECT max(number) FROM millpond_migration") == 2
        assert await db.fetch_value("SELECT count(*) FROM sqlite_schema WHERE name = 'x'") == 0


async def test_what_a_python_file_raises_comes_out_and_undoes_it(db_path: str, folder: Path) -> None:
    (folder / "0003_bad.py").write_text(
        "def migrate(tx):\n    tx.execute('CREATE TABLE x(a)')\n    raise LookupError('why')\n"
    )
    async with Database(db_path) as db:
        with pytest.raises(LookupError, match="why") as caught:
            await db.migrate(folder)
        assert "0003_bad.py" in caught.value.__notes__[0]
        assert await db.fetch_value("SELECT count(*) FROM sqlite_schema WHERE name = 'x'") == 0


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("x = 1", "has no function migrate"),
        ("async def migrate(tx): ...", "must have migrate.tx. as a plain function"),
        ("def migrate(tx:", "cannot be loaded: SyntaxError"),
        ("import nowhere_at_all", "cannot be loaded: ModuleNotFoundError"),
    ],
)
async def test_a_python_file_that_cannot_be_used_is_found_before_anything_runs(
    db_path: str, folder: Path, text: str, match: str
) -> None:
    (folder / "0003_bad.py").write_text(text)
    async with Database(db_path) as db:
        with pytest.raises(MigrationError, match=rf"0003_bad\.py {match}"):
            await db.migrate(folder)
        assert await db.fetch_value("SELECT count(*) FROM sqlite_schema") == 0


async def test_a_python_file_leaves_no_trace_in_the_interpreter(db_path: str, folder: Path) -> None:
    modules, paths = set(sys.modules), list(sys.path)
    async with Database(db_path) as db:
        await db.migrate(folder)
    assert [name for name in set(sys.modules) - modules if "migration" in name] == []
    assert sys.path == paths
    assert sorted(path.name for path in folder.iterdir()) == ["0001_user.sql", "0002_tags.py"]


async def test_two_tasks_share_the_work(db_path: str, folder: Path) -> None:
    async with Database(db_path) as db:
        applied = await asyncio.gather(db.migrate(folder), db.migrate(folder))
        assert sorted(one.number for done in applied for one in done) == [1, 2]


SERVICE = """
import sys, millpond.sync
with millpond.sync.Database(sys.argv[1]) as db:
    sys.stdin.readline()
    print(*(one.number for one in db.migrate(sys.argv[2])))
"""


def test_services_that_start_together_apply_each_once(db_path: str, folder: Path) -> None:
    for number in range(3, 20):
        (folder / f"{number:04}_row.sql").write_text(f"INSERT INTO tag VALUES ('{number}')")
    services = [
        subprocess.Popen(
            [sys.executable, "-c", SERVICE, db_path, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(3)
    ]  # fmt: skip
    for service in services:
        assert service.stdin is not None
        service.stdin.write("go\n")
        service.stdin.flush()
    told = [service.communicate(timeout=30) for service in services]
    assert [error for _, error in told] == ["", "", ""]
    assert sorted(int(number) for out, _ in told for number in out.split()) == list(range(1, 20))


async def test_one_changed_meanwhile_by_another_process_is_refused(
    db_path: str, folder: Path, outside: Callable[[str, str], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Database(db_path) as db:
        await db.migrate(folder)
        (folder / "0003_mine.sql").write_text("INSERT INTO tag VALUES ('mine')")
        original = db.write

        async def late(step: Any, **terms: Any) -> Any:
            outside(db_path, "INSERT INTO millpond_migration VALUES (3, '0003_other.sql', 'ff', '')")
            return await original(step, **terms)

        monkeypatch.setattr(db, "write", late)
        with pytest.raises(MigrationError, match=r"0003_mine\.sql was changed .* \(as 0003_other\.sql\)"):
            await db.migrate(folder)
        assert await db.fetch_all("SELECT name FROM tag") == [("a",)]


async def test_its_timeout_is_for_all_of_it(db_path: str, folder: Path) -> None:
    async with Database(db_path) as db, db.transaction():
        waiting = asyncio.create_task(_migrate_outside_of(db, folder))
        error = await waiting
    assert isinstance(error, millpond.LockTimeout)


async def _migrate_outside_of(db: Database, folder: Path) -> BaseException | None:
    from millpond.front import holding

    holding.set(())
    try:
        await db.migrate(folder, timeout=0.1)
    except millpond.Error as exc:
        return exc
    return None
