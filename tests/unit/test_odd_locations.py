"""Names of databases that are easily taken for others."""

from __future__ import annotations

from pathlib import Path

import pytest

from millpond.errors import ProgrammingError
from millpond.locations import locate


@pytest.mark.parametrize("name", ["#i.db", "a#b.db", "#", "a%23b.db"])
def test_a_hash_is_part_of_the_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = locate(f"sqlite:///{name}")
    assert not found.memory
    assert found.path == str(tmp_path / name.replace("%23", "#"))


@pytest.mark.parametrize(
    "where", ["a\nb.db", "a\tb.db", "sqlite:///a\nb.db", "sqlite:///a%0Ab.db", "sqlite:///a%00.db", "a\x7f.db"]
)
def test_control_characters_are_refused(where: str) -> None:
    with pytest.raises(ProgrammingError):
        locate(where)


@pytest.mark.parametrize("where", ["sqlite:bot9.db", "sqlite:/bot9.db", "sqlite+aiosqlite:bot9.db"])
def test_a_url_without_its_slashes_is_refused_with_the_right_form(where: str) -> None:
    with pytest.raises(ProgrammingError) as caught:
        locate(where)
    assert f"{where.partition(':')[0]}:///bot9.db" in (caught.value.hint or "")
