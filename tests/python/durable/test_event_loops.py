"""Kept runs on event loops of different kinds, and what they leave behind on them."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from flujo import Flujo, Step
from flujo.state import SQLiteBackend


async def double(value: int) -> int:
    return value * 2


def _runner(backend: SQLiteBackend, durability: Any = "strict") -> Flujo[Any, Any]:
    return Flujo(
        Step("first", double) >> Step("second", double), state_backend=backend, durability=durability
    )


class NoReaders(asyncio.SelectorEventLoop):
    """Like the loops of Windows that can't wait for sockets of others: it has what the base class has."""

    add_reader = asyncio.AbstractEventLoop.add_reader


@pytest.mark.parametrize("durability", ["strict", "async", "exit"])
def test_a_loop_that_reads_from_no_sockets(tmp_path: Path, durability: str) -> None:
    backend = SQLiteBackend(tmp_path / "runs.db")
    loop = NoReaders()
    try:
        result = loop.run_until_complete(_runner(backend, durability).run_async(1, run_id="here"))
    finally:
        loop.close()
    assert result.success
    found = asyncio.run(_runner(backend, durability).run_async(1, run_id="here"))
    assert found.step_history[-1].output == 4
    backend.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_each_loop_leaves_no_file_open(tmp_path: Path, run: Any) -> None:
    backend = SQLiteBackend(tmp_path / "runs.db")
    runner = _runner(backend)
    run(runner.run_async(1))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        assert run(runner.run_async(1)).success
    # The thread that told the last loop of its run lets go of what it told it by a moment later; of no other loop.
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    while len(os.listdir("/proc/self/fd")) > before:
        os.sched_yield()
    backend.close()


HOLDS = """
import sqlite3, sys
other = sqlite3.connect(sys.argv[1], isolation_level=None)
other.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Nobody else writes into the file meanwhile.

    By a process of its own: two SQLite libraries in one don't see each other's locks, and take them from each other.
    """
    command = [sys.executable, "-c", HOLDS, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        yield
        other.communicate()


def test_a_run_that_is_cancelled_as_it_opens_leaves_its_loop_free_to_be_closed(tmp_path: Path) -> None:
    made = SQLiteBackend(tmp_path / "runs.db")
    assert asyncio.run(_runner(made).run_async(1)).success
    made.close()
    backend = SQLiteBackend(tmp_path / "runs.db")
    runner = _runner(backend)
    for number in range(20):
        loop = asyncio.SelectorEventLoop()
        task = loop.create_task(runner.run_async(1, run_id=f"run {number}"))
        loop.call_soon(loop.stop)
        with held(tmp_path / "runs.db"):
            loop.run_forever()
            assert not task.done()
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()
    assert asyncio.run(runner.run_async(3)).success
    backend.close()


def test_context_variables_of_the_first_run_are_not_kept_by_its_loop(tmp_path: Path) -> None:
    class Request:
        pass

    backend = SQLiteBackend(tmp_path / "runs.db")
    variable: contextvars.ContextVar[Request] = contextvars.ContextVar("request")

    async def one() -> weakref.ref[Request]:
        request = Request()
        variable.set(request)
        assert (await _runner(backend).run_async(1)).success
        return weakref.ref(request)

    async def main() -> None:
        request = await asyncio.create_task(one())
        await asyncio.sleep(0)  # the loop lets go of the task
        gc.collect()
        assert request() is None

    asyncio.run(main())
    backend.close()


@pytest.mark.parametrize("turns", [1, 2, 3, None], ids=["1", "2", "3", "in its step"])
def test_a_run_whose_loop_was_closed_under_it_is_gone_on_with_in_the_same_process(
    tmp_path: Path, turns: int | None
) -> None:
    began: list[int] = []
    closed = False

    async def wait(value: int) -> int:
        began.append(value)
        if not closed:
            await asyncio.Event().wait()
        return value * 2

    backend = SQLiteBackend(tmp_path / "runs.db")
    runner: Flujo[Any, Any] = Flujo(Step("wait", wait), state_backend=backend)
    loop = asyncio.new_event_loop()
    task: Any = loop.create_task(runner.run_async(1, run_id="here"))
    if turns is None:
        while not began:
            loop.run_until_complete(asyncio.sleep(0))
    else:
        for _ in range(turns):
            loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    closed = True
    task._log_destroy_pending = False  # what asyncio says of such a task is right, and not what is tested
    del task
    gc.collect()
    assert asyncio.run(runner.run_async(1, run_id="here")).output == 2
    backend.close()


def test_a_forked_process_that_drops_its_parents_run_leaves_it_to_the_parent(tmp_path: Path) -> None:
    began = asyncio.Event()
    waiting: list[asyncio.Future[None]] = []

    async def wait(value: int) -> int:
        waiting.append(asyncio.get_running_loop().create_future())
        began.set()
        await waiting[0]
        return value * 2

    backend = SQLiteBackend(tmp_path / "runs.db")
    runner: Flujo[Any, Any] = Flujo(Step("wait", wait) >> Step("double", double), state_backend=backend)
    loop = asyncio.new_event_loop()
    run: Any = loop.create_task(runner.run_async(1, run_id="here"))
    loop.run_until_complete(began.wait())
    child = os.fork()
    if child == 0:
        run._log_destroy_pending = False
        dropped = weakref.ref(run)
        waiting.clear()  # nothing else holds the run, nor may the step's end raise: what reports it would hold it
        del run, loop
        gc.collect()
        backend.close()  # what it has been asked to write is written
        os._exit(dropped() is not None)
    assert os.waitpid(child, 0)[1] == 0
    waiting[0].set_result(None)
    assert loop.run_until_complete(run).output == 4
    loop.close()
    backend.close()
