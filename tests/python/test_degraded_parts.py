"""An optimised part that fails: its plain form takes its place for that run, the run goes on, one alert names the part
and the reason, and nothing is lost or run twice. What can fail for real does; the rest fails by a drill."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from otel_sdk import user_sdk
from otlp_receiver import PATIENCE_S
from pydantic import Field
from redis_server import redis_server

from flujo import (
    Flujo,
    OptimizationConfig,
    Pipeline,
    PipelineContext,
    RedisCache,
    Step,
    StepConfig,
    Telemetry,
    UsageLimits,
    step,
)
from flujo.application.core.executor_core import ObjectPool
from flujo.exceptions import UsageLimitExceededError
from flujo.testing.utils import failing_part

EVERY_STEP_IS_SLOW = OptimizationConfig(execution_time_threshold=0)


class Board(PipelineContext):
    log: list[str] = Field(default_factory=list)


class Used:
    """An output that says what it used."""

    token_counts = 10
    cost_usd = 0.001

    def __init__(self, output: int) -> None:
        self.output = output


class Ran:
    """The steps of a test, and how often they ran."""

    def __init__(self) -> None:
        self.times = 0

    def step(self, name: str) -> Step[Any, Any]:
        async def work(value: int, *, context: Board) -> Any:
            self.times += 1
            context.log.append(name)
            await asyncio.sleep(0)
            return Used(value + 1)

        return step(name=name)(work)

    def whole(self) -> Pipeline[Any, Any]:
        """Steps in a row, beside each other and in a loop, which run six times together."""
        lanes = Step.parallel("lanes", {"left": self.step("left"), "right": self.step("right")})
        turns = Step.loop_until("turns", self.step("turn"), lambda output, context: output >= 5, max_loops=9)
        one: Step[Any, Any] = Step("one", lambda outputs: outputs["left"])
        return self.step("first") >> lanes >> one >> self.step("middle") >> turns

    def cached(self) -> Pipeline[Any, Any]:
        """A step whose result is kept, twice with the same input."""

        async def work(value: int) -> Any:
            self.times += 1
            return Used(value + 1)

        cached = Step.cached(step(name="cached")(work))
        back: Step[Any, Any] = Step("back", lambda value: 0)
        return cached >> back >> cached


def told(runner: Flujo[Any, Any, Any]) -> list[tuple[str, str]]:
    """Of which parts it was told that they gave way, and why."""
    alerts = runner.get_performance_statistics()["alerts"]
    return [(alert["part"], alert["message"]) for alert in alerts if alert["kind"] == "degraded"]


def seen(result: Any) -> Any:
    """What a run came to, but for times."""

    def steps(history: list[Any]) -> list[Any]:
        return [
            (one.name, one.success, one.attempts, one.token_counts, one.cache_hit, steps(one.step_history))
            for one in history
        ]

    log = getattr(result.final_pipeline_context, "log", None)
    return result.output, result.total_tokens, result.total_cost_usd, log, steps(result.step_history)


def spans(telemetry: Telemetry) -> list[tuple[str, str | None]]:
    """The names of what was recorded in some order, with what each is inside of."""
    taken = telemetry.take()
    names = {span["span_id"]: span["name"] for span in taken}
    return sorted((span["name"], names.get(span["parent_id"])) for span in taken)


PIPELINES: list[tuple[str, Callable[[Ran], Pipeline[Any, Any]]]] = [
    ("context", Ran.whole),
    ("analysis", Ran.whole),
    ("telemetry", Ran.whole),
    ("monitor", Ran.whole),
    ("cache", Ran.cached),
    ("usage", Ran.whole),
]


@pytest.mark.parametrize(("part", "pipeline"), PIPELINES)
async def test_a_part_that_fails_gives_way_to_its_plain_form_for_that_run(
    part: str, pipeline: Callable[[Ran], Pipeline[Any, Any]]
) -> None:
    def runner(ran: Ran, telemetry: Telemetry, enabled: bool) -> Flujo[Any, Any, Any]:
        return Flujo(
            pipeline(ran),
            context_model=Board,
            usage_limits=UsageLimits(total_tokens_limit=1_000),
            optimization_config=EVERY_STEP_IS_SLOW,
            enable_optimizations=enabled,
            telemetry=telemetry,
        )

    plain_ran, ran = Ran(), Ran()
    plain_spans, own_spans = Telemetry(), Telemetry()
    plain = runner(plain_ran, plain_spans, False)
    expected = seen(await plain.run_async(0))
    drilled = runner(ran, own_spans, True)
    with failing_part(drilled, part):
        assert seen(await drilled.run_async(0)) == expected
        assert ran.times == plain_ran.times
        assert spans(own_spans) == spans(plain_spans)
        ((alerted, message),) = told(drilled)
        assert alerted == part
        assert part in message and "a drill" in message
        statistics = drilled.get_performance_statistics()
        assert statistics["optimizations"][part]["twin"] == "plain"
        assert "a drill" in statistics["optimizations"][part]["reason"]
        committed = plain.get_performance_statistics()["usage_stats"]["committed"]
        assert statistics["usage_stats"]["committed"] == committed
        await drilled.run_async(0)
        assert len(told(drilled)) == 1  # the same is told once
    await drilled.run_async(0)
    assert drilled.get_performance_statistics()["optimizations"][part]["twin"] == "optimized"
    assert len(told(drilled)) == 1


async def test_a_context_that_fails_after_the_run_has_begun_gives_way_there() -> None:
    ran = Ran()
    first, last = ran.step("first"), ran.step("last")
    last.config = StepConfig(optimization=OptimizationConfig())
    runner = Flujo(
        first >> last,
        context_model=Board,
        # Only the last step has a view of what the first one has copied.
        optimization_config=OptimizationConfig(enable_context_optimization=False),
    )
    with failing_part(runner, "context"):
        result = await runner.run_async(0)
    assert (result.output, ran.times) == (2, 2)
    assert getattr(result.final_pipeline_context, "log", None) == ["first", "last"]
    ((part, message),) = told(runner)
    assert part == "context" and "a drill" in message


async def test_a_limit_holds_across_the_failure_of_its_meter() -> None:
    ran = Ran()
    runner = Flujo(ran.whole(), context_model=Board, usage_limits=UsageLimits(total_tokens_limit=45))
    with failing_part(runner, "usage"), pytest.raises(UsageLimitExceededError) as caught:
        await runner.run_async(0)
    assert ran.times == 5
    assert caught.value.result is not None and caught.value.result.total_tokens == 50
    assert [part for part, _ in told(runner)] == ["usage"]


def test_a_pool_has_nothing_to_fail_on_asyncio_and_one_by_itself_lets_go_of_what_it_can_t_empty() -> None:
    runner = Flujo(Ran().whole(), context_model=Board)
    in_use = runner.get_performance_statistics()["optimizations"]["pool"]
    assert in_use["twin"] == "plain" and "allocator" in in_use["reason"]
    with pytest.raises(ValueError, match="nothing to fail in the part"), failing_part(runner, "pool"):
        pass
    with pytest.raises(ValueError, match="the parts are pool, context"), failing_part(runner, "pools"):
        pass

    def reset(one: list[int]) -> None:
        if one:
            raise RuntimeError("it can't be emptied")

    pool: ObjectPool[list[int]] = ObjectPool(list, reset=reset)
    spoilt = pool.acquire()
    spoilt.append(1)
    pool.release(spoilt)
    del spoilt
    assert pool.acquire() == []
    counts = pool.statistics()
    assert (counts["overflow"], counts["retained"], counts["hits"]) == (1, 0, 0)


class Broken(SpanProcessor):
    """A processor of the program's own that can't take spans."""

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        raise RuntimeError("no room for spans")

    def on_end(self, span: ReadableSpan) -> None:
        raise RuntimeError("no room for spans")


async def test_a_span_processor_of_the_program_s_that_raises_costs_the_run_nothing() -> None:
    ran = Ran()
    with user_sdk() as ended:
        ended.provider.add_span_processor(Broken())
        result = await Flujo(ran.whole(), context_model=Board).run_async(0)
    assert result.output == 5 and ran.times == 6


async def test_a_collector_nobody_answers_at_costs_spans_and_no_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ran = Ran()
    telemetry = Telemetry(otlp="http://127.0.0.1:9", timeout_s=1)
    result = await Flujo(ran.whole(), context_model=Board, telemetry=telemetry).run_async(0)
    assert result.output == 5 and ran.times == 6
    telemetry.flush(PATIENCE_S)
    assert telemetry.statistics()["spans_dropped"] > 0
    telemetry.shutdown(0.1)
    assert "spans can't be exported (otlp)" in caplog.text


async def test_a_server_of_results_that_dies_within_a_run_is_told_of_and_nothing_is_made_twice() -> None:
    ran = Ran()
    with redis_server() as server:

        async def work(value: int) -> int:
            ran.times += 1
            return value + 1

        async def kill(value: int) -> int:
            server.kill()
            return 0

        tier = RedisCache(server.url, timeout_s=60, retry_after_s=3_600)
        cached = Step.cached(step(name="cached")(work), tier, version="1")
        runner = Flujo(cached >> step(name="kill")(kill) >> cached >> Step("more", work) >> cached)
        result = await runner.run_async(0)
    assert result.success and result.output == 3
    assert [one.cache_hit for one in result.step_history if one.name == "cached"] == [False, True, False]
    assert ran.times == 3
    ((part, message),) = told(runner)
    assert part == "cache" and str(server.port) in message


class Refuses(logging.Handler):
    """A handler of the program's own that raises."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("the log is full")


async def test_a_log_that_raises_when_it_is_told_of_an_alert_harms_no_run(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran, refuses = Ran(), Refuses()
    logger = logging.getLogger("flujo.monitor")
    logger.addHandler(refuses)
    try:
        runner = Flujo(ran.whole(), context_model=Board, optimization_config=EVERY_STEP_IS_SLOW)
        result = await runner.run_async(0)
    finally:
        logger.removeHandler(refuses)
    assert result.output == 5 and ran.times == 6
    assert runner.get_performance_statistics()["alert_stats"]["raised"] > 0
    assert "the log is full" in capsys.readouterr().err
