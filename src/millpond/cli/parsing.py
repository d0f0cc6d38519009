"""argparse, with the nearest word for a mistyped one, and commands found by folder."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from types import ModuleType
from typing import NoReturn

from millpond import __version__
from millpond.cli import commands as folder

__all__ = ["Parser", "WrongUse", "build", "commands", "nearest", "parse"]


class WrongUse(Exception):
    """The command line cannot be carried out as it is; the message is for people."""


class Parser(argparse.ArgumentParser):
    """Raises WrongUse instead of exiting, and takes no abbreviations: a script must not break by a new option."""

    def __init__(self, *args: object, **options: object) -> None:
        options.setdefault("allow_abbrev", False)
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*args, **options)  # type: ignore[arg-type]  # argparse names its many options one by one

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '([^']*)'", message)
        choices = [str(choice) for action in self._actions for choice in action.choices or ()]
        hint = nearest(wrong[1], choices) if wrong else ""
        raise WrongUse(f"{self.prog}: {message}{hint}\nhelp: {self.prog} --help")


def commands() -> dict[str, ModuleType]:
    """Every command by name: the modules of the folder."""
    names = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
    return {name: importlib.import_module(f"{folder.__name__}.{name}") for name in names}


def build() -> tuple[Parser, dict[str, Parser]]:
    """The parser of `millpond`, and that of each command."""
    root = Parser(prog="millpond", description="SQLite for asyncio and threads, without `database is locked`.")
    root.add_argument("--version", action="version", version=f"millpond {__version__}")
    places = root.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    by_name: dict[str, Parser] = {}
    for name, module in commands().items():
        summary, _, description = (module.__doc__ or "").partition("\n")
        parser = places.add_parser(
            name, help=_lowered(summary), description=f"{summary}\n{description}".strip(), epilog=_examples(module)
        )
        module.add_arguments(parser)
        by_name[name] = parser
    return root, by_name


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read a command line.

    Raises: WrongUse, with the nearest command or option; SystemExit after --help and --version.
    """
    root, by_name = build()
    if arguments[:1] in (["help"], ("help",)):
        arguments = [*arguments[1:2], "--help"]
    command = next((argument for argument in arguments if not argument.startswith("-")), None)
    if command is not None and command not in by_name:
        raise WrongUse(f"millpond: {command!r} is not a command{nearest(command, by_name)}\nhelp: millpond --help")
    known, unknown = root.parse_known_args(arguments)
    if unknown:
        parser = root if command is None else by_name[command]
        options = [option for action in parser._actions for option in action.option_strings]
        word = unknown[0]
        what = "option" if word.startswith("-") else "argument"
        hint = nearest(word.split("=", 1)[0], options) if word.startswith("-") else ""
        raise WrongUse(f"{parser.prog}: unknown {what} {word!r}{hint}\nhelp: {parser.prog} --help")
    if known.command is None:
        raise WrongUse("millpond: a command is wanted\nhelp: millpond --help")
    return known


def nearest(word: str, known: Iterable[str]) -> str:
    """; the nearest is ... -- or nothing, when nothing is near."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; the nearest is: {close[0]}" if close else ""


def _lowered(summary: str) -> str:
    text = summary.rstrip(".")
    return text[:1].lower() + text[1:]


def _examples(module: ModuleType) -> str:
    lines = ["examples:"]
    for command, purpose in module.EXAMPLES:
        lines += [f"  {command}", f"      {purpose}"]
    return "\n".join(lines)
