"""Telemetry under the names of earlier versions: another way to what exists."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from otlp_receiver import PATIENCE_S, http_receiver, one_tree
from prometheus_client import CollectorRegistry, generate_latest

from flujo import Flujo, Step, Telemetry
from flujo.domain.events import PostRunPayload
from flujo.telemetry import OpenTelemetryHook, PrometheusCollector, init_telemetry, start_prometheus_server


@pytest.fixture(autouse=True)
def process_wide() -> Iterator[None]:
    from flujo.infra import telemetry

    yield
    if telemetry._of_process is not None:
        telemetry._of_process.shutdown()
    telemetry._of_process = None


async def plus(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


async def test_a_hook_sends_the_spans_of_its_runner_to_a_collector_and_other_hooks_are_told_as_ever() -> None:
    told: list[bool] = []

    async def ended(payload: PostRunPayload) -> None:
        told.append(payload.pipeline_result.success)

    with http_receiver() as at:
        hook = OpenTelemetryHook(mode="otlp", endpoint=at.endpoint)
        runner = Flujo(Step("one", plus), hooks=[hook.hook, ended], pipeline_name="p")
        assert (await runner.run_async(1)).output == 2
        assert hook.telemetry.flush(PATIENCE_S)
        assert one_tree(at.received.spans).names() == ["run p", ["one", ["attempt 1"]]]
        hook.telemetry.shutdown()
    assert told == [True]
    assert runner.hooks == [ended]


async def test_a_hook_prints_each_run_on_the_console(capfd: pytest.CaptureFixture[str]) -> None:
    hook = OpenTelemetryHook(mode="console")
    await Flujo(Step("one", plus), hooks=[hook.hook], pipeline_name="p").run_async(1)
    hook.telemetry.shutdown(PATIENCE_S)
    printed = capfd.readouterr().err
    assert "run p" in printed and "one" in printed


def test_a_hook_that_makes_no_sense_is_refused() -> None:
    wrong: Any = "file"
    with pytest.raises(ValueError, match="mode must be 'console' or 'otlp'"):
        OpenTelemetryHook(mode=wrong)
    with pytest.raises(ValueError, match="endpoint is for mode='otlp'"):
        OpenTelemetryHook(mode="console", endpoint="http://localhost:4318")
    hook = OpenTelemetryHook()
    with pytest.raises(TypeError, match="one OpenTelemetryHook or a telemetry"):
        Flujo(Step("one", plus), hooks=[hook.hook], telemetry=Telemetry())
    with pytest.raises(TypeError, match="one OpenTelemetryHook or a telemetry"):
        Flujo(Step("one", plus), hooks=[hook.hook, OpenTelemetryHook().hook])


def read(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S) as answer:
        body: str = answer.read().decode()
    return body


async def test_a_server_serves_the_runs_of_the_runners_made_after_it() -> None:
    wait_ready, port = start_prometheus_server(0)
    assert wait_ready(PATIENCE_S) is True
    await Flujo(Step("one", plus), pipeline_name="served").run_async(1)
    assert 'pipeline="served"' in await asyncio.to_thread(read, port)


async def test_a_server_of_a_telemetry_is_that_one_and_its_runs_are_collected_too() -> None:
    telemetry = Telemetry(prometheus=0)
    wait_ready, port = start_prometheus_server(8000, telemetry)
    assert telemetry.prometheus_address == f"127.0.0.1:{port}"
    assert wait_ready(PATIENCE_S) is True
    await Flujo(Step("one", plus), telemetry=telemetry, pipeline_name="own").run_async(1)
    registry = CollectorRegistry()
    registry.register(PrometheusCollector(telemetry))
    collected = generate_latest(registry).decode()
    own = [line for line in collected.splitlines() if 'pipeline="own"' in line and "run" in line]
    assert own and any(line.endswith(" 1.0") for line in own)
    telemetry.shutdown()
    assert wait_ready(1) is False


async def test_a_collector_without_a_telemetry_counts_the_process_s_own() -> None:
    collector = PrometheusCollector()
    await Flujo(Step("one", plus), pipeline_name="mine").run_async(1)
    assert 'pipeline="mine"' in collector.telemetry.metrics()
    assert PrometheusCollector().telemetry is collector.telemetry
    assert init_telemetry(collector.telemetry) is collector.telemetry


def test_what_can_t_be_served_is_refused() -> None:
    wrong: Any = {}
    with pytest.raises(TypeError, match=r"backend must be a flujo\.Telemetry.*not dict"):
        start_prometheus_server(0, wrong)
    with pytest.raises(ValueError, match="serves no metrics"):
        start_prometheus_server(0, Telemetry())
    with pytest.raises(ValueError, match="a port from 0 to 65535"):
        start_prometheus_server(70_000)
