"""--json: one document on stdout, or in a file beside the text. Its JSON Schema is in `schemas/`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from millpond.cli.parsing import WrongUse

__all__ = ["STDOUT", "add_json_argument", "check_target", "json_schema", "write_document"]

STDOUT = "-"


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json",
        nargs="?",
        const=STDOUT,
        metavar="FILE",
        help="print one JSON object instead of the text; with FILE, write it there beside the text",
    )


def check_target(target: str) -> None:
    """Can it be written? Asked before the work is done that it is to hold. Raises: WrongUse."""
    if target == STDOUT:
        return
    path = Path(target)
    try:
        is_new = not path.exists()
        path.open("a").close()
        if is_new:
            path.unlink()
    except OSError as exc:
        raise _cannot_write(target, exc) from exc


def write_document(document: Mapping[str, Any], target: str) -> None:
    """One line of JSON to stdout ("-") or to the file `target`.

    Raises: WrongUse when the file cannot be written.
    """
    line = json.dumps(document) + "\n"
    if target == STDOUT:
        sys.stdout.write(line)
        return
    try:
        Path(target).write_text(line, encoding="utf-8")
    except OSError as exc:
        raise _cannot_write(target, exc) from exc


def _cannot_write(target: str, exc: OSError) -> WrongUse:
    return WrongUse(f"--json: cannot write {target}: {exc.strerror}")


def json_schema(command: str) -> dict[str, Any]:
    """The JSON Schema of a command's document."""
    text = files("millpond.cli").joinpath("schemas", f"{command}.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
