"""The folder of migrations, and the function in a .py file."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec
from os import PathLike
from pathlib import Path
from types import CodeType
from typing import Any

from millpond.errors import MigrationError
from millpond.messages import line, shorten
from millpond.migrations.plan import NAME_LENGTH, Source, passed_over, source

__all__ = ["function_of", "read"]


def read(folder: str | PathLike[str]) -> list[Source]:
    """The migrations in a folder. Raises: MigrationError."""
    path = Path(folder)
    try:
        found = sorted(entry for entry in path.iterdir() if not passed_over(entry.name))
        return [source(entry.name, str(entry), b"" if entry.is_dir() else entry.read_bytes()) for entry in found]
    except OSError as exc:
        shown = shorten(path.name or str(path), NAME_LENGTH)
        raise MigrationError(
            line(f"the folder of migrations {shown} cannot be read: {exc.strerror}"),
            hint="A relative path is looked for in the working directory of the process; "
            "Path(__file__).parent / 'migrations' is not.",
            path=str(path.absolute()),
            applied="no",
        ) from exc


def function_of(found: Source) -> Callable[[Any], object]:
    """The function `migrate(tx)` of a .py file, which is neither put into sys.modules nor compiled to disk.

    Raises: MigrationError if it cannot be loaded, or has no such function.
    """
    name = shorten(found.migration.name, NAME_LENGTH)
    path = found.migration.path
    loader = _Loader(f"millpond_migration_{found.migration.number}", path)
    loader.text = found.text
    module = module_from_spec(ModuleSpec(loader.name, loader, origin=path))
    module.__file__ = path
    try:
        loader.exec_module(module)
    except Exception as exc:
        raise MigrationError(
            line(f"{name} cannot be loaded: {type(exc).__name__}: {exc}"), path=path, applied="no"
        ) from exc
    function = getattr(module, "migrate", None)
    if not callable(function) or inspect.iscoroutinefunction(function):
        what = "has no function migrate(tx)" if function is None else "must have migrate(tx) as a plain function"
        raise MigrationError(
            f"{name} {what}",
            hint="def migrate(tx): tx.execute(...) — it runs in the writer, like a function given to db.write.",
            path=path,
            applied="no",
        )
    return function  # type: ignore[no-any-return]  # whatever is callable


class _Loader(SourceFileLoader):
    """Runs the text that was read and hashed, not what the file has become since."""

    text = ""

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.text.encode(), self.path)
        return code
