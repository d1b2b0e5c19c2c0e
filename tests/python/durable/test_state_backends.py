"""Stores of runs as objects of Python: opened by name and address, looked into, and refused with a reason."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from flujo.exceptions import ConfigurationError, CorruptRunError, FlujoError, SettingsError, StoreError
from flujo.state import (
    FileBackend,
    InMemoryBackend,
    PostgresBackend,
    SQLiteBackend,
    StateBackend,
    WorkflowState,
    backend_at,
)
from flujo.state.backends.base import store_of


async def test_a_new_store_is_empty_and_can_be_looked_into(tmp_path: Path) -> None:
    for backend in (InMemoryBackend(), SQLiteBackend(tmp_path / "runs.db"), FileBackend(tmp_path / "folder")):
        async with backend:
            assert await backend.list_runs() == []
            assert await backend.list_workflows("paused", "reports", 10, 5) == []
            assert await backend.get_run_details("order 7") is None
            assert await backend.list_workers() == []
            assert await backend.purge(keep=3) == 0
            await backend.delete_state("order 7")


def test_a_store_is_looked_into_from_any_loop(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "runs.db")
    assert asyncio.run(backend.list_runs()) == asyncio.run(backend.list_runs()) == []
    backend.close()


def test_a_file_and_its_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    SQLiteBackend(tmp_path / "new" / "runs.db").close()
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "runs.db").stat().st_mode) == 0o600


def test_a_folder_of_runs_holds_one_file(tmp_path: Path) -> None:
    FileBackend(tmp_path / "runs").close()
    assert [file.name for file in (tmp_path / "runs").iterdir()] == ["runs.db"]


async def test_what_is_asked_of_a_closed_store_fails_and_says_so(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "runs.db")
    await backend.shutdown()
    with pytest.raises(StoreError, match="closed"):
        await backend.list_runs()


def test_a_file_that_is_none_of_ours_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_bytes(b"these are notes, and no store of runs " * 100)
    with pytest.raises(CorruptRunError, match=r"notes\.txt") as raised:
        SQLiteBackend(other)
    assert raised.value.where and raised.value.suggestion
    assert other.read_bytes().startswith(b"these are notes")


def test_a_place_that_cant_be_written_to_is_named() -> None:
    with pytest.raises(StoreError, match=r"/proc/none/runs\.db") as raised:
        SQLiteBackend("/proc/none/runs.db")
    assert raised.value.suggestion


def test_a_server_that_isnt_there_is_named_without_its_password() -> None:
    with pytest.raises(StoreError, match="127") as raised:
        PostgresBackend("postgresql://ann:hidden@127.0.0.1:1/runs", reconnect_timeout_s=0.1)
    assert "hidden" not in str(raised.value) + repr(raised.value.__cause__)


async def test_a_status_that_there_isnt_is_refused(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "runs.db")
    with pytest.raises(ValueError, match="limit_exceeded"):
        await backend.list_runs("finished")


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("kept.db", "kept.db"),
        ("sqlite:///kept.db", "kept.db"),
        ("sqlite:///{root}/kept.db", "kept.db"),
        ("true", ".flujo/runs.db"),
    ],
)
def test_an_address_names_a_file(
    uri: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backend_at(uri.format(root=tmp_path)).close()
    assert (tmp_path / file).is_file()


def test_an_address_names_the_memory() -> None:
    assert isinstance(backend_at("memory://"), InMemoryBackend)


@pytest.mark.parametrize("uri", ["mysql://host/runs", "sqlite://", "sqlite://host/runs", "memory://x"])
def test_an_address_where_no_runs_are_kept_is_refused(uri: str) -> None:
    with pytest.raises(SettingsError, match=r"sqlite:///file") as raised:
        backend_at(uri)
    assert uri.split("://", maxsplit=1)[0] in raised.value.message


class Own(StateBackend):
    async def load_state(self, run_id: str) -> None:
        return None


class Watching(SQLiteBackend):
    async def save_step_result(self, step_data: object) -> None:
        raise AssertionError("nothing calls it")


def test_a_backend_of_ones_own_is_refused_and_told_what_to_use(tmp_path: Path) -> None:
    for backend, name in (
        (Own(), "Own.load_state"),
        (Watching(tmp_path / "runs.db"), "Watching.save_step_result"),
    ):
        with pytest.raises(ConfigurationError, match=name) as raised:
            store_of(backend)
        assert raised.value.suggestion and "SQLiteBackend" in raised.value.suggestion
    with pytest.raises(TypeError, match="dict"):
        store_of({})
    with pytest.raises(ConfigurationError, match="StateBackend keeps no runs"):
        store_of(StateBackend())


async def test_what_older_versions_wrote_by_is_refused_and_told_what_to_do() -> None:
    backend = InMemoryBackend()
    for write in (
        backend.save_state("a", {}),
        backend.save_run_start({}),
        backend.save_run_end("a", {}),
        backend.save_step_result({}),
        backend.save_trace("a", {}),
    ):
        with pytest.raises(StoreError, match="writes nothing") as raised:
            await write
        assert raised.value.suggestion and "Flujo(..., state_backend=" in raised.value.suggestion


def test_names_stand_at_the_paths_that_older_versions_have() -> None:
    from flujo import registry
    from flujo.infra.registry import PipelineRegistry
    from flujo.state import backends, models
    from flujo.state.backends import base, file, memory, postgres, sqlite

    assert base.StateBackend is backends.StateBackend is StateBackend
    assert file.FileBackend is backends.FileBackend is FileBackend
    assert memory.InMemoryBackend is backends.InMemoryBackend is InMemoryBackend
    assert postgres.PostgresBackend is backends.PostgresBackend is PostgresBackend
    assert sqlite.SQLiteBackend is backends.SQLiteBackend is SQLiteBackend
    assert models.WorkflowState is WorkflowState
    assert registry.PipelineRegistry is PipelineRegistry


def test_stores_open_where_the_process_forks_stay_good_on_both_sides(tmp_path: Path) -> None:
    script = f"""
import asyncio, os, signal, warnings
warnings.simplefilter("ignore")  # newer interpreters warn of forks beside threads
from flujo.state import InMemoryBackend, SQLiteBackend

backends = [SQLiteBackend({os.fspath(tmp_path / "runs.db")!r}), InMemoryBackend()]

def work():
    for backend in backends:
        assert asyncio.run(backend.list_runs()) == []
        assert asyncio.run(backend.purge(keep=1)) == 0

work()
for _ in range(3):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        work()
        os._exit(0)
    work()
    assert os.waitpid(child, 0)[1] == 0
work()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_error_of_a_store_is_one_of_flujo() -> None:
    assert issubclass(StoreError, FlujoError)
