"""Runs in one SQLite file."""

from __future__ import annotations

from os import PathLike

from flujo._native import Store
from flujo.state.backends.base import StateBackend

__all__ = ["SQLiteBackend"]


class SQLiteBackend(StateBackend):
    """Keeps runs in one file, for any number of processes of one machine, also such as a fork makes.

    What was written is on the disk: the file's log is synced with each transaction. The file is readable by its owner
    alone. It belongs on a disk of this machine, not on one over a network.

    Args:
        path: The file; it is made where there is none, and so are the folders above it.
        busy_timeout_s: For how many seconds a call waits for what other processes write.
        max_bytes: The file never becomes larger than this.

    Raises:
        StoreError: the file can't be opened: `CorruptRunError` when it is damaged or no such file, `StoreBusyError`
            when others keep it too long. It is left as it is.
    """

    def __init__(
        self, path: str | PathLike[str], *, busy_timeout_s: float = 5.0, max_bytes: int | None = None
    ) -> None:
        super().__init__(Store.sqlite(path, busy_timeout_s=busy_timeout_s, max_bytes=max_bytes))
