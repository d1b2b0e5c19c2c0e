"""Processes that are asked to end: what they have is ended in time, or given back so that others go on at once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flujo import Flujo, Step
from flujo.state import SQLiteBackend

# A lease of an hour: nobody gets a run that wasn't given back.
SERVICE = """
import asyncio, signal, sys
from flujo import Flujo, Step
from flujo.state import SQLiteBackend

path, role, drain_s = sys.argv[1], sys.argv[2], float(sys.argv[3])

async def double(x):
    return x * 2

class Work:
    async def run(self, x):
        print("entered", flush=True)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(sys.stdin, ended.set)  # a line ends it
        try:
            await ended.wait()
        finally:
            loop.remove_reader(sys.stdin)
        print("worked", flush=True)
        return x

async def main():
    runner = Flujo(
        Step("double", double) >> Step("work", Work()) >> Step("again", double),
        pipeline_name="drained",
        state_backend=SQLiteBackend(path),
        lease_s=3600,
    )
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    if role == "starts":
        await runner.start(1, run_id="one")
        await asked.wait()
        print("asked", flush=True)
        await runner.aclose(drain_s=drain_s)
    else:
        async with runner.worker(drain_s=drain_s):
            await asked.wait()
            print("asked", flush=True)
    print("ended", flush=True)

asyncio.run(main())
"""


async def double(x: int) -> int:
    return x * 2


def runner_of(path: Path, *, waits: bool = False) -> Flujo[Any, Any]:
    async def work(x: int) -> int:
        if waits:
            await asyncio.Event().wait()
        return x

    return Flujo(
        Step("double", double) >> Step("work", work) >> Step("again", double),
        pipeline_name="drained",
        state_backend=SQLiteBackend(path),
        lease_s=3600,
    )


@contextmanager
def service(path: Path, role: str, drain_s: float) -> Iterator[subprocess.Popen[str]]:
    arguments = [sys.executable, "-c", SERVICE, str(path), role, str(drain_s)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert says(process) == "entered"
            yield process
        finally:
            process.kill()


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def left_half_done(path: Path) -> None:
    """A run whose process gave it back."""
    runner = runner_of(path, waits=True)
    await runner.start(1, run_id="one")
    backend = SQLiteBackend(path)
    while not any(step["step_name"] == "work" for step in await backend.list_run_steps("one")):
        await asyncio.sleep(0)
    await runner.aclose()


@pytest.mark.parametrize("role", ["starts", "works"])
async def test_what_ends_in_time_is_ended_by_the_process_that_was_asked_to_end(
    tmp_path: Path, role: str
) -> None:
    path = tmp_path / "runs.db"
    if role == "works":
        await left_half_done(path)
    with service(path, role, 600) as process:
        process.send_signal(signal.SIGTERM)
        assert says(process) == "asked"
        assert process.stdin is not None
        process.stdin.write("end\n")
        process.stdin.flush()
        assert [says(process), says(process)] == ["worked", "ended"]
        assert process.wait() == 0
    done = await runner_of(path).get("one").result()
    assert (done.output, [step.name for step in done.step_history]) == (4, ["double", "work", "again"])


@pytest.mark.parametrize("role", ["starts", "works"])
async def test_what_takes_longer_is_given_back_and_another_process_goes_on_at_once(
    tmp_path: Path, role: str
) -> None:
    path = tmp_path / "runs.db"
    if role == "works":
        await left_half_done(path)
    with service(path, role, 0) as process:
        process.send_signal(signal.SIGTERM)
        assert [says(process), says(process)] == ["asked", "ended"]
        assert process.wait() == 0
    [left] = await SQLiteBackend(path).list_runs("running")
    assert (left["run_id"], left["owner"]) == ("one", None)
    other = runner_of(path)
    async with other.worker():
        done = await other.get("one").result()
    assert (done.output, [step.name for step in done.step_history]) == (4, ["double", "work", "again"])
    assert done.step_history[0].attempts == 1
