"""Runs that another process goes on with, which wants something else than the one that began them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flujo import Flujo, Step, UsageLimits
from flujo.exceptions import UsageLimitExceededError
from flujo.state import SQLiteBackend


class Costly:
    """An answer of 10 tokens."""

    def __init__(self, output: int) -> None:
        self.output = output
        self.token_counts = 10
        self.cost_usd = 0.0


class Program:
    """A run that asks between two calls, in a lane, and what becomes of it in other processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.calls: list[str] = []

    def step(self, name: str) -> Step[Any, Any]:
        async def work(_: Any) -> Any:
            self.calls.append(name)
            return Costly(1)

        return Step(name, work)

    def runner(self, **options: Any) -> Flujo[Any, Any]:
        branch = self.step("b") >> Step.human_in_the_loop("ask") >> self.step("c")
        lanes = Step.parallel("lanes", {"asks": branch, "other": self.step("d")})
        pipeline = self.step("a") >> lanes >> self.step("e")
        backend = SQLiteBackend(self.path / "runs.db")
        return Flujo(pipeline, pipeline_name="asks", state_backend=backend, **options)

    async def begins(self, **options: Any) -> None:
        done = await self.runner(**options).run_async(0, run_id="one")
        assert (done.status, done.total_tokens) == ("paused", 30)

    async def goes_on(self, **options: Any) -> Any:
        return await self.runner(**options).resume_async("one", "yes")


async def test_the_limits_hold_of_whoever_goes_on(tmp_path: Path) -> None:
    program = Program(tmp_path)
    await program.begins()
    with pytest.raises(UsageLimitExceededError) as raised:
        await program.goes_on(usage_limits=UsageLimits(total_tokens_limit=35))
    assert raised.value.result is not None and raised.value.result.total_tokens == 40
    assert program.calls.count("e") == 0


async def test_a_run_that_began_within_limits_goes_on_without_them(tmp_path: Path) -> None:
    program = Program(tmp_path)
    await program.begins(usage_limits=UsageLimits(total_tokens_limit=35))
    done = await program.goes_on()
    assert (done.status, done.total_tokens) == ("completed", 50)


async def test_the_hooks_are_called_of_whoever_goes_on(tmp_path: Path) -> None:
    program = Program(tmp_path)
    heard: list[tuple[str, str]] = []

    async def hook(payload: Any) -> None:
        about = getattr(payload, "step", None) or getattr(payload, "step_result", None)
        heard.append((payload.event_name, about.name if about else ""))

    await program.begins()
    done = await program.goes_on(hooks=[hook])
    assert done.status == "completed"
    assert ("pre_step", "e") in heard and ("post_step", "c") in heard
    assert heard[-1][0] == "post_run"


async def test_a_run_that_began_with_hooks_goes_on_without_them(tmp_path: Path) -> None:
    program = Program(tmp_path)
    heard: list[str] = []

    async def hook(payload: Any) -> None:
        heard.append(payload.event_name)

    await program.begins(hooks=[hook])
    before = len(heard)
    done = await program.goes_on()
    assert (done.status, done.total_tokens) == ("completed", 50)
    assert before > 0 and len(heard) == before
