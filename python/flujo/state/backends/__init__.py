"""Stores of runs: in memory, in a file, in a folder, on a PostgreSQL server."""

from flujo.state.backends.base import StateBackend
from flujo.state.backends.file import FileBackend
from flujo.state.backends.memory import InMemoryBackend
from flujo.state.backends.postgres import PostgresBackend
from flujo.state.backends.sqlite import SQLiteBackend
from flujo.state.backends.uri import backend_at

__all__ = [
    "FileBackend",
    "InMemoryBackend",
    "PostgresBackend",
    "SQLiteBackend",
    "StateBackend",
    "backend_at",
]
