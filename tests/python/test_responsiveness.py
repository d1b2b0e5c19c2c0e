"""Work on large contexts stops neither the event loop nor Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import ConfigDict

from flujo import Flujo, Step, step
from flujo.domain.models import PipelineContext

LARGE = 150_000
"""Lists in a context whose merge takes a multiple of the 5 ms after which the loop is to get its turn."""

FEW_TURNS = 20
"""More turns than the loop takes between two steps when nothing else happens."""


def rows() -> dict[int, list[int]]:
    return {number: [number] for number in range(LARGE)}


class Table(PipelineContext):
    rows: dict[int, list[int]]


@contextlib.asynccontextmanager
async def heartbeat() -> Any:
    """A task that takes every turn the loop has; gives a function that counts them."""
    turns = 0

    async def beat() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(beat())
    try:
        yield lambda: turns
    finally:
        task.cancel()


def writer(key: int, ended: Callable[[], None] = lambda: None) -> Step[Any, Any]:
    async def write(x: int, *, context: Table) -> int:
        context.rows[key].append(-1)
        ended()
        return x

    return Step(f"write_{key}", write)


async def test_the_loop_goes_on_while_large_branches_are_merged() -> None:
    ended: list[int] = []
    merged: list[int] = []
    async with heartbeat() as turns:

        @step
        async def look(x: Any, *, context: Table) -> list[list[int]]:
            merged.append(turns())
            return [context.rows[1], context.rows[2], context.rows[3]]

        branches = {
            "first": writer(1, lambda: ended.append(turns())),
            "second": writer(2, lambda: ended.append(turns())),
        }
        runner = Flujo(
            Step.parallel("both", branches) >> look,
            context_model=Table,
            initial_context_data={"initial_prompt": "", "rows": rows()},
        )
        result = await runner.run_async(1)
    assert result.output == [[1, -1], [2, -1], [3]]
    assert merged[0] - max(ended) > FEW_TURNS


async def test_the_loop_goes_on_while_a_large_change_that_somebody_keeps_is_committed() -> None:
    kept: list[Any] = []
    ended: list[int] = []
    committed: list[int] = []
    async with heartbeat() as turns:

        @step
        async def write(x: int, *, context: Table) -> int:
            context.rows[1].append(-1)
            kept.append(context.rows)
            ended.append(turns())
            return x

        @step
        async def look(x: int, *, context: Table) -> list[int]:
            committed.append(turns())
            return context.rows[1]

        runner = Flujo(
            write >> look,
            context_model=Table,
            initial_context_data={"initial_prompt": "", "rows": rows()},
        )
        result = await runner.run_async(1)
    assert result.output == [1, -1]
    assert committed[0] - ended[0] > FEW_TURNS


async def test_a_small_merge_takes_no_turn_of_its_own() -> None:
    threads = threading.active_count()
    runner = Flujo(
        Step.parallel("both", {"first": writer(1), "second": writer(2)}),
        context_model=Table,
        initial_context_data={"initial_prompt": "", "rows": {number: [] for number in range(100)}},
    )
    result = await runner.run_async(1)
    assert result.final_pipeline_context.rows[1] == [-1]
    assert result.final_pipeline_context.rows[2] == [-1]
    assert threading.active_count() == threads


class Tripwire:
    """A value that tells when a worker thread compares it."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.met = threading.Event()
        self.go_on = threading.Event()

    def __deepcopy__(self, memo: dict[int, Any]) -> Tripwire:
        twin = Tripwire.__new__(Tripwire)
        vars(twin).update(vars(self))
        return twin

    def __reduce_ex__(self, protocol: Any) -> Any:
        if threading.current_thread() is not self.thread:
            self.met.set()
            assert self.go_on.wait(60)
        return (Tripwire, ())


class Guarded(PipelineContext):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    rows: dict[int, list[Any]]
    after: dict[int, list[Any]]


