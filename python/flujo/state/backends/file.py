"""Runs in a folder."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path

from flujo.state.backends.sqlite import SQLiteBackend

__all__ = ["FileBackend"]

FILE = "runs.db"


class FileBackend(SQLiteBackend):
    """Keeps runs in a folder, in one SQLite file named `runs.db`: a file for each run couldn't be written whole.

    Args:
        path: The folder; it is made where there is none, for its owner alone.
        busy_timeout_s: For how many seconds a call waits for what other processes write.
        max_bytes: The file never becomes larger than this.

    Raises:
        StoreError: see `SQLiteBackend`.
    """

    def __init__(
        self, path: str | PathLike[str], *, busy_timeout_s: float = 5.0, max_bytes: int | None = None
    ) -> None:
        super().__init__(Path(fspath(path)) / FILE, busy_timeout_s=busy_timeout_s, max_bytes=max_bytes)
