"""Runs of a registered pipeline go on with the version that they began with."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from flujo import Flujo, Pipeline, Step
from flujo.exceptions import DefinitionChangedError
from flujo.infra.registry import PipelineRegistry
from flujo.state import SQLiteBackend


def times(factor: int) -> Step[Any, Any]:
    return Step("times", lambda x: x * factor)


def pipeline(factor: int) -> Pipeline[Any, Any]:
    ask = Step.human_in_the_loop("ask", "How many?", int)
    return times(factor) >> ask >> Step("again", lambda x: x * factor)


def registered(*versions: str) -> PipelineRegistry:
    """Versions that differ in what their functions do alone."""
    registry = PipelineRegistry()
    for version in versions:
        registry.register(pipeline(int(version)), "count", version)
    return registry


def runner(path: Path, registry: PipelineRegistry, version: str = "latest") -> Flujo[Any, Any]:
    return Flujo(
        registry=registry,
        pipeline_name="count",
        pipeline_version=version,
        state_backend=SQLiteBackend(path / "runs.db"),
    )


async def test_a_run_goes_on_with_the_version_it_began_with_although_there_is_a_later_one(
    tmp_path: Path,
) -> None:
    before = runner(tmp_path, registered("1"))
    assert (await before.run_async(10, run_id="one")).output == 10
    later = runner(tmp_path, registered("1", "2"))
    assert (await later.run_async(10, run_id="two")).output == 20
    assert (await later.resume_async("one", 7)).output == 7
    # The older one's runner knows the registry it was given.
    both = runner(tmp_path, registered("1", "2"), version="1")
    assert (await both.resume_async("two", 7)).output == 14
    state = await SQLiteBackend(tmp_path / "runs.db").load_state("one")
    assert state is not None and state["pipeline_version"] == "1"


async def test_the_versions_of_one_pipeline_may_have_other_steps(tmp_path: Path) -> None:
    registry = registered("1")
    assert (await runner(tmp_path, registry).run_async(10, run_id="one")).status == "paused"
    registry.register(Step("other", lambda x: x), "count", "2")
    later = runner(tmp_path, registry)
    assert (await later.run_async(10, run_id="two")).output == 10
    handle = later.get("one")
    await handle.answer(3)
    assert (await handle.result()).output == 3
    assert [result.name for result in (await later.result("one")).step_history] == ["times", "ask", "again"]
    assert (await later.run_async(10, run_id="one")).output == 3


async def test_a_worker_takes_each_run_with_its_version_and_leaves_unknown_ones_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entered = {version: asyncio.Event() for version in ("1", "2", "3")}

    def waits(version: str, forever: bool) -> Step[Any, Any]:
        async def work(x: Any) -> str:
            entered[version].set()
            if forever:
                await asyncio.Event().wait()
            return f"by {version}"

        return Step("work", work)

    def with_versions(*versions: str, forever: bool = False) -> PipelineRegistry:
        registry = PipelineRegistry()
        for version in versions:
            registry.register(waits(version, forever), "count", version)
        return registry

    for version in entered:
        begins = runner(tmp_path, with_versions("1", "2", "3", forever=True), version)
        await begins.start(1, run_id=version)
        await entered[version].wait()
        await begins.aclose()
    other: Flujo[Any, Any] = Flujo(
        Step("other", lambda x: x), pipeline_name="another", state_backend=SQLiteBackend(tmp_path / "runs.db")
    )
    assert (await other.recover()).resumed == []
    worker = runner(tmp_path, with_versions("1", "2"))
    async with worker.worker():
        for version in ("1", "2"):
            assert (await worker.result(version)).output == f"by {version}"
        while "'3'" not in caplog.text:
            await asyncio.sleep(0)
    report = await worker.recover()
    assert list(report.skipped) == ["3"] and "isn't registered" in report.skipped["3"]
    with pytest.raises(DefinitionChangedError, match="version '3'") as raised:
        await worker.run_async(1, run_id="3")
    assert raised.value.differences == ["version '3' isn't registered"]
    assert (await runner(tmp_path, with_versions("3")).recover()).resumed == ["3"]


async def test_a_run_of_another_version_is_answered_and_stopped_where_it_is_under_way(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def waits(x: Any) -> Any:
        await gate.wait()
        return x

    registry = PipelineRegistry()
    ask = Step.human_in_the_loop("ask", "How many?", int)
    registry.register(Step.parallel("both", {"asks": ask, "works": Step("waits", waits)}), "count", "1")
    here = runner(tmp_path, registry)
    run = asyncio.create_task(here.run_async(10, run_id="one"))
    registry.register(Step("other", lambda x: x), "count", "2")
    there = runner(tmp_path, registry)
    native = SQLiteBackend(tmp_path / "runs.db")._opened()
    loop = asyncio.get_running_loop()
    while await native.info("one", event_loop=loop) is None:
        await asyncio.sleep(0)
    while not await native.questions("one", event_loop=loop):
        await asyncio.sleep(0)
    with pytest.raises(ValueError, match="valid integer"):
        await there.get("one").answer("many")
    await there.get("one").answer(5)
    gate.set()
    assert (await run).output == {"asks": 5, "works": 10}
