"""Runs on a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer, postgres_server

from flujo.state import PostgresBackend, backend_at


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


async def test_a_server_is_looked_into(server: PostgresServer) -> None:
    async with PostgresBackend(server.url) as backend, backend_at(server.url) as other:
        assert await backend.list_runs() == await other.list_runs() == []
        assert await backend.get_run_details("none") is None
        assert await backend.list_workers() == []
        assert await backend.purge(keep=1) == 0
        assert "secret" not in repr(backend)


async def test_schemas_of_one_server_are_apart(server: PostgresServer) -> None:
    async with PostgresBackend(server.url, schema="one") as one:
        assert "schema one" in repr(one)
        assert await one.list_runs() == []


async def test_a_server_that_restarts_is_waited_for(server: PostgresServer) -> None:
    async with PostgresBackend(server.url) as backend:
        assert await backend.list_runs() == []
        server.stop()
        server.start()
        assert await backend.list_runs() == []
