"""A migration as a function for `db.write`: it, and its row in the table, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from millpond import errors
from millpond.messages import line, shorten
from millpond.migrations.files import function_of
from millpond.migrations.plan import NAME_LENGTH, Migration, Source, pending

if TYPE_CHECKING:
    from millpond.engine.sqlite.calls import Transaction

__all__ = ["EXISTS", "RECORDED", "Step", "prepare"]

EXISTS = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'millpond_migration'"
RECORDED = "SELECT number, name, sha256 FROM millpond_migration ORDER BY number"
_CREATE = (
    "CREATE TABLE IF NOT EXISTS millpond_migration"
    "(number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied_at TEXT NOT NULL)"
)
_RECORD = "INSERT INTO millpond_migration VALUES (?, ?, ?, strftime('%Y-%m-%dT%H:%M:%SZ', 'now'))"


def prepare(sources: Sequence[Source], recorded: Iterable[Sequence[object]]) -> list[Step]:
    """What is to be given to `db.write`, in order. Raises: MigrationError, before anything runs."""
    return [Step(one, sources) for one in pending(sources, recorded)]


class Step:
    """Apply one migration. Called with `tx`; False: another process has applied it meanwhile.

    An object rather than a function: the writer must not learn from short migrations that long ones are
    cheap and may run on the event loop.
    """

    def __init__(self, own: Source, sources: Sequence[Source]) -> None:
        self.migration: Migration = own.migration
        self._own = own
        self._sources = sources
        self._function: Callable[[Any], object] | None = None
        if own.migration.name.endswith(".py"):
            self._function = function_of(own)
        self.__name__ = self.__qualname__ = own.migration.name  # how errors name what waits or fails

    def __call__(self, tx: Transaction) -> bool:
        name = self.migration.name
        tx.execute(_CREATE)
        if self._own not in pending(self._sources, tx.fetch_all(RECORDED)):
            return False
        try:
            if self._function is None:
                tx.execute_script(self._own.text)
            elif hasattr(answer := self._function(tx), "__await__"):
                getattr(answer, "close", lambda: None)()
                raise errors.MigrationError(f"{shorten(name, NAME_LENGTH)}: migrate(tx) returned an awaitable")
        except errors.Error as exc:
            exc.args = (line(f"{shorten(name, NAME_LENGTH)}: {exc}"), *exc.args[1:])
            exc.path = self.migration.path
            raise
        except Exception as exc:
            exc.add_note(f"migration: {self.migration.path}; nothing of it is in the database")
            raise
        tx.execute(_RECORD, (self.migration.number, name, self._own.sha256))
        return True
