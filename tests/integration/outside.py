"""Other processes: the only way to look at an open database from outside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def ask(path: Path | str, sql: str) -> str:
    """The answer of another process, as Python prints it."""
    code = f"import apsw; print(apsw.Connection({str(path)!r}).execute({sql!r}).fetchall())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@contextmanager
def lock_held(path: Path | str, sql: str = "BEGIN IMMEDIATE") -> Iterator[subprocess.Popen[str]]:
    """Another process holds the write lock until its standard input is closed."""
    code = (
        f"import apsw, sys; c = apsw.Connection({str(path)!r}); c.execute({sql!r}); "
        "print('held', flush=True); sys.stdin.read(); c.execute('ROLLBACK')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == "held"
        yield process
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def run(code: str, *args: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Run a script in another process."""
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
