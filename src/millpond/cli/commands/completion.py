"""Print a script for the Tab key: commands and options.

bash: put it into ~/.local/share/bash-completion/completions/millpond
zsh:  put it into a folder of $fpath, as _millpond
fish: put it into ~/.config/fish/completions/millpond.fish
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from millpond.cli.exits import Exit

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    ("millpond completion bash", "for bash; at once: source <(millpond completion bash)"),
    ("millpond completion zsh", "for zsh"),
    ("millpond completion fish", "for fish; at once: millpond completion fish | source"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that you use")


def run(args: argparse.Namespace) -> int:
    from millpond.cli.parsing import build

    _, parsers = build()
    match args.shell:
        case "bash":
            print(_bash(parsers))
        case "zsh":
            print(_zsh(parsers))
        case _:
            print(_fish(parsers))
    return Exit.GOOD


def _words(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """What may follow a command: (word, help)."""
    found: list[tuple[str, str]] = []
    for action in parser._actions:
        text = (action.help or "").split(";")[0] % {"default": action.default, "prog": parser.prog}
        if action.option_strings:
            found.append((action.option_strings[-1], text))
        elif action.choices:
            found += [(str(choice), text) for choice in action.choices]
    return found


def _bash(parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    cases = "\n".join(
        f'    {name}) words="{" ".join(word for word, _ in _words(parser))}" ;;' for name, parser in parsers.items()
    )
    return f"""\
_millpond() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  if [ "$COMP_CWORD" -eq 1 ]; then words="{" ".join(parsers)} --help --version"; fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _millpond millpond"""


def _zsh(parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    def listed(words: list[tuple[str, str]]) -> str:
        return " ".join(_quoted(f"{word}:{text}" if text else word) for word, text in words)

    commands = listed([(name, (parser.description or "").split("\n")[0]) for name, parser in parsers.items()])
    cases = "\n".join(f"    {name}) offers=({listed(_words(parser))}) ;;" for name, parser in parsers.items())
    return f"""\
#compdef millpond
_millpond() {{
  local -a offers
  if (( CURRENT == 2 )); then
    offers=({commands})
    _describe command offers
    return
  fi
  case "$words[2]" in
{cases}
  esac
  _describe option offers || _files
}}
if [ "$funcstack[1]" = _millpond ]; then _millpond "$@"; else compdef _millpond millpond; fi"""


def _fish(parsers: Mapping[str, argparse.ArgumentParser]) -> str:
    lines = []
    for name, parser in parsers.items():
        summary = (parser.description or "").split("\n")[0]
        lines.append(f"complete -c millpond -f -n __fish_use_subcommand -a {name} -d {_quoted(summary)}")
        for word, text in _words(parser):
            option = f"-l {word.removeprefix('--')}" if word.startswith("--") else f"-f -a {word}"
            lines.append(f"complete -c millpond -n '__fish_seen_subcommand_from {name}' {option} -d {_quoted(text)}")
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
