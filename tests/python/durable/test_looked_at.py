"""Runs as they are looked at from any process: how they stand, what happened in them, what came of them."""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flujo import Flujo, Step
from flujo.application import _stored
from flujo.domain.usage import UsageLimits
from flujo.exceptions import UsageLimitExceededError
from flujo.state import SQLiteBackend

MODULE = """
from flujo import Flujo, PipelineContext, Step
from flujo.state import SQLiteBackend

class Total(PipelineContext):
    total: int = 0

async def add(x, *, context):
    context.total += 1
    return x + 1

def runner_of(path, gate=None):
    async def waits(x):
        if gate is not None:
            await gate()
        return x

    loop = Step.loop_until("loop", Step("add", add), lambda out, context: out >= 3, max_loops=9)
    fan = Step.parallel("fan", {"left": Step("left", add), "right": Step("right", waits)})
    ask = Step.human_in_the_loop("ask", "Go on?", bool)
    last = Step("last", lambda x: str(x))
    return Flujo(
        loop >> fan >> ask >> last, context_model=Total, pipeline_name="looked", state_backend=SQLiteBackend(path)
    )
"""

KILLED = """
import asyncio, sys
from looked_at import runner_of

async def gate():
    print("entered", flush=True)
    await asyncio.Event().wait()

asyncio.run(runner_of(sys.argv[1], gate).run_async(0, run_id="one"))
"""

READS = """
import asyncio, json, sys
from looked_at import runner_of

async def main(path, after):
    async for event in runner_of(path).get("one").events(after=after):
        print(json.dumps([event.kind, event.step, event.path, event.lane, event.time.isoformat()]), flush=True)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def process_of(code: str, path: Path, *arguments: object) -> subprocess.Popen[str]:
    """A process beside the module with the pipeline."""
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=path.parent,
    )


class Reader:
    """A process that reads the events of the run behind a number."""

    def __init__(self, path: Path, after: int) -> None:
        self._process = process_of(READS, path, after)

    def read(self, until: tuple[str, str]) -> list[Any]:
        """The events up to one of a kind and step."""
        assert self._process.stdout is not None
        events = []
        while not events or tuple(events[-1][:2]) != until:
            events.append(json.loads(self._process.stdout.readline()))
        return events

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


async def test_events_have_the_same_numbers_over_a_kill_a_pause_and_in_every_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "runs.db"
    (tmp_path / "looked_at.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    runner_of = importlib.import_module("looked_at").runner_of
    # 1. A process begins the run and is killed in a branch; another one reads meanwhile.
    process = process_of(KILLED, path)
    assert process.stdout is not None and process.stdout.readline() == "entered\n"
    reader = Reader(path, 0)
    seen = await asyncio.to_thread(reader.read, ("step_started", "right"))
    process.kill()
    process.communicate()
    reader.end()
    # 2. It goes on here as far as the question; whoever comes back misses nothing and gets nothing twice.
    runner = runner_of(path)
    assert (await runner.recover()).resumed == ["one"]
    reader = Reader(path, len(seen))
    seen += await asyncio.to_thread(reader.read, ("paused", "ask"))
    assert seen[-2][:2] == ["step_started", "ask"]
    # 3. It is answered in yet another one.
    other = runner_of(path)
    await other.get("one").answer(True)
    seen += await asyncio.to_thread(reader.read, ("run_finished", ""))
    reader.end()
    for after in (0, 1, len(seen) // 2, len(seen) - 1):
        again = [event async for event in runner_of(path).get("one").events(after=after)]
        told = [[event.kind, event.step, event.path, event.lane, event.time.isoformat()] for event in again]
        assert told == seen[after:]
    assert again[-1].data.output == "True"
    kinds = [kind for kind, *_ in seen]
    assert (kinds[0], kinds[-1]) == ("run_started", "run_finished")
    assert kinds.count("step_started") == kinds.count("step_finished") == 9
    assert kinds.count("paused") == 1


class Counted:
    """A store that counts how often a run is looked at and read, and how long reading took last."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.looks, self.reads, self.took = 0, 0, 0.0
        self.looked = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def info(self, *of: Any, **how: Any) -> Any:
        self.looks += 1
        if self.looks == 5:
            self.looked.set()
        return await self._store.info(*of, **how)

    async def events(self, *of: Any, **how: Any) -> Any:
        self.reads += 1
        began = asyncio.get_running_loop().time()
        told = await self._store.events(*of, **how)
        self.took = asyncio.get_running_loop().time() - began
        return told


