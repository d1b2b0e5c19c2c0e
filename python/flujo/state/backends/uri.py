"""Stores by their address, as `FLUJO_STATE_URI` holds it."""

from __future__ import annotations

import os
from functools import cache

from flujo.exceptions import SettingsError
from flujo.state.backends.base import StateBackend

__all__ = ["backend_at", "backend_of_environment"]

VARIABLE = "FLUJO_STATE_URI"
DEFAULT = ".flujo/runs.db"


def backend_at(uri: str) -> StateBackend:
    """The store at an address.

    Args:
        uri: A file, `sqlite:///name` (a file in the current folder), `sqlite:////name` (one from the root),
            `postgresql://user:password@host/database`, `memory://`, or `true` for `.flujo/runs.db`.

    Raises:
        SettingsError: runs aren't kept at such an address.
        StoreError: it can't be opened.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        from flujo.state.backends.sqlite import SQLiteBackend

        return SQLiteBackend(DEFAULT if uri == "true" else uri)
    if scheme == "sqlite" and rest.startswith("/") and len(rest) > 1:
        from flujo.state.backends.sqlite import SQLiteBackend

        return SQLiteBackend(rest[1:])
    if scheme in ("postgresql", "postgres"):
        from flujo.state.backends.postgres import PostgresBackend

        return PostgresBackend(uri)
    if scheme == "memory" and not rest:
        from flujo.state.backends.memory import InMemoryBackend

        return InMemoryBackend()
    raise SettingsError(
        f"runs aren't kept at an address that begins with {scheme}://"
        if scheme not in ("sqlite", "memory")
        else f"{scheme}:// names no place to keep runs at",
        suggestion="name a file, sqlite:///file, sqlite:////absolute/file, memory:// or "
        "postgresql://user:password@host/database",
    )


def backend_of_environment() -> StateBackend | None:
    """The store that `FLUJO_STATE_URI` names; None where it isn't set, or empty.

    Raises:
        SettingsError: runs aren't kept at such an address.
        StoreError: it can't be opened.
    """
    uri = os.environ.get(VARIABLE)
    if not uri:
        return None
    try:
        return _shared(uri, os.getcwd())
    except SettingsError as error:
        raise SettingsError(f"{VARIABLE}: {error.message}", suggestion=error.suggestion) from None


@cache
def _shared(uri: str, _folder: str) -> StateBackend:
    """One for all runners of the process that say nothing else."""
    return backend_at(uri)
