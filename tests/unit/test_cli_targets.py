"""What is found out before the work, and `millpond help`."""

from __future__ import annotations

from pathlib import Path

import pytest

from millpond.cli.commands import demo
from millpond.cli.documents import check_target
from millpond.cli.main import main
from millpond.cli.parsing import WrongUse
from millpond.demo import conduct as conducting
from millpond.demo.conduct import DemoFailed


def test_a_target_that_cannot_be_written_is_refused_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("it ran")

    monkeypatch.setattr(conducting, "conduct", never)
    assert main(["demo", f"--json={tmp_path / 'nowhere' / 'demo.json'}"]) == 2
    assert "--json: cannot write" in capsys.readouterr().err


def test_looking_at_a_target_leaves_it_as_it_is(tmp_path: Path) -> None:
    check_target(str(tmp_path / "new.json"))
    assert not (tmp_path / "new.json").exists()
    (tmp_path / "old.json").write_text("old")
    check_target(str(tmp_path / "old.json"))
    assert (tmp_path / "old.json").read_text() == "old"
    check_target("-")
    with pytest.raises(WrongUse, match="--json: cannot write"):
        check_target(str(tmp_path))


def test_a_run_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise DemoFailed("no")

    monkeypatch.setattr(conducting, "conduct", fails)
    assert main(["demo", "-q", f"--json={tmp_path / 'demo.json'}"]) == 3
    assert list(tmp_path.iterdir()) == []


def test_help_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help"]) == 0
    assert "usage: millpond" in capsys.readouterr().out
    assert main(["help", "demo"]) == 0
    assert demo.EXAMPLES[1][0] in capsys.readouterr().out
    assert main(["help", "dmeo"]) == 2
    assert "the nearest is: demo" in capsys.readouterr().err
