"""Settings: each with its unit, its default and the reason for it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from millpond.errors import SettingsError

__all__ = ["Settings"]


def _number(default: float, least: float, most: float) -> Any:
    return field(default=default, metadata={"range": (least, most)})


def _one_of(default: str, *values: str) -> Any:
    return field(default=default, metadata={"values": values})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a database is run. Wrong names and values are refused at once.

    min_connections, max_connections: readers with threads and the writer together. 2 serve most bots; more
      are opened only while they help. Opening costs 0.1 ms, so the least is small.
    timeout_s: seconds; the deadline of a call that names none. Longer than any healthy call, shorter than
      a person's patience.
    max_queue, max_read_queue: calls; what waits beyond is refused at once, for memory is not a queue.
    durability: "full" syncs each commit, so what is acknowledged survives a power cut; "normal" may lose the
      last moments then, and never the file.
    inline: "auto" runs proven cheap reads on the event loop; "off" sends all to lanes.
    max_lease: seconds that an interactive transaction may hold the writer; everyone waits for it.
    lease_warning_s: seconds after which a held transaction is warned about.
    idle_close_s: seconds after which an idle lane beyond the least is closed.
    batch_jobs, batch_budget_ms: a batch's most jobs and predicted milliseconds: what a commit may take along
      before those at its head wait too long.
    busy_slice_ms: milliseconds of one wait for another process's lock: SQLite cannot be stopped inside it.
    close_grace_s: seconds that closing gives to what is queued.
    leak_warning_s: seconds after which an unused snapshot or iterator is reported.
    page_cache_kib: KiB of pages kept by each connection (SQLite's default).
    mmap_bytes: bytes read by memory map; 0, since a truncated file would kill the process.
    foreign_keys: enforced, as users expect and SQLite does not by default.
    statement_cache: prepared statements kept by each connection.
    profiles: statements that are known by their text.
    checkpoint_pages: pages of log after which it is moved into the file, beside the writer.
    wal_limit_bytes: bytes of log beyond which health is degraded.
    turn_budget_ms: milliseconds of inline reads in one turn of the loop: a ticker beside it stays punctual.
    step_budget: VM steps that an inline read may take: about half a millisecond.
    adapters: type -> function to what SQLite stores. converters: declared column type -> function.
    strict_datetimes: refuse datetimes without a time zone.
    trusted_schema: let functions with side effects run from views and triggers; a file may be hostile.
    """

    min_connections: int = _number(2, 1, 20)
    max_connections: int = _number(20, 2, 20)
    timeout_s: float = _number(30.0, 0.001, 86_400)
    max_queue: int = _number(10_000, 1, 10_000_000)
    max_read_queue: int = _number(10_000, 1, 10_000_000)
    durability: Literal["full", "normal"] = _one_of("full", "full", "normal")
    inline: Literal["auto", "off"] = _one_of("auto", "auto", "off")
    max_lease: float = _number(10.0, 0.01, 3_600)
    lease_warning_s: float = _number(1.0, 0.001, 3_600)
    idle_close_s: float = _number(30.0, 0.01, 86_400)
    batch_jobs: int = _number(256, 1, 100_000)
    batch_budget_ms: float = _number(4.0, 0.1, 10_000)
    busy_slice_ms: int = _number(2, 1, 1_000)
    close_grace_s: float = _number(5.0, 0, 3_600)
    leak_warning_s: float = _number(60.0, 0.01, 86_400)
    page_cache_kib: int = _number(2_000, 16, 16_777_216)
    mmap_bytes: int = _number(0, 0, 2**47)
    foreign_keys: bool = True
    statement_cache: int = _number(256, 0, 16_384)
    profiles: int = _number(2_000, 16, 1_000_000)
    checkpoint_pages: int = _number(1_000, 10, 10_000_000)
    wal_limit_bytes: int = _number(64 * 2**20, 2**16, 2**40)
    turn_budget_ms: float = _number(0.5, 0.01, 100)
    step_budget: int = _number(20_000, 100, 100_000_000)
    adapters: Mapping[type, Callable[[Any], Any]] = field(default_factory=dict)
    converters: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    strict_datetimes: bool = False
    trusted_schema: bool = False

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            _check(f, getattr(self, f.name))
        if self.min_connections > self.max_connections:
            raise SettingsError(
                f"min_connections={self.min_connections} is more than max_connections={self.max_connections}"
            )

    def __repr__(self) -> str:
        changed = [
            f"{f.name}={value!r}"
            for f in dataclasses.fields(self)
            if (value := getattr(self, f.name)) != (f.default if f.default is not dataclasses.MISSING else {})
        ]
        return f"Settings({', '.join(changed)})"

    def with_(self, **changes: Any) -> Settings:
        """A copy with changes."""
        return Settings.of({**{f.name: getattr(self, f.name) for f in dataclasses.fields(self)}, **changes})

    @classmethod
    def of(cls, values: Mapping[str, Any], source: str = "") -> Settings:
        """Settings from names and values. source: where they stand, for errors.

        Raises: SettingsError for an unknown name, with the nearest one.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        for name in values:
            if name not in known:
                raise SettingsError(_unknown(name, known) + (f" ({source})" if source else ""))
        try:
            return cls(**values)
        except SettingsError as exc:
            if source:
                raise SettingsError(f"{exc} ({source})") from None
            raise


_ALIASES = {
    "max_size": "max_connections (2-20)", "pool_size": "max_connections (2-20)", "maxsize": "max_connections (2-20)",
    "min_size": "min_connections (1-20)", "minsize": "min_connections (1-20)", "max_overflow": "max_connections (2-20)",
    "timeout": "timeout_s (seconds)", "busy_timeout": "timeout_s (seconds)", "pool_timeout": "timeout_s (seconds)",
    "command_timeout": "timeout_s (seconds)", "acquisition_timeout": "timeout_s (seconds)",
    "synchronous": 'durability ("full" or "normal")', "queue_size": "max_queue", "cache_size": "page_cache_kib",
    "mmap_size": "mmap_bytes", "idle_timeout": "idle_close_s (seconds)", "max_idle": "idle_close_s (seconds)",
}  # fmt: skip
_NEEDLESS = {
    "journal_mode": "the file is always kept in WAL mode",
    "isolation_level": "transactions are blocks: async with db.transaction()",
    "check_same_thread": "threads and tasks are taken care of",
    "cached_statements": "the cache is statement_cache",
    "autocommit": "each call outside a transaction is committed before it returns",
}


def _unknown(name: str, known: set[str]) -> str:
    if name in _NEEDLESS:
        return f"unknown setting {name}: not needed, {_NEEDLESS[name]}"
    near = _ALIASES.get(name) or next(iter(difflib.get_close_matches(name, known, 1)), None)
    return f"unknown setting {name}" + (f"; did you mean {near}?" if near else "")


def _check(f: dataclasses.Field[Any], value: Any) -> None:
    values = f.metadata.get("values")
    if values is not None:
        if value not in values:
            raise SettingsError(f"{f.name}={value!r}: must be one of {', '.join(map(repr, values))}")
        return
    bounds = f.metadata.get("range")
    if bounds is not None:
        least, most = bounds
        wanted = "int" if str(f.type) == "int" else "float"
        fits = isinstance(value, int) if wanted == "int" else isinstance(value, (int, float))
        if not fits or isinstance(value, bool) or not least <= value <= most:
            kind = "a whole number" if wanted == "int" else "a number"
            raise SettingsError(f"{f.name}={value!r}: must be {kind} from {least:,} to {most:,}")
    elif str(f.type) == "bool" and not isinstance(value, bool):
        raise SettingsError(f"{f.name}={value!r}: must be True or False")
    elif str(f.type).startswith("Mapping") and not isinstance(value, Mapping):
        raise SettingsError(f"{f.name}: must be a mapping, not {type(value).__name__}")
