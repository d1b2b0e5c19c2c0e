"""Many runs, little memory, busy processors, slow networks: nothing is lost, mixed up or left behind.

A test takes a part of its load; `FLUJO_STRESS=full` (`make stress`) gives it all.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import textwrap
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel, Field

from flujo import Flujo, Pipeline, Step, step

FULL = os.environ.get("FLUJO_STRESS") == "full"
RUNS = 10_000 if FULL else 1_500

both_twins = pytest.mark.parametrize("optimized", [True, False], ids=["optimized", "plain"])


class Ledger(BaseModel):
    owner: int = -1
    entries: list[str] = Field(default_factory=list)


@both_twins
async def test_thousands_of_runs_in_flight_each_end_with_their_own_result_and_context(
    optimized: bool,
) -> None:
    gate = asyncio.Event()
    waiting = 0

    def branch(name: str) -> Any:
        @step(name=name)
        async def work(value: int, *, context: Ledger) -> str:
            nonlocal waiting
            context.entries.append(f"{name} {value}")
            waiting += 1
            if waiting == RUNS * 2:
                gate.set()
            await gate.wait()
            return f"{name} {value}"

        return work

    @step(updates_context=True)
    async def sign(value: int) -> dict[str, int]:
        return {"owner": value}

    @step
    async def number(value: dict[str, int]) -> int:
        return value["owner"]

    pipeline = sign >> number >> Step.parallel("both", {"left": branch("left"), "right": branch("right")})
    runner = Flujo(pipeline, context_model=Ledger, enable_optimizations=optimized)
    results = await asyncio.gather(*(runner.run_async(run) for run in range(RUNS)))
    assert waiting == RUNS * 2  # all were in flight when the first went on
    for run, result in enumerate(results):
        assert result.output == {"left": f"left {run}", "right": f"right {run}"}
        assert result.final_pipeline_context == Ledger(owner=run, entries=[f"left {run}", f"right {run}"])
    assert len(asyncio.all_tasks()) == 1
    assert runner.get_performance_statistics()["execution_count"] == RUNS


@both_twins
def test_memory_is_given_back_when_little_is_there(optimized: bool) -> None:
    """Ten times the address space goes through it; what asks for too much fails alone."""
    runs, megabytes = (400, 4) if FULL else (60, 4)
    script = f"""
        import asyncio, resource
        from pydantic import BaseModel, Field
        from flujo import Flujo, Step, step

        class Large(BaseModel):
            data: list[bytes] = Field(default_factory=list)

        @step
        async def load(value: int, *, context: Large) -> int:
            context.data.extend(bytes([value % 256]) * 4096 for _ in range({megabytes} * 256))
            return value

        @step
        async def greedy(value: int) -> int:
            if value % 10 == 9:
                bytearray(1 << 40)
            return value

        def branch(name):
            @step(name=name)
            async def edit(value: int, *, context: Large) -> int:
                context.data[0] = name.encode()
                return len(context.data)
            return edit

        split = Step.parallel("split", {{n: branch(n) for n in ("a", "b")}}, merge_strategy="no_merge")
        runner = Flujo(load >> greedy >> split, context_model=Large, enable_optimizations={optimized})

        async def main():
            failed = 0
            await runner.run_async(0)
            mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            limit = mapped + 300_000_000
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            for number in range({runs}):
                result = await runner.run_async(number)
                if number % 10 == 9:
                    assert not result.success and isinstance(result.step_history[-1].error, MemoryError), result
                    failed += 1
                else:
                    assert result.output == {{"a": {megabytes} * 256, "b": {megabytes} * 256}}, result
            print(failed)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == runs // 10


@both_twins
async def test_steps_that_only_compute_leave_the_others_their_turns(optimized: bool) -> None:
    """Sync steps compute in threads, while asynchronous runs go on beside them on the loop."""
    busy = 200 if FULL else 24

    @step
    def digest(value: int) -> str:
        found = str(value).encode()
        for _ in range(20_000):
            found = hashlib.sha256(found).digest()
        return found.hex()

    @step
    async def light(value: int) -> int:
        await asyncio.sleep(0)
        return value + 1

    heavy = Flujo(digest, enable_optimizations=optimized)
    quick = Flujo(
        Pipeline(steps=[light, light.model_copy(update={"name": "again"})]), enable_optimizations=optimized
    )
    under_way = asyncio.gather(*(heavy.run_async(number) for number in range(busy)))
    done = 0
    while not under_way.done() or done < 100:
        assert (await quick.run_async(done)).output == done + 2
        done += 1
    outputs = [result.output for result in await under_way]
    assert len(set(outputs)) == busy
    assert outputs == [(await heavy.run_async(number)).output for number in range(busy)]


class SlowServer:
    """Answers byte by byte, hangs, or breaks off, by the request's number."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.open: set[asyncio.Task[Any]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        task.add_done_callback(self.open.discard)
        try:
            asked = (await reader.readline()).decode().strip()
            kind = asked.partition(" ")[0]
            self.seen[asked] += 1
            if kind in ("hang", ""):
                await reader.read()  # until the other side has had enough
            elif kind == "break" or (kind == "break-once" and self.seen[asked] == 1):
                writer.write(b"half of an ans")
                await writer.drain()
            else:
                for byte in f"answer to {asked}\n".encode():
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.001)
        except ConnectionError:
            pass
        finally:
            writer.close()


@both_twins
async def test_a_slow_network_costs_time_and_nothing_else(optimized: bool) -> None:
    """Slow answers arrive whole, broken and hanging ones are retried or fail as such, and no connection stays open."""
    rounds = 200 if FULL else 12
    slow = SlowServer()
    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connections = 0

    async def fetch(asked: str) -> str:
        nonlocal connections
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        connections += 1
        try:
            writer.write(f"{asked}\n".encode())
            answer = (await reader.readline()).decode()
            if not answer.endswith("\n"):
                raise ConnectionError(f"the answer broke off: {answer!r}")
            return answer.strip()
        finally:
            connections -= 1
            writer.close()

    # Only what never answers has a time limit: how slow an answer is depends on the machine.
    limits = {"slow": None, "break-once": None, "break": None, "hang": 0.5}
    runners = {
        kind: Flujo(Step("fetch", fetch, max_retries=1, timeout_s=limit), enable_optimizations=optimized)
        for kind, limit in limits.items()
    }
    asked = [f"{kind} {number}" for number in range(rounds) for kind in limits]
    async with server:
        results = await asyncio.gather(*(runners[q.partition(" ")[0]].run_async(q) for q in asked))
    for question, result in zip(asked, results, strict=True):
        found = result.step_history[0]
        kind = question.split()[0]
        if kind in ("break", "hang"):
            reason = "the answer broke off" if kind == "break" else "its time limit of 500ms"
            assert not result.success and reason in (found.feedback or ""), (question, found)
            assert found.attempts == 2
        else:
            assert result.output == f"answer to {question}", (question, found)
            assert found.attempts == (1 if kind == "slow" else 2)
    assert connections == 0
    await asyncio.gather(*slow.open)  # which ends only when no connection is left
    assert len(asyncio.all_tasks()) == 1
