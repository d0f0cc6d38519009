"""The command line's frame: help, mistakes, exit codes, completion, colour."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import millpond
from millpond.cli import main as entry
from millpond.cli.documents import json_schema, write_document
from millpond.cli.main import main
from millpond.cli.parsing import WrongUse, build, commands
from millpond.cli.stopping import interrupted_code, interruptible
from millpond.cli.terminal import screen_of


def test_alone_it_says_in_twelve_lines_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert len(lines) == 12
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("  millpond ") for line in lines) == 3
    assert "--help" in said.out


def test_it_is_installed_under_its_name() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "millpond", "--version"], capture_output=True, text=True, check=True
    )
    assert process.stdout == f"millpond {millpond.__version__}\n"


@pytest.mark.parametrize(
    ("line", "nearest"),
    [
        ("dmeo", "the nearest is: demo"),
        ("compeltion bash", "the nearest is: completion"),
        ("demo --secnds 3", "the nearest is: --seconds"),
        ("demo --workrs=3", "the nearest is: --workers"),
        ("completion bsh", "the nearest is: bash"),
        ("--versoin", "the nearest is: --version"),
        ("xyzzy", "'xyzzy' is not a command"),
        ("demo xyzzy", "unknown argument 'xyzzy'"),
        ("demo --sec 3", "unknown option '--sec'"),
        ("demo --workers 0", "from 1 to 1000"),
        ("demo --workers many", "from 1 to 1000"),
        ("demo --processes 65", "from 1 to 64"),
        ("demo --processes 4 --workers 3", "need as many workers"),
        ("demo --seconds 0", "seconds from 0.1"),
        ("demo --seconds nan", "seconds from 0.1"),
        ("demo --seconds", "expected one argument"),
        ("demo --data nowhere.tsv.gz", "no such file: nowhere.tsv.gz"),
        ("completion", "required: shell"),
        ("-q", "unknown option '-q'"),
    ],
)
def test_a_mistake_ends_with_2_and_what_was_meant(line: str, nearest: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(line)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert nearest in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("line", ["--help", "demo --help", "completion --help", "--version"])
def test_help_and_version_end_with_0(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(line)) == 0
    assert capsys.readouterr().out


def test_every_command_has_a_summary_examples_and_a_schema_if_it_prints_json() -> None:
    _, parsers = build()
    assert {"demo", "completion"} <= set(parsers)
    for name, module in commands().items():
        assert module.__doc__, name
        assert len(module.__doc__.splitlines()[0]) <= 70, name
        assert module.EXAMPLES, name
        assert all(example.startswith(f"millpond {name}") for example, _ in module.EXAMPLES)
        if any("--json" in action.option_strings for action in parsers[name]._actions):
            jsonschema.Draft202012Validator.check_schema(json_schema(name))


def test_help_fits_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for line in (["--help"], *([name, "--help"] for name in commands())):
        main(line)
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 80, line


# Each takes two seconds, and the integration tests do the same by other means.
SLOW = {"millpond demo --seconds 3", "millpond demo --tuned", "millpond demo --seed 7 --keep demo-files"}
EXAMPLES = [
    pytest.param(name, line, id=line, marks=[pytest.mark.slow] if line in SLOW else [])
    for name, module in commands().items()
    for line, _ in module.EXAMPLES
]


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_every_example_of_the_help_works(
    name: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "chat.tsv.gz").write_bytes(
        gzip.compress(b"date\ttime\tevent\tuser\ttext\n2004-12-25\t09:14\tmessage\tada\thello\n")
    )
    main([name, "--help"])
    assert f"  {line}\n" in capsys.readouterr().out
    words = shlex.split(line)[1:]
    # The example as it stands; only shorter, and with fewer connections to open.
    short = ["--seconds", "0.2", "--workers", "5"] if name == "demo" else []
    assert main([*words, *short]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert out
    if "--json" in words:
        assert json.loads(out)["schema"] == "millpond/demo/1"
    if "--json=demo.json" in words:
        assert json.loads((tmp_path / "demo.json").read_text())["schema"] == "millpond/demo/1"
    if "--keep" in words:
        assert (tmp_path / "demo-files" / "millpond" / "bot.db").exists()


def test_a_folder_that_has_results_already_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "millpond").mkdir()
    assert main(["demo", "--keep", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["demo", "--keep", str(tmp_path / "file" / "below")]) == 2
    assert "Not a directory" in capsys.readouterr().err


def test_a_document_that_cannot_be_written_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="cannot write"):
        write_document({}, str(tmp_path))


class Stream(io.StringIO):
    def __init__(self, terminal: bool, encoding: str | None = "utf-8") -> None:
        super().__init__()
        self._terminal = terminal
        self._encoding = encoding

    def isatty(self) -> bool:
        return self._terminal

    @property
    def encoding(self) -> str | None:  # type: ignore[override]  # StringIO's is always None
        return self._encoding


@pytest.mark.parametrize(
    ("terminal", "environ", "colour", "moving"),
    [
        (True, {}, True, True),
        (False, {}, False, False),
        (True, {"NO_COLOR": "1"}, False, True),
        (True, {"NO_COLOR": ""}, True, True),
        (False, {"FORCE_COLOR": "1"}, True, False),
        (True, {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, True),
        (True, {"TERM": "dumb"}, False, False),
        (True, {"TERM": "dumb", "FORCE_COLOR": "1"}, True, False),
    ],
)
def test_colour_follows_the_environment(terminal: bool, environ: dict[str, str], colour: bool, moving: bool) -> None:
    screen = screen_of(Stream(terminal), environ)
    assert (screen.colour, screen.moving) == (colour, moving)


@pytest.mark.parametrize(("encoding", "symbols"), [("utf-8", True), ("ascii", False), ("cp1252", False), (None, False)])
def test_symbols_follow_the_encoding(encoding: str | None, symbols: bool) -> None:
    assert screen_of(Stream(False, encoding), {}).symbols is symbols


def test_a_signal_to_end_is_told_from_ctrl_c() -> None:
    with interruptible() as stop:
        assert stop.code == 130
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.code == interrupted_code() == 143
    with interruptible() as stop:
        assert stop.code == 130


def test_ctrl_c_ends_any_command_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Impatient:
        @staticmethod
        def run(args: object) -> int:
            raise KeyboardInterrupt

    monkeypatch.setattr(entry, "commands", lambda: {"demo": Impatient})
    assert main(["demo"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_reader_that_has_enough_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m millpond completion fish | head -c 1"
    process = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert process.stderr == ""


def completed(shell: str, *words: str) -> list[str]:
    script = subprocess.run(
        [sys.executable, "-m", "millpond", "completion", shell], capture_output=True, text=True, check=True
    ).stdout
    listed = " ".join(shlex.quote(word) for word in ("millpond", *words))
    ask = f'COMP_WORDS=({listed}); COMP_CWORD={len(words)}; _millpond; printf "%s\\n" "${{COMPREPLY[@]}}"'
    return subprocess.run(
        ["bash", "-c", script + "\n" + ask], capture_output=True, text=True, check=True
    ).stdout.split()


def test_bash_completes_commands_options_and_shells() -> None:
    assert completed("bash", "de") == ["demo"]
    assert completed("bash", "demo", "--se") == ["--seconds", "--seed"]
    assert "zsh" in completed("bash", "completion", "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_scripts_name_all_commands_and_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for name, parser in build()[1].items():
        assert re.search(rf"\b{name}\b", script)
        for action in parser._actions:
            for option in action.option_strings[-1:]:
                assert option.removeprefix("--") in script
    program = shutil.which(shell)
    if program is not None:
        subprocess.run(
            [program, "-n", "-c", script] if shell == "zsh" else [program, "-n"], input=script, text=True, check=True
        )
