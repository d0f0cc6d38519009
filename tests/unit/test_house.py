"""The rules of the house that no other tool sees."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import millpond
import millpond.sync

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "millpond").rglob("*.py"))
CODE = [*SOURCES, *sorted((ROOT / "benchmarks").rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
MOST_LINES = 700
"""Beyond 400, look for a second subject; a facade that lists all methods with their docstrings may need more."""
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_a_file_has_one_subject_and_says_which(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "says in a docstring what it is for"
    assert len(text.splitlines()) <= MOST_LINES, "has a second subject: move it to a file of its own"


UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")
BARE_EXCUSE = re.compile(r"#\s*(noqa|type:\s*ignore)(\s*:\s*[A-Z]+\d+(,\s*[A-Z]+\d+)*|\[[\w,\s-]+\])?\s*$")


@pytest.mark.parametrize("path", CODE, ids=named)
def test_nothing_is_left_undone_or_excused_without_a_reason(path: Path) -> None:
    if path == Path(__file__):
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        assert not UNFINISHED.search(line), f"line {number}: {line.strip()}"
        assert not BARE_EXCUSE.search(line), f"line {number} needs its reason beside it: {line.strip()}"


VAGUE = ("Manager", "Helper", "Util", "Utils", "Processor")


def test_nothing_is_called_a_manager() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                assert not node.name.endswith(VAGUE), f"{named(path)}: {node.name}"
        assert not path.stem.endswith(tuple(word.lower() for word in VAGUE)), named(path)


def tracked() -> Iterator[Path]:
    """The files of the repository; without git, those that look like it."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode == 0:
        yield from (ROOT / name for name in listed.stdout.splitlines())
    else:
        yield from (ROOT / name for name in ("pyproject.toml", "Makefile", "README.md"))
        yield from CODE


# Put together here, so that this file is not found by its own search.
FORBIDDEN = [
    "pypi" + r"\.org", "pythonhosted" + r"\.org", "registry" + r"\.npmjs", "deb" + r"\.debian\.org",
    "index" + "-url", "/" + r"work/", "/" + r"root/",
]  # fmt: skip


def test_no_file_names_a_registry_or_somebodys_machine() -> None:
    pattern = re.compile("|".join(FORBIDDEN))
    for path in tracked():
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
        found = pattern.search(text)
        assert found is None, f"{named(path)}: {found and found[0]}"


def test_lock_files_are_not_kept() -> None:
    names = {path.name for path in tracked()}
    assert not names & {"package-lock.json", "uv.lock", "poetry.lock", "pdm.lock", "yarn.lock", "pnpm-lock.yaml"}


def test_the_core_needs_apsw_alone() -> None:
    (only,) = PROJECT["project"]["dependencies"]
    assert only.startswith("apsw>=")


def test_all_names_every_extra_that_a_user_can_want() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    (all_of_them,) = extras["all"]
    listed = re.fullmatch(r"millpond\[(.*)\]", all_of_them)
    assert listed
    assert set(listed[1].split(",")) == set(extras) - {"all", "dev"}


def test_the_version_is_in_one_place() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    places = [path for path in SOURCES if re.search(r'["\']\d+\.\d+\.\d+["\']', path.read_text(encoding="utf-8"))]
    assert named(ROOT / "src" / "millpond" / "__init__.py") in map(named, places)
    assert millpond.__version__ in (ROOT / "src" / "millpond" / "__init__.py").read_text(encoding="utf-8")


def test_the_core_runs_without_any_extra() -> None:
    """No extra's module is imported by the library, nor by the command line until it is asked for."""
    code = (
        "import sys, millpond, millpond.sync, millpond.cli.main\n"
        "print([name for name in ('rich', 'attrs', 'msgspec', 'pydantic', 'uvloop') if name in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"


def public(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(member)
        for name, member in inspect.getmembers(kind, callable)
        if not name.startswith("_")
    }


def test_both_facades_have_the_same_methods_with_the_same_parameters() -> None:
    tasks, threads = public(millpond.Database), public(millpond.sync.Database)
    assert set(tasks) == set(threads)
    for name, signature in tasks.items():
        ours = [(one.name, one.kind, one.default) for one in signature.parameters.values()]
        theirs = [(one.name, one.kind, one.default) for one in threads[name].parameters.values()]
        assert ours == theirs, name


@pytest.mark.parametrize("name", millpond.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(millpond, name)
    if inspect.isclass(thing):
        assert inspect.getdoc(thing), f"{name} has no docstring"


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_target_of_the_makefile_is_explained() -> None:
    targets = re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE)
    explained = re.findall(r"^([a-z][a-z-]*):.*## .+", MAKEFILE, re.MULTILINE)
    assert targets == explained
    assert {"help", "demo", "test", "bench", "bench-quick", "lint", "types", "imports", "slow", "clean"} <= set(targets)


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
