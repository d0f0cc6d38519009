"""Settings: each with its unit, its default and the reason for it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Literal, TypeVar

from millpond.errors import SettingsError
from millpond.messages import LINE, line, shorten

__all__ = ["Settings"]

T = TypeVar("T")


def _number(default: float, least: float, most: float, unit: str, reason: str) -> Any:
    return field(default=default, metadata={"unit": unit, "range": (least, most), "reason": reason})


def _one_of(default: str, *values: str, reason: str) -> Any:
    return field(default=default, metadata={"unit": "", "values": values, "reason": reason})


def _flag(default: bool, reason: str) -> Any:
    return field(default=default, metadata={"unit": "", "reason": reason})


def _functions(reason: str) -> Any:
    return field(default_factory=dict, metadata={"unit": "", "reason": reason})


def _known_names_only(settings: type[T]) -> type[T]:
    """Unknown names are refused before __init__ sees them: its TypeError does not know other libraries' names."""
    kind: Any = settings
    made: Callable[..., None] = kind.__init__

    @wraps(made)
    def init(self: object, *args: Any, **values: Any) -> None:
        _refuse_unknown(values)
        made(self, *args, **values)

    kind.__init__ = init
    return settings


@_known_names_only
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a database is run. Wrong names and values are refused at once.

    Raises: SettingsError, naming the field, what was given and what it takes.
    """

    min_connections: int = _number(
        2, 1, 20, "connections", "lanes with threads and the writer, kept open; 2 serve most bots"
    )
    max_connections: int = _number(
        20, 2, 20, "connections", "the most of them; more are opened only while they help: opening costs 0.1 ms"
    )
    timeout_s: float = _number(
        30.0, 0.001, 86_400, "seconds", "deadline of a call that names none: beyond any healthy call, within patience"
    )
    max_queue: int = _number(
        10_000, 1, 10_000_000, "calls", "writes waiting; those beyond are refused at once: memory is not a queue"
    )
    max_read_queue: int = _number(10_000, 1, 10_000_000, "calls", "reads waiting; as max_queue")
    durability: Literal["full", "normal"] = _one_of(
        "full",
        "full",
        "normal",
        reason='"full" syncs each commit, so what is acknowledged survives a power cut; "normal" may lose the last '
        "moments then, and never the file",
    )
    visible: Literal["committed", "synced"] = _one_of(
        "committed",
        "committed",
        "synced",
        reason='when others see a write of durability "full": "committed" lets them while its disk is waited for, so '
        'nobody waits for a disk but who asked; "synced" shows nothing that a power cut could still take',
    )
    inline: Literal["auto", "off"] = _one_of(
        "auto",
        "auto",
        "off",
        reason='"auto" runs reads that proved cheap on the event loop; "off" sends all to lanes',
    )
    max_lease: float = _number(
        10.0, 0.01, 3_600, "seconds", "an interactive transaction may hold the writer so long: all others wait for it"
    )
    lease_warning_s: float = _number(1.0, 0.001, 3_600, "seconds", "a transaction held longer is warned about")
    idle_close_s: float = _number(30.0, 0.01, 86_400, "seconds", "an idle lane beyond the least is closed after it")
    batch_jobs: int = _number(256, 1, 100_000, "jobs", "one commit takes so many along at most")
    batch_budget_ms: float = _number(
        4.0, 0.1, 10_000, "milliseconds", "predicted length of a batch: those at its head wait for its commit"
    )
    bulk_slice_ms: float = _number(
        8.0, 0.1, 10_000, "milliseconds", "execute_many(atomic=False) runs so long, then lets others through"
    )
    busy_slice_ms: int = _number(
        2, 1, 1_000, "milliseconds", "one wait for another process's lock: SQLite cannot be stopped inside it"
    )
    close_grace_s: float = _number(5.0, 0, 3_600, "seconds", "closing gives so long to what is queued")
    leak_warning_s: float = _number(
        60.0, 0.01, 86_400, "seconds", "a snapshot or iterator unused for longer is reported: it pins the log"
    )
    page_cache_kib: int = _number(2_000, 16, 16_777_216, "KiB", "pages kept by each connection; SQLite's default")
    mmap_bytes: int = _number(
        0, 0, 2**47, "bytes", "read by memory map; 0, since a file truncated by others would kill the process"
    )
    cache_bytes: int = _number(
        16 * 2**20, 0, 2**40, "bytes", "results of reads that are kept while nobody writes to their tables; 0: none"
    )
    watch_interval_s: float = _number(
        0.025, 0.001, 3_600, "seconds", "other processes' commits are looked for so often, while anything is watched"
    )
    foreign_keys: bool = _flag(True, "enforced, as users expect and SQLite does not by default")
    statement_cache: int = _number(256, 0, 16_384, "statements", "prepared ones kept by each connection")
    profiles: int = _number(2_000, 16, 1_000_000, "statements", "known by their text; some KiB each")
    checkpoint_pages: int = _number(
        1_000, 10, 10_000_000, "pages", "a log so long is moved into the file, beside the writer"
    )
    wal_limit_bytes: int = _number(
        64 * 2**20, 2**16, 2**40, "bytes", "health is degraded by a longer log; begun anew, its file is cut to this"
    )
    log_hold_s: float = _number(
        3.0,
        0,
        60,
        "seconds",
        "new long reads wait so long for older ones before the log outgrows its limit; 0: no",
    )
    pin_warning_s: float = _number(
        30.0, 0.01, 86_400, "seconds", "a reader that keeps the log from being begun anew for longer is reported"
    )
    quiet_s: float = _number(
        2.0, 0.05, 3_600, "seconds", "so long without a write is a quiet time, in which the upkeep below is done"
    )
    empty_log: bool = _flag(
        True, "in quiet times the log is copied whole, and cut to nothing: a burst leaves none behind"
    )
    analyze: bool = _flag(True, "in quiet times tables get new statistics where SQLite says so (PRAGMA optimize)")
    incremental_vacuum: bool = _flag(
        True, "in quiet times free pages are given back, where the file was made with auto_vacuum=INCREMENTAL"
    )
    shrink_memory: bool = _flag(True, "connections that were idle for idle_close_s give back their cached pages")
    turn_budget_ms: float = _number(
        1.0,
        0.01,
        100,
        "milliseconds",
        "inline reads in one turn of the event loop, and the most of one: a ticker beside them is punctual",
    )
    step_budget: int = _number(
        20_000, 100, 100_000_000, "VM steps", "an inline read that takes more moves to a lane: about half a millisecond"
    )
    adapters: Mapping[type, Callable[[Any], Any]] = _functions("type -> function to what SQLite can store")
    converters: Mapping[str, Callable[[Any], Any]] = _functions("declared type of a column -> function on its values")
    strict_datetimes: bool = _flag(False, "refuse datetimes without a time zone: their moment is a guess")
    trusted_schema: bool = _flag(
        False, "let views and triggers call functions with side effects: the file may be hostile"
    )

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            _check(f, getattr(self, f.name))
        if self.min_connections > self.max_connections:
            raise SettingsError(
                f"min_connections={self.min_connections} is more than max_connections={self.max_connections}"
            )
        for name in ("adapters", "converters"):
            object.__setattr__(self, name, dict(getattr(self, name)))  # what the caller does to his later is his

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
        try:
            _refuse_unknown(values)
            return cls(**values)
        except SettingsError as exc:
            if source:
                raise SettingsError(
                    line(f"{shorten(source, max(SHOWN, LINE - 2 - len(str(exc))))}: {exc}"), hint=exc.hint
                ) from None
            raise


_ALIASES = {
    "max_size": "max_connections", "pool_size": "max_connections", "maxsize": "max_connections",
    "max_overflow": "max_connections", "num_workers": "max_connections", "connections": "max_connections",
    "min_size": "min_connections", "minsize": "min_connections",
    "timeout": "timeout_s", "busy_timeout": "timeout_s", "pool_timeout": "timeout_s", "command_timeout": "timeout_s",
    "acquisition_timeout": "timeout_s", "operation_timeout": "timeout_s", "connect_timeout": "timeout_s",
    "max_waiting": "max_queue", "queue_size": "max_queue", "synchronous": "durability",
    "cache_size": "page_cache_kib", "mmap_size": "mmap_bytes", "wal_autocheckpoint": "checkpoint_pages",
    "idle_timeout": "idle_close_s", "max_idle": "idle_close_s", "max_inactive_connection_lifetime": "idle_close_s",
    "cached_statements": "statement_cache", "statement_cache_size": "statement_cache",
    "detect_types": "converters", "max_lease_s": "max_lease", "lease_timeout": "max_lease",
}  # fmt: skip
_NEEDLESS = {
    "journal_mode": "the file is always kept in WAL mode",
    "locking_mode": "the file is always shared",
    "isolation_level": "transactions are blocks, `async with db.transaction()`",
    "autocommit": "each call outside a transaction is committed before it returns",
    "check_same_thread": "threads and tasks are taken care of",
    "max_queries": "connections do not wear out",
    "max_lifetime": "connections do not wear out",
    "pool_recycle": "connections do not wear out",
    "pool_pre_ping": "a broken connection is replaced by itself",
    "row_factory": "it is an argument, `Database(path, row_factory=...)`",
    "echo": "it is an argument, `Database(path, observers=[...])`",
}


def _refuse_unknown(values: Mapping[str, Any]) -> None:
    known = {f.name: f for f in dataclasses.fields(Settings)}
    for name in values:
        if name in known:
            continue
        if name in _NEEDLESS:
            raise SettingsError(f"unknown setting {name}: not needed, {_NEEDLESS[name]}")
        near = _ALIASES.get(name) or next(iter(difflib.get_close_matches(str(name).lower(), known, 1)), None)
        if near is None:
            raise SettingsError(line(f"unknown setting {name}"), hint=f"Settings are {', '.join(known)}.")
        raise SettingsError(line(f"unknown setting {name}; did you mean {near}{_takes(known[near])}?"))


def _takes(f: dataclasses.Field[Any]) -> str:
    """What a field takes, in brackets: its unit too, for other libraries count in other ones."""
    if "values" in f.metadata:
        return f" ({' or '.join(repr(value) for value in f.metadata['values'])})"
    if "range" in f.metadata:
        least, most = f.metadata["range"]
        unit = f.metadata["unit"]
        return f" ({least:,}-{most:,}{'' if unit == 'connections' else ' ' + unit})"
    return ""


SHOWN = 32
"""Of a wrong value so much: the rest of the line says what it must be."""


def _check(f: dataclasses.Field[Any], value: Any) -> None:
    wrong = f"{f.name}={shorten(repr(value), SHOWN)}: must be"
    if "values" in f.metadata:
        if value not in f.metadata["values"]:
            raise SettingsError(line(f"{wrong} one of {', '.join(map(repr, f.metadata['values']))}"))
    elif "range" in f.metadata:
        least, most = f.metadata["range"]
        whole = f.type == "int"
        fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        if not fits or not least <= value <= most:
            kind = "a whole number" if whole else "a number"
            raise SettingsError(line(f"{wrong} {kind} from {least:,} to {most:,} ({f.metadata['unit']})"))
    elif f.type == "bool":
        if not isinstance(value, bool):
            raise SettingsError(line(f"{wrong} True or False"))
    elif not isinstance(value, Mapping):
        raise SettingsError(line(f"{f.name}: must be a mapping, not {type(value).__name__}"))
    else:
        _check_functions(f.name, value)


TAKEN_BY_SQLITE = (int, float, str, bytes, bytearray, memoryview, type(None))


def _check_functions(name: str, functions: Mapping[Any, Any]) -> None:
    wanted, what = (type, "a type") if name == "adapters" else (str, "a column's declared type as text")
    for key, function in functions.items():
        shown = getattr(key, "__name__", repr(key))
        if not isinstance(key, wanted):
            raise SettingsError(line(f"{name}: {shown} is not {what}"))
        if not callable(function):
            raise SettingsError(line(f"{name}[{shown}]: must be a function, not {type(function).__name__}"))
        if isinstance(key, type) and issubclass(key, TAKEN_BY_SQLITE):
            raise SettingsError(line(f"adapters[{shown}]: SQLite takes this type by itself, it would never be asked"))


def _table() -> str:
    rows = ["", "    Fields:"]
    for f in dataclasses.fields(Settings):
        default = "{}" if f.default is dataclasses.MISSING else repr(f.default)
        rows.append(f"    {f.name} = {default}{_takes(f)}: {f.metadata['reason']}.")
    return "\n".join(rows) + "\n    "


Settings.__doc__ = (Settings.__doc__ or "").rstrip() + "\n" + _table()
