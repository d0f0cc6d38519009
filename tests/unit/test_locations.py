"""Where a database is: paths, URLs, memory; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from millpond.errors import NotSupportedError, ProgrammingError
from millpond.guesses import instead_of
from millpond.locations import locate


def test_paths_and_urls_name_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = str(tmp_path / "my bot.db")
    for where in ("my bot.db", tmp_path / "my bot.db", "sqlite:///my%20bot.db", f"sqlite:///{wanted}",
                  "sqlite+aiosqlite:///my bot.db"):  # fmt: skip
        found = locate(where)
        assert found.path == wanted
        assert found.name == "my bot.db"
        assert not found.memory


@pytest.mark.parametrize("where", [":memory:", "sqlite://", "sqlite:///:memory:", "sqlite:///"])
def test_memory_has_several_names(where: str) -> None:
    assert locate(where).memory


@pytest.mark.parametrize(
    ("where", "kind"),
    [
        ("", ProgrammingError),
        (b"bot.db", ProgrammingError),
        (7, ProgrammingError),
        ("bot\0.db", ProgrammingError),
        ("sqlite://bot.db", ProgrammingError),
        ("postgresql://localhost/bot", NotSupportedError),
        ("file:bot.db?mode=ro", NotSupportedError),
        ("sqlite:///bot.db?timeout=5", NotSupportedError),
    ],
)
def test_what_names_no_database_is_refused(where: object, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        locate(where)  # type: ignore[arg-type]  # that is the point


def test_a_guessed_name_is_answered_with_the_line_to_write() -> None:
    assert "await db.fetch_value" in instead_of("fetchval", "Database", awaits=True)
    assert "await" not in instead_of("fetchval", "Database", awaits=False)
    assert instead_of("nonsense", "Database", awaits=True) == "'Database' object has no attribute 'nonsense'"