@pytest.mark.parametrize("stuck", [False, True])
async def test_a_merge_of_a_cancelled_run_ends_early_and_writes_nothing(stuck: bool) -> None:
    tripwire = Tripwire()

    def touching(key: int) -> Step[Any, Any]:
        async def touch(x: int, *, context: Guarded) -> int:
            context.rows[1].append(key)
            context.after[key].append(key)
            return x

        return Step(f"touch_{key}", touch)

    merged: list[bool] = []

    @step
    async def look(x: Any, *, context: Guarded) -> None:
        merged.append(True)

    # Where both branches have appended, a merge looks at what was there before; a commit doesn't.
    data = {"initial_prompt": "", "rows": {**rows(), 1: [tripwire]}, "after": rows()}
    runner = Flujo(
        Step.parallel("both", {"first": touching(1), "second": touching(2)}) >> look,
        context_model=Guarded,
        initial_context_data=data,
    )
    task = asyncio.ensure_future(runner.run_async(1))
    while not tripwire.met.is_set():
        await asyncio.sleep(0)
    task.cancel()
    if not stuck:
        tripwire.go_on.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    tripwire.go_on.set()
    assert merged == []
    context = caught.value.flujo_result.final_pipeline_context
    assert len(context.rows[1]) == 1
    assert (context.after[1], context.after[2]) == ([1], [2])


PRELUDE = """
    import asyncio, signal, sys
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin deaf to it
    from flujo import Flujo, Step, StepConfig, step
    from flujo.domain.backoff import Backoff
    from flujo.domain.models import PipelineContext

    def say(*words):
        print(*words, flush=True)
"""

LONG_WAIT = """
    @step
    async def wait(x: int) -> int:
        say("ready")
        await asyncio.Event().wait()

    runner = Flujo(wait)
"""

BACKOFF = """
    async def fail(x: int) -> int:
        say("ready")
        raise ValueError("no")

    runner = Flujo(Step("fail", fail, config=StepConfig(max_retries=5, backoff=Backoff.fixed(3600))))
"""

SYNC_STEP = """
    import threading

    @step
    def block(x: int) -> int:
        say("ready")
        threading.Event().wait()

    runner = Flujo(block)
"""

LARGE_MERGE = """
    class Table(PipelineContext):
        rows: dict[int, list[int]]

    ended = 0

    def writer(key):
        async def write(x: int, *, context: Table) -> int:
            global ended
            context.rows[key].append(-1)
            ended += 1
            if ended == 2:
                asyncio.get_running_loop().call_soon(say, "ready")
            return x

        return Step(f"write_{key}", write)

    @step
    async def look(x, *, context: Table) -> None:
        say("too late")

    runner = Flujo(
        Step.parallel("both", {"first": writer(1), "second": writer(2)}) >> look,
        context_model=Table,
        initial_context_data={"initial_prompt": "", "rows": {n: [n] for n in range(400_000)}},
    )
"""

RUN = """
    try:
        runner.run(1)
    except KeyboardInterrupt:
        say("interrupted")
        raise
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("script", [LONG_WAIT, BACKOFF, SYNC_STEP, LARGE_MERGE])
def test_an_interrupt_ends_the_run_at_once_and_is_not_retried(script: str) -> None:
    source = "".join(textwrap.dedent(part) for part in (PRELUDE, script, RUN))
    with subprocess.Popen(
        [sys.executable, "-c", source], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            child.send_signal(signal.SIGINT)
            rest, errors = child.communicate(timeout=60)
        finally:
            child.kill()
    assert rest == "interrupted\n"
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert child.returncode == -signal.SIGINT


@pytest.mark.parametrize("whole_loop", [False, True])
def test_an_interrupt_inside_a_branch_ends_the_run_and_leaves_no_branch_waiting(whole_loop: bool) -> None:
    ended: list[str] = []

    async def interrupted(value: int) -> int:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    async def sibling(value: int) -> int:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("sibling")
        return value

    inner = Step.parallel("inner", {"a": Step("a", interrupted), "b": Step("b", sibling)})
    runner = Flujo(Step.parallel("outer", {"inner": inner}))

    async def run() -> None:
        await runner.run_async(1)

    with pytest.raises(KeyboardInterrupt):
        if whole_loop:
            asyncio.run(run())
        else:
            runner.run(1)
    assert ended == ["sibling"]


async def test_without_a_thread_large_contexts_are_worked_on_all_the_same() -> None:
    @step
    async def look(x: Any, *, context: Table) -> list[list[int]]:
        return [context.rows[key] for key in (1, 2, 3, 4)]

    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    pipeline = writer(3) >> Step.parallel("both", {"first": writer(1), "second": writer(2)}) >> look
    data = {"initial_prompt": "", "rows": rows()}
    runner = Flujo(pipeline, context_model=Table, initial_context_data=data, executor=executor)
    assert (await runner.run_async(1)).output == [[1, -1], [2, -1], [3, -1], [4]]
