"""What all tests share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Deadlines of single examples are noise on a busy machine: the timeout of the whole test is what counts.
settings.register_profile("usual", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("usual")

_ASK = """
import apsw, json, sys
connection = apsw.Connection(sys.argv[1])
connection.set_busy_timeout(5000)
print(json.dumps(connection.execute(sys.argv[2]).fetchall()))
"""


@pytest.fixture(autouse=True)
def _usual_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have settings of their own."""
    for name in list(os.environ):
        if name.startswith("MILLPOND_") or name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name)


@pytest.fixture
def db_path(tmp_path: Path) -> str:
    """Where a test's database goes."""
    return str(tmp_path / "bot.db")


@pytest.fixture
def outside() -> Callable[[str, str], list[Any]]:
    """Run SQL on a file in a process of its own: in this one a second library would drop Millpond's locks."""

    def ask(path: str, sql: str) -> list[Any]:
        process = subprocess.run(
            [sys.executable, "-c", _ASK, path, sql], capture_output=True, encoding="utf-8", check=True
        )
        rows: list[Any] = json.loads(process.stdout)
        return rows

    return ask
