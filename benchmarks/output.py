"""Where a benchmark's result object goes: to people, to a file, or alone to stdout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def publish(result: dict[str, Any], target: str | None, show: Callable[[], None]) -> dict[str, Any]:
    """Show a result and write it to the file `target`, if there is one; '-' prints it, and nothing else."""
    if target == "-":
        print(json.dumps(result))
    else:
        show()
        write(result, target)
    return result


def write(result: dict[str, Any], target: str | None) -> None:
    """Write it to the file `target`, if there is one."""
    if target:
        path = Path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
