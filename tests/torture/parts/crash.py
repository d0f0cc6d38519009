"""kill -9: processes that write one file are killed, at random and at chosen places, and what is left is compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.torture.case import Broken, Case
from tests.torture.crash.life import Lived
from tests.torture.crash.plan import draw
from tests.torture.crash.zygote import Zygote

TITLE = "kill -9 of processes that write one file"
UNIT = "kills"
GOAL = 1_000
SERVES_S = 2.0
"""After a death the others, and the next one, are served within so long; not counted is waiting for a processor."""


def run(case: Case, serves_s: float = SERVES_S) -> Mapping[str, int]:
    """One life of a file, in which about a dozen processes are killed."""
    random = case.random
    life = draw(case.number, random)
    said = Path(case.folder) / "stderr.txt"
    try:
        with Zygote(said) as zygote:
            return Lived(life, case.folder, random, zygote, serves_s).run()
    except Broken as exc:
        exc.add_note(f"the life: {life}")
        exc.add_note(f"stderr: {said.read_text(errors='replace')[-12_000:]}")
        raise
