"""What the file system says of a database: looked at only after something failed, and never by opening it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

__all__ = ["FileFacts", "gather"]


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Facts for error texts. name, folder: without what is above them. free_bytes, total_bytes: of the volume,
    None if unknown; free for this user."""

    name: str
    folder: str
    exists: bool = False
    is_folder: bool = False
    size: int = 0
    mode: int = 0
    owner: int = -1
    folder_exists: bool = False
    folder_mode: int = 0
    folder_owner: int = -1
    folder_writable: bool = False
    writable: bool = False
    free_bytes: int | None = None
    total_bytes: int | None = None
    wal_bytes: int = 0
    uid: int = -1
    read_only_mount: bool = False


def gather(path: str) -> FileFacts:
    """Look at the file and its folder by stat and statvfs alone."""
    folder = os.path.dirname(path) or "."
    facts: dict[str, object] = {"name": os.path.basename(path), "folder": os.path.basename(folder) or folder}
    facts["uid"] = os.getuid() if hasattr(os, "getuid") else -1
    try:
        found = os.stat(path)
        facts.update(
            exists=True, is_folder=stat.S_ISDIR(found.st_mode), size=found.st_size, mode=stat.S_IMODE(found.st_mode),
            owner=found.st_uid, writable=os.access(path, os.W_OK),
        )  # fmt: skip
    except OSError:
        facts["exists"] = False
    try:
        above = os.stat(folder)
        facts.update(
            folder_exists=stat.S_ISDIR(above.st_mode), folder_mode=stat.S_IMODE(above.st_mode),
            folder_owner=above.st_uid, folder_writable=os.access(folder, os.W_OK),
        )  # fmt: skip
        if hasattr(os, "statvfs"):
            volume = os.statvfs(folder)
            facts.update(
                free_bytes=volume.f_bavail * volume.f_frsize, total_bytes=volume.f_blocks * volume.f_frsize,
                read_only_mount=bool(volume.f_flag & os.ST_RDONLY),
            )  # fmt: skip
    except OSError:
        facts["folder_exists"] = False
    try:
        facts["wal_bytes"] = os.stat(path + "-wal").st_size
    except OSError:
        facts["wal_bytes"] = 0
    return FileFacts(**facts)  # type: ignore[arg-type]  # the keys are the fields'
