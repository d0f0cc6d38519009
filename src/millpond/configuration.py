"""Settings from outside: the environment, millpond.toml, pyproject.toml."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from millpond.errors import SettingsError
from millpond.settings import Settings

__all__ = ["load"]

PREFIX = "MILLPOND_"
_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def load(explicit: Settings | Mapping[str, Any] | None, environ: Mapping[str, str], start: Path) -> Settings:
    """The settings in force.

    A Settings object wins outright. Else the nearest millpond.toml or [tool.millpond] of a pyproject.toml,
    at `start` or above it up to the repository's root; over it the environment's MILLPOND_*; over that a
    mapping given in code.
    Raises: SettingsError, naming the file or the variable.
    """
    if isinstance(explicit, Settings):
        return explicit
    if explicit is not None and not isinstance(explicit, Mapping):
        raise SettingsError(f"settings are a Settings object or a mapping, not {type(explicit).__name__}")
    values: dict[str, Any] = {}
    found = _file(start)
    if found is not None:
        path, table = found
        Settings.of(table, source=path.name)
        values.update(table)
    for name, text in environ.items():
        if name.startswith(PREFIX):
            key = name[len(PREFIX) :].lower()
            value = _read(key, text, name)
            Settings.of({key: value}, source=name)
            values[key] = value
    values.update(explicit or {})
    return Settings.of(values)


def _file(start: Path) -> tuple[Path, dict[str, Any]] | None:
    for folder in (start, *start.parents):
        own = folder / "millpond.toml"
        if own.is_file():
            return own, _settings_in(_parsed(own))
        project = folder / "pyproject.toml"
        if project.is_file():
            table = _parsed(project).get("tool", {}).get("millpond")
            if table is not None:
                return project, _settings_in(table)
        if (folder / ".git").exists():
            return None
    return None


def _parsed(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise SettingsError(f"{path.name} cannot be read: {exc}") from exc


def _settings_in(table: dict[str, Any]) -> dict[str, Any]:
    """Sub-tables belong to tools; the rest are settings."""
    return {name: value for name, value in table.items() if not isinstance(value, (dict, list))}


def _read(key: str, text: str, variable: str) -> Any:
    kinds = {f.name: str(f.type) for f in dataclasses.fields(Settings)}
    kind = kinds.get(key)
    try:
        if kind == "int":
            return int(text.replace("_", ""))
        if kind == "float":
            return float(text)
    except ValueError:
        raise SettingsError(f"{variable}={text!r} is not a number") from None
    if kind == "bool":
        if text.lower() not in _TRUTH:
            raise SettingsError(f"{variable}={text!r} is neither true nor false")
        return _TRUTH[text.lower()]
    return text
