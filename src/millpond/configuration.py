"""Settings from outside: the environment, millpond.toml, pyproject.toml."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from millpond.errors import SettingsError
from millpond.messages import line, shorten
from millpond.settings import SHOWN, Settings

__all__ = ["load"]

PREFIX = "MILLPOND_"
_TRUTH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_KINDS = {f.name: str(f.type) for f in dataclasses.fields(Settings)}


def load(explicit: Settings | Mapping[str, Any] | None, environ: Mapping[str, str], start: Path) -> Settings:
    """The settings in force.

    A Settings object wins outright. Else the nearest millpond.toml or [tool.millpond] of a pyproject.toml,
    at `start` or above it up to the repository's root; over it the environment's MILLPOND_*, where an empty
    one counts as not set; over that a mapping given in code.
    Raises: SettingsError, naming the file or the variable.
    """
    if isinstance(explicit, Settings):
        return explicit
    if explicit is not None and not isinstance(explicit, Mapping):
        raise SettingsError(f"settings are a Settings object or a mapping, not {type(explicit).__name__}")
    values: dict[str, Any] = {}
    sources = []
    found = _file(start.absolute())
    if found is not None:
        path, values = found
        Settings.of(values, source=path.name)
        sources.append(path.name)
    for name in sorted(environ):
        key = name[len(PREFIX) :].lower()
        if name.startswith(PREFIX) and (text := environ[name].strip()):
            values[key] = _read(key, text, name)
            Settings.of({key: values[key]}, source=name)
            sources.append(name)
    if explicit:
        Settings.of(explicit, source="the mapping given")
        values.update(explicit)
        sources.append("the mapping given")
    # Each is right by itself; together they may still contradict each other.
    return Settings.of(values, source=", ".join(sources))


def _file(start: Path) -> tuple[Path, dict[str, Any]] | None:
    for folder in (start, *start.parents):
        own = _parsed(folder / "millpond.toml")
        if own is not None:
            _refuse_tables(own)
            return folder / "millpond.toml", _settings_in(own, "millpond.toml")
        tools = (_parsed(folder / "pyproject.toml") or {}).get("tool")
        if isinstance(tools, dict) and "millpond" in tools:
            return folder / "pyproject.toml", _settings_in(tools["millpond"], "pyproject.toml")
        if _is_there(folder / ".git"):
            return None
    return None


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False  # a folder above that this user may not look into has nothing to say here


def _parsed(path: Path) -> dict[str, Any] | None:
    """The file's tables; None without a file. Raises: SettingsError."""
    if not _is_there(path):
        return None
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsError(line(f"{path.name} cannot be read: {exc.strerror}"), path=str(path)) from exc
    except ValueError as exc:
        raise SettingsError(line(f"{path.name} is not valid TOML: {exc}"), path=str(path)) from exc


def _settings_in(table: Any, source: str) -> dict[str, Any]:
    """Sub-tables with other names belong to tools (stress, ...)."""
    if not isinstance(table, dict):
        raise SettingsError(f"{source}: tool.millpond must be a table, not {type(table).__name__}")
    return {name: value for name, value in table.items() if name in _KINDS or not _is_table(value)}


def _refuse_tables(own: dict[str, Any]) -> None:
    """In a file of their own the settings stand at the top: a table for them would be passed over as a tool's."""
    tool = own.get("tool")
    name = (
        "tool.millpond" if isinstance(tool, dict) and "millpond" in tool else "millpond" if "millpond" in own else None
    )
    if name is not None:
        raise SettingsError(
            f"millpond.toml: settings stand at its top, not in a table [{name}]",
            hint=f"Take the line [{name}] out; it belongs into pyproject.toml, as [tool.millpond].",
        )


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(part, dict) for part in value)
    )


def _read(key: str, text: str, variable: str) -> Any:
    wrong = f"{variable}={shorten(repr(text), SHOWN)}"
    match _KINDS.get(key, ""):
        case "int" | "float" as kind:
            try:
                return int(text) if kind == "int" else float(text)
            except ValueError:
                what = "a whole number" if kind == "int" else "a number"
                raise SettingsError(line(f"{wrong} is not {what}")) from None
        case "bool":
            if text.lower() not in _TRUTH:
                raise SettingsError(line(f"{wrong} is neither true nor false"))
            return _TRUTH[text.lower()]
        case kind if kind.startswith("Mapping"):
            raise SettingsError(f"{variable}: {key} can only be given in code")
    return text
