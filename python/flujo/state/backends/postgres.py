"""Runs on a PostgreSQL server."""

from __future__ import annotations

from os import PathLike

from flujo._native import Store
from flujo.state.backends.base import StateBackend

__all__ = ["PostgresBackend"]


class PostgresBackend(StateBackend):
    """Keeps runs in the tables of one schema of a server (PostgreSQL 13 or later), for processes of any machine.

    A server that restarts is waited for; what was on its way is done once. Name and password are shown nowhere.

    Args:
        url: `postgresql://user:password@host:5432/database`; with `?sslmode=require` by TLS, its certificate checked.
        schema: Holds the tables; it is made where there is none.
        authorities: A PEM file of the authorities whose certificates are trusted; those of the system by default.
        busy_timeout_s: For how many seconds a call waits for what others write.
        reconnect_timeout_s: For how many seconds a call waits for a server that is away.

    Raises:
        StoreError: the address is none, or the server can't be reached.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "flujo",
        authorities: str | PathLike[str] | None = None,
        busy_timeout_s: float = 5.0,
        reconnect_timeout_s: float = 10.0,
    ) -> None:
        super().__init__(
            Store.postgres(
                url,
                schema=schema,
                authorities=authorities,
                busy_timeout_s=busy_timeout_s,
                reconnect_timeout_s=reconnect_timeout_s,
            )
        )
