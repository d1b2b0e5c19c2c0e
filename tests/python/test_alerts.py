"""Alerts: a step that takes too long, memory that grows, a part that gives way; who is told, and how often."""

from __future__ import annotations

import asyncio
import logging
import os
import queue
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import virtual_time

from flujo import Alert, Flujo, OptimizationConfig, Pipeline, Step, step

THRESHOLD = OptimizationConfig(execution_time_threshold=0.1)


def sleeper(name: str, optimization: OptimizationConfig | None = None) -> Step[Any, Any]:
    async def sleep(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    return step(name=name, optimization=optimization)(sleep)


def runs(runner: Flujo[Any, Any], *inputs: float) -> None:
    async def main() -> None:
        for seconds in inputs:
            result = await runner.run_async(seconds)
            assert result.output == seconds

    virtual_time.run(main())


def raised(runner: Flujo[Any, Any]) -> list[dict[str, Any]]:
    alerts: list[dict[str, Any]] = runner.get_performance_statistics()["alerts"]
    return alerts


@pytest.mark.parametrize("optimized", [True, False])
def test_a_slow_step_is_told_of_once_per_crossing_by_both_twins(
    optimized: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="flujo.monitor")
    runner = Flujo(sleeper("work"), optimization_config=THRESHOLD, enable_optimizations=optimized)
    runs(runner, 0.05, 0.15, 0.15, 0.151, 0.02, 0.1, 0.101)
    assert [alert["value"] for alert in raised(runner)] == [0.15, 0.101]
    assert raised(runner)[0]["kind"] == "execution_time"
    assert raised(runner)[0]["step"] == "work"
    assert raised(runner)[0]["threshold"] == 0.1
    assert [record.name for record in caplog.records] == ["flujo.monitor"] * 2
    assert "work" in caplog.text and "0.150 s" in caplog.text
    counts = {"raised": 2, "callbacks_failed": 0, "callbacks_skipped": 0}
    assert runner.get_performance_statistics()["alert_stats"] == counts
    runner.reset_performance_statistics()
    assert raised(runner) == []
    runs(runner, 0.2)
    assert len(raised(runner)) == 1


def test_each_step_is_watched_by_the_nearest_threshold() -> None:
    inner = Pipeline(
        [sleeper("strict", OptimizationConfig(execution_time_threshold=0.01)), sleeper("patient")],
        optimization=OptimizationConfig(execution_time_threshold=1),
    )
    runner = Flujo(sleeper("usual") >> inner.as_step("inner"), optimization_config=THRESHOLD)
    runs(runner, 0.03)
    assert [alert["step"] for alert in raised(runner)] == ["strict"]
    runner.reset_performance_statistics()
    runs(runner, 0.15)
    assert [alert["step"] for alert in raised(runner)] == ["usual", "strict", "inner"]


@pytest.mark.parametrize("optimized", [True, False])
def test_the_events_of_a_run_tell_of_its_alerts_where_they_come_up(optimized: bool) -> None:
    runner = Flujo(
        sleeper("one") >> sleeper("two"), optimization_config=THRESHOLD, enable_optimizations=optimized
    )

    async def main() -> list[tuple[str, str]]:
        told = []
        async for event in runner.run_with_events(0.15):
            if event.kind == "alert":
                assert isinstance(event.data, Alert)
                assert event.data.step == event.step
            if event.kind != "attempt_started":
                told.append((event.step, event.kind))
        return told

    assert virtual_time.run(main()) == [
        ("", "run_started"),
        ("one", "step_started"),
        ("one", "step_finished"),
        ("one", "alert"),
        ("two", "step_started"),
        ("two", "step_finished"),
        ("two", "alert"),
        ("", "run_finished"),
    ]


class Told:
    """A callback that puts what it is told where a test finds it."""

    def __init__(self) -> None:
        self.alerts: queue.Queue[tuple[Alert, str]] = queue.Queue()

    def __call__(self, alert: Alert) -> None:
        self.alerts.put((alert, threading.current_thread().name))
        if alert.value == 0.15:
            raise ValueError("a callback's own mistake")


def test_a_callback_is_told_in_its_own_thread_and_one_that_raises_is_counted_and_told_of_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = Told()
    runner = Flujo(sleeper("work"), optimization_config=THRESHOLD, on_alert=told)
    runs(runner, 0.15, 0.01, 0.16)
    alerts = [told.alerts.get(), told.alerts.get()]
    assert [alert.value for alert, _ in alerts] == [0.15, 0.16]
    assert {thread for _, thread in alerts} == {"flujo-alerts"}
    assert runner.get_performance_statistics()["alert_stats"]["callbacks_failed"] == 1
    assert "a callback's own mistake" in caplog.text


def test_a_callback_that_hangs_holds_up_no_run_and_what_it_misses_is_counted() -> None:
    hangs, release = threading.Event(), threading.Event()

    def hang(alert: Alert) -> None:
        hangs.set()
        release.wait()

    runner = Flujo(sleeper("work"), optimization_config=THRESHOLD, on_alert=hang)
    runs(runner, 0.15, 0.01)
    hangs.wait()  # nothing waits in front of it any more
    runs(runner, *[0.15, 0.01] * 70)
    counts = runner.get_performance_statistics()["alert_stats"]
    release.set()
    assert counts == {"raised": 71, "callbacks_failed": 0, "callbacks_skipped": 6}


def test_growth_of_memory_beyond_the_threshold_is_told_of_once() -> None:
    held: list[bytearray] = []

    @step
    async def grow(megabytes: int) -> int:
        held.append(bytearray(b"x") * (megabytes * 2**20))
        return megabytes

    told: queue.Queue[Alert] = queue.Queue()
    config = OptimizationConfig(memory_usage_threshold=32)
    runner = Flujo(grow, optimization_config=config, on_alert=told.put)
    runner.run(64)
    runner.run(64)
    alert = told.get()
    assert alert.kind == "memory_usage" and alert.part == "monitor"
    assert alert.value is not None and alert.value > 32 and alert.threshold == 32
    statistics = runner.get_performance_statistics()
    assert [alert["kind"] for alert in statistics["alerts"]] == ["memory_usage"]
    memory = statistics["memory_stats"]
    assert memory["growth_bytes"] > 64 * 2**20
    assert memory["peak_rss_bytes"] >= memory["current_rss_bytes"] > memory["growth_bytes"]


def test_a_callback_is_told_in_a_forked_child_too() -> None:
    reader, writer = os.pipe()
    told: queue.Queue[Alert] = queue.Queue()

    def tell(alert: Alert) -> None:
        told.put(alert)
        os.write(writer, b"%d " % os.getpid())

    runner = Flujo(sleeper("work"), optimization_config=THRESHOLD, on_alert=tell)
    runs(runner, 0.15, 0.01)
    told.get()
    child = os.fork()
    if child == 0:
        runs(runner, 0.15)
        told.get()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as pids:
        assert pids.read().split() == [str(os.getpid()), str(child)]
    assert status == 0


class Async:
    async def __call__(self, alert: Alert) -> None: ...


async def _coroutine(alert: Alert) -> None: ...


class TestWhoCantBeTold:
    wrong: ClassVar[list[Any]] = ["print", 3, _coroutine, Async()]

    @pytest.fixture(params=wrong)
    def callback(self, request: pytest.FixtureRequest) -> Iterator[Any]:
        yield request.param

    def test_is_refused_with_what_to_do(self, callback: Any) -> None:
        with pytest.raises(
            TypeError, match=r"on_alert must be a plain function of one Alert.*call_soon_threadsafe"
        ):
            Flujo(sleeper("work"), on_alert=callback)


def test_a_part_that_gave_way_is_named_with_its_reason_until_it_has_recovered() -> None:
    runner = Flujo(sleeper("work"))
    runner._engine.report_degraded("usage", "the pool is poisoned")
    runner._engine.report_degraded("usage", "the pool is poisoned")
    (alert,) = raised(runner)
    assert (alert["kind"], alert["part"]) == ("degraded", "usage")
    assert "the pool is poisoned" in alert["message"]
    usage = runner.get_performance_statistics()["optimizations"]["usage"]
    assert usage["twin"] == "plain" and "the pool is poisoned" in usage["reason"]
    runner._engine.report_recovered("usage")
    assert runner.get_performance_statistics()["optimizations"]["usage"]["twin"] == "optimized"
    with pytest.raises(ValueError, match='there is no part "pools"; the parts are pool, context'):
        runner._engine.report_degraded("pools", "")
