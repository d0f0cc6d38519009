"""What each PRAGMA does to whom: SQLite does not say it, so it is written down here."""

from __future__ import annotations

import enum
from collections.abc import Mapping

__all__ = [
    "SETTLED", "Pragma", "acts_when_prepared", "asks_writer", "is_so_already", "pragma_kind", "setting_of",
]  # fmt: skip


class Pragma(enum.Enum):
    """Where a pragma runs."""

    READ = "read"
    WRITE = "write"
    WRITER_ONLY = "writer only"
    EVERYWHERE = "everywhere"


_WRITER_QUERIES = frozenset({"synchronous", "journal_mode", "wal_autocheckpoint", "busy_timeout", "locking_mode",
                             "max_page_count", "journal_size_limit", "secure_delete"})  # fmt: skip
"""Asked without a value, the answer that matters is the writer's."""

_WRITER_ONLY = frozenset({"optimize", "wal_checkpoint", "incremental_vacuum", "auto_vacuum", "page_size", "encoding",
                          "journal_size_limit", "secure_delete", "shrink_memory"})  # fmt: skip

_EVERYWHERE = frozenset({"analysis_limit", "automatic_index", "cache_size", "cache_spill", "case_sensitive_like",
                         "cell_size_check", "defer_foreign_keys", "foreign_keys", "full_column_names",
                         "hard_heap_limit", "ignore_check_constraints", "legacy_alter_table", "max_page_count",
                         "mmap_size", "recursive_triggers", "reverse_unordered_selects", "short_column_names",
                         "soft_heap_limit", "temp_store", "threads", "trusted_schema"})  # fmt: skip

_READS_WITH_VALUE = frozenset({"foreign_key_check", "foreign_key_list", "index_info", "index_list",
                               "index_xinfo", "integrity_check", "quick_check", "table_info", "table_list",
                               "table_xinfo"})  # fmt: skip

_ACTS_WHEN_RUN = _READS_WITH_VALUE | {"application_id", "incremental_vacuum", "journal_mode", "optimize",
                                      "schema_version", "user_version", "wal_checkpoint"}  # fmt: skip
"""With a value these do nothing before their first step."""

_REFUSED = {
    "journal_mode": "the database is kept in WAL mode, on which concurrent reads rest",
    "locking_mode": "other connections of this process need the file too",
    "query_only": "reads and writes are routed by statement; nothing needs it",
    "read_uncommitted": "reads never wait for writes here, so dirty reads buy nothing",
    "synchronous": "give the write durability='full' or 'normal', or set Settings(durability=...)",
    "busy_timeout": "waiting is bounded by timeout= of each call, or Settings(timeout_s=...)",
    "wal_autocheckpoint": "checkpoints are made beside the writer: Settings(checkpoint_pages=...)",
    "writable_schema": "it can destroy the file; change the schema by ALTER TABLE",
}


_SETTINGS = {
    "cache_size": "page_cache_kib",
    "foreign_keys": "foreign_keys",
    "journal_size_limit": "wal_limit_bytes",
    "mmap_size": "mmap_bytes",
    "trusted_schema": "trusted_schema",
}

SETTLED = frozenset({"foreign_keys", "journal_mode", "locking_mode", "synchronous"})
"""Scripts for other libraries set these; where that changes nothing, they are answered as questions."""

_LEVELS = {"off": "0", "no": "0", "false": "0", "normal": "1", "on": "1", "yes": "1", "true": "1",
           "full": "2", "extra": "3"}  # fmt: skip
"""Words for numbers: of the switches, and of synchronous."""


def is_so_already(name: str, value: str, in_force: Mapping[str, object]) -> bool:
    """Does `PRAGMA name = value` change nothing? in_force: what is so now, by the pragma's name."""
    if name not in SETTLED or name not in in_force:
        return False
    now = str(in_force[name]).lower()
    wanted = value.lower()
    if name in ("foreign_keys", "synchronous"):
        wanted = _LEVELS.get(wanted, wanted)
    return wanted == now


def asks_writer(name: str, value: str | None) -> bool:
    """Is it a question about the writer's connection? A transaction is on that connection too."""
    return value is None and name in _WRITER_QUERIES


def setting_of(name: str) -> str | None:
    """The field of Settings that a pragma is set by."""
    return _SETTINGS.get(name)


def pragma_kind(name: str, value: str | None, *, readonly: bool) -> Pragma | str:
    """Where the pragma `name` runs, or why it is refused (a sentence's end).

    value: its argument as written, None for a question. readonly: what sqlite3_stmt_readonly says.
    """
    if value is None:
        if name in _WRITER_QUERIES or name in _WRITER_ONLY:
            return Pragma.WRITER_ONLY
        return Pragma.READ
    if name == "journal_mode" and value.lower() == "wal":
        return Pragma.WRITER_ONLY
    if name in _REFUSED:
        return _REFUSED[name]
    if name in _WRITER_ONLY:
        return Pragma.WRITER_ONLY
    if name in _EVERYWHERE:
        return Pragma.EVERYWHERE
    if name in _READS_WITH_VALUE or readonly:
        return Pragma.READ
    return Pragma.WRITE


def acts_when_prepared(name: str) -> bool:
    """May the pragma, with a value, take effect while SQLite only prepares it? So it is with all flags."""
    return name not in _ACTS_WHEN_RUN
