"""Replays of stored runs: the context and the usage that they end with, beside those that they had ended with."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from flujo import Flujo, PipelineContext, Step, UsageLimits
from flujo.agents import AgentResult, AgentUsage
from flujo.domain.dsl import Pipeline
from flujo.domain.replay import ABSENT
from flujo.exceptions import UsageLimitExceededError
from flujo.state import InMemoryBackend, SQLiteBackend
from flujo.testing import replay_test


class Line(BaseModel):
    what: str = ""
    count: Any = 0


class Order(PipelineContext):
    total: Any = None
    spare: Any = None
    lines: list[Line] = Field(default_factory=list)
    by_name: dict[str, Any] = Field(default_factory=dict)


def gives(name: str, what: Any, **options: Any) -> Step[Any, Any]:
    return Step(name, lambda _: what, **options)


def paying(name: str, cost_usd: float = 0.25) -> Step[Any, Any]:
    async def pay(x: Any) -> Any:
        usage = AgentUsage(cost_usd=cost_usd, total_tokens=50, requests=2)
        return AgentResult(x, usage=usage)

    return Step(name, pay)


def differing(replayed: Any) -> list[tuple[str, str, Any, Any]]:
    return [(one.path, one.what, one.recorded, one.now) for one in replayed.differences]


async def test_each_place_in_the_context_that_holds_something_else_is_told() -> None:
    def pipeline(one: str, two: str, after: Any) -> Pipeline[Any, Any]:
        def change(out: Any, context: Order) -> Any:  # mappers run again
            context.lines.append(Line(what="tea", count=after))
            context.by_name["green"] = {"count": after}
            context.by_name["since" if after is True else "until"] = None
            return out

        return (
            gives("one", "first", sink_to=one)
            >> gives("two", "second", sink_to=two)
            >> Step.loop_until("loop", gives("body", "same"), lambda *_: True, loop_output_mapper=change)
        )

    backend = InMemoryBackend()
    made: dict[str, Any] = {"context_model": Order, "state_backend": backend, "pipeline_name": "order"}
    then = Flujo(pipeline("total", "spare", 1), **made)
    result = await then.run_async(0, run_id="7")
    assert result.final_pipeline_context.lines == [Line(what="tea", count=1)]
    assert (await then.replay("7")).equal

    now = Flujo(pipeline("spare", "total", True), **made)
    replayed = await now.replay("7")
    assert replayed.result.output == result.output
    assert differing(replayed) == [
        ("total", "context", "first", "second"),
        ("spare", "context", "second", "first"),
        ("lines[0].count", "context", 1, True),
        ("by_name.green.count", "context", 1, True),
        ("by_name.until", "context", None, ABSENT),
        ("by_name.since", "context", ABSENT, None),
    ]
    assert "the run: context.total was 'first', is 'second'" in str(replayed)
    assert "the run: context.by_name.since was nothing, is None" in str(replayed)
    with pytest.raises(AssertionError, match=r"context\.total was 'first', is 'second'"):
        await asyncio.to_thread(replay_test("7", now))
    # What agents are asked and people are told is the same.
    assert (await now.replay_from_trace("7")).output == result.output


async def test_what_a_run_used_is_what_it_had_used_however_it_ended(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "runs.db")

    def runner(name: str, pipeline: Any, **options: Any) -> Flujo[Any, Any]:
        return Flujo(pipeline, context_model=Order, state_backend=backend, pipeline_name=name, **options)

    async def failing(x: Any) -> Any:
        raise ValueError("no")

    lanes = Step.parallel("fan", {"left": paying("left"), "right": paying("right")})
    items = Step.map_over("items", Pipeline.from_step(paying("item")), iterable_input="spare")
    turns = Step.loop_until("turns", paying("turn"), lambda out, context: True)
    asks = paying("one") >> Step.human_in_the_loop("ask", "go on?", sink_to="total")
    runners = {
        "completes": runner("completes", lanes >> gives("list", [1, 2], sink_to="spare") >> items >> turns),
        "fails": runner("fails", paying("one") >> Step("fails", failing, max_retries=0)),
        "limited": runner(
            "limited",
            paying("one") >> paying("two"),
            usage_limits=UsageLimits(total_tokens_limit=80),
        ),
        "asks": runner("asks", asks >> paying("two")),
    }
    used: dict[str, float] = {}
    for run_id, one in runners.items():
        try:
            result = await one.run_async("x", run_id=run_id)
        except UsageLimitExceededError as error:
            assert error.result is not None
            result = error.result
        if result.status == "paused":
            result = await one.resume_async(run_id, "yes")
        used[run_id] = result.total_cost_usd
    assert used == {"completes": 1.25, "fails": 0.25, "limited": 0.5, "asks": 0.5}
    for run_id, one in runners.items():
        replayed = await one.replay(run_id)
        assert replayed.equal, str(replayed)
        assert replayed.result.total_cost_usd == used[run_id]

    dearer = runner("asks", asks >> paying("two", cost_usd=100.0))
    assert (await dearer.replay("asks")).equal, "a call costs what it had cost"
    shorter = await runner("asks", asks).replay("asks")
    assert differing(shorter) == [
        ("two", "call", "yes", None),
        ("cost_usd", "usage", 0.5, 0.25),
        ("tokens", "usage", 100, 50),
        ("requests", "usage", 4, 2),
    ]
    assert "the run: usage.cost_usd was 0.5, is 0.25" in str(shorter)


async def test_what_a_call_used_that_was_cancelled_counts_again() -> None:
    begun = asyncio.Event()

    async def lasting(x: Any) -> Any:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as cancelled:
            cancelled.usage = AgentUsage(cost_usd=0.125, total_tokens=7)
            raise

    runner = Flujo(paying("one") >> Step("slow", lasting), state_backend=InMemoryBackend())
    run = asyncio.ensure_future(runner.run_async(1, run_id="7"))
    await begun.wait()
    run.cancel()
    await asyncio.wait([run])
    replayed = await runner.replay("7")
    assert replayed.equal, str(replayed)
    assert (replayed.result.status, replayed.result.total_cost_usd) == ("cancelled", 0.375)


def test_the_command_says_that_it_cannot_read_the_context_of_a_run_of_python(tmp_path: Path) -> None:
    backend = SQLiteBackend(tmp_path / "runs.db")
    Flujo(gives("a", "x"), state_backend=backend, pipeline_name="p").run("x", run_id="7")
    backend.close()
    (tmp_path / "p.yaml").write_text("steps: [{name: a, agent: {type: template, template: x}}]")

    def said(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "flujo", "runs", "replay", "7", "--store", "runs.db"]
        given = ["--pipeline", "p.yaml", *options]
        return subprocess.run([*command, *given], cwd=tmp_path, capture_output=True, text=True, check=False)

    report = said("--json")
    assert report.returncode == 1, report.stderr
    told = {"path": "", "attempt": 0, "what": "context", "recorded": None, "now": None}
    assert json.loads(report.stdout)["differences"] == [told]
    why = "the run's context: can't be compared, since only the program that kept the run can read it\n"
    assert said().stdout == why