async def test_a_run_that_stands_still_is_looked_at_and_not_read_again_and_a_follower_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Step.human_in_the_loop("ask", "Go on?", bool)

    def runner_of() -> Flujo[Any, Any]:
        return Flujo(ask, pipeline_name="still", state_backend=SQLiteBackend(tmp_path / "runs.db"))

    runner, follower = runner_of(), runner_of()
    assert (await runner.run_async(1, run_id="one")).status == "paused"
    assert follower._kept is not None
    store = Counted(follower._kept.store)
    monkeypatch.setattr(follower, "_kept", SimpleNamespace(store=store))
    rests, sleep = [], asyncio.sleep

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await sleep(0)

    monkeypatch.setattr(_stored, "SOONEST", 0.0)
    monkeypatch.setattr(asyncio, "sleep", rest)
    events = follower.get("one").events()
    assert [(await anext(events)).kind for _ in range(3)] == ["run_started", "step_started", "paused"]
    following = asyncio.ensure_future(anext(events))
    await store.looked.wait()
    assert store.reads == 1
    assert rests[0] >= _stored.REST * store.took
    await runner.get("one").answer(True)
    assert (await following).kind == "step_finished"


async def test_a_negative_number_of_events_seen_is_refused(tmp_path: Path) -> None:
    runner: Flujo[Any, Any] = Flujo(
        Step("one", lambda x: x), pipeline_name="p", state_backend=SQLiteBackend(tmp_path / "runs.db")
    )
    await runner.run_async(1, run_id="one")
    with pytest.raises(ValueError, match="after=-1: a number of events"):
        await anext(runner.get("one").events(after=-1))


class Gate:
    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def run(self, x: Any) -> Any:
        self.entered.set()
        await self.open.wait()
        return x


async def breaks(x: Any) -> Any:
    raise ValueError("it broke")


class Dear:
    """What an agent gives that costs more than is allowed."""

    output, cost_usd, token_counts = "dear", 0.0, 100


async def costs(x: Any) -> Any:
    return Dear()


async def test_a_run_is_looked_at_from_any_process_however_it_stands(tmp_path: Path) -> None:
    gate, cut_off = Gate(), Gate()
    first = Step("first", lambda x: x + 1)

    def runner_of(status: str, **options: Any) -> Flujo[Any, Any]:
        second = {
            "running": Step("gate", gate),
            "cancelled": Step("gate", cut_off),
            "paused": Step.human_in_the_loop("ask", "How many?", int),
            "completed": Step("add", lambda x: x + 1),
            "failed": Step("breaks", breaks, max_retries=0),
            "limit_exceeded": Step("costs", costs),
        }[status]
        backend = SQLiteBackend(tmp_path / "runs.db")
        limits = UsageLimits(total_tokens_limit=50)
        last = Step("last", lambda x: x)
        return Flujo(
            first >> second >> last,
            pipeline_name=status,
            state_backend=backend,
            usage_limits=limits,
            **options,
        )

    handles = {}
    for status in ("paused", "completed", "failed", "limit_exceeded", "cancelled", "running"):
        handle = handles[status] = await runner_of(status).start(1, run_id=status)
        if status == "cancelled":
            await cut_off.entered.wait()
            await handle.cancel()
        elif status == "running":
            await gate.entered.wait()
        else:
            with suppress(UsageLimitExceededError):
                await handle.result()
    for status, own in handles.items():
        other = runner_of(status).get(status)
        assert await other.status() == await own.status() == status
        events = other.events()
        assert (await anext(events)).kind == "run_started"
        await events.aclose()
    with pytest.raises(UsageLimitExceededError) as raised:
        await runner_of("limit_exceeded").get("limit_exceeded").result()
    assert raised.value.result is not None and raised.value.result.status == "limit_exceeded"
    for status, output, steps in (
        ("paused", 2, ["first"]),
        ("completed", 3, ["first", "add", "last"]),
        ("failed", None, ["first", "breaks"]),
        ("cancelled", None, ["first", "gate"]),
    ):
        result = await runner_of(status).get(status).result()
        assert (result.status, [step.name for step in result.step_history]) == (status, steps)
        if output is not None:
            assert result.output == output
    waiting = asyncio.create_task(runner_of("running").get("running").result())
    gate.open.set()
    assert (await waiting).output == (await handles["running"].result()).output == 2


async def test_a_run_that_was_stopped_and_goes_on_is_told_whole_from_its_beginning(tmp_path: Path) -> None:
    gate = Gate()

    def runner_of() -> Flujo[Any, Any]:
        first, last = Step("first", lambda x: x + 1), Step("last", lambda x: x)
        backend = SQLiteBackend(tmp_path / "runs.db")
        return Flujo(first >> Step("gate", gate) >> last, pipeline_name="stopped", state_backend=backend)

    async def told(runner: Flujo[Any, Any]) -> list[tuple[str, str]]:
        return [(event.kind, event.step) async for event in runner.get("one").events()]

    here, there = runner_of(), runner_of()
    handle = await here.start(1, run_id="one")
    await gate.entered.wait()
    assert (await handle.cancel()).status == "cancelled"
    before = [
        ("run_started", ""),
        ("step_started", "first"),
        ("step_finished", "first"),
        ("step_started", "gate"),
    ]
    assert await told(there) == await told(here) == [*before, ("step_failed", "gate"), ("run_finished", "")]
    gate.open.set()
    assert (await there.resume_async("one")).status == "completed"
    rest = [
        ("step_finished", "gate"),
        ("step_started", "last"),
        ("step_finished", "last"),
        ("run_finished", ""),
    ]
    assert await told(there) == await told(here) == [*before, *rest]
