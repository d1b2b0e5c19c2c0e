"""Spans by Flujo's own exporter: the same tree as in a program's own OpenTelemetry, and in `trace_tree`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from otel_sdk import user_sdk
from otlp_receiver import Event, Span, Tree, one_tree

from flujo import Flujo, OptimizationConfig, Step, UsageLimits, current_step
from flujo.domain.trace import TraceNode
from flujo.exceptions import UsageLimitExceededError
from flujo.infra.telemetry import Telemetry


def taken(telemetry: Telemetry) -> list[Span]:
    """The spans that wait, in the form in which receivers show them."""
    return [
        Span(
            name=span["name"],
            trace_id=span["trace_id"],
            span_id=span["span_id"],
            parent_id=span["parent_id"] or "",
            kind="internal",
            status="error" if span["status"] in ("error", "limit_exceeded") else "unset",
            message="",
            start=span["start_time"],
            end=span["end_time"],
            attributes=span["attributes"],
            events=tuple[Event, ...](),
            links=(),
            resource={},
            scope="flujo",
        )
        for span in telemetry.take()
    ]


async def plus(x: int) -> int:
    await asyncio.sleep(0)
    return x + 1


def blocking(x: int) -> int:
    return x + 1


async def total(both: dict[str, int]) -> int:
    return sum(both.values())


class Flaky:
    def __init__(self) -> None:
        self.left = 2

    async def run(self, x: int) -> int:
        self.left -= 1
        if self.left >= 0:
            raise ValueError(x)
        return x


async def fails(x: object) -> object:
    raise KeyError(x)


class Costly:
    output = "x"
    cost_usd = 2.0
    token_counts = 3


async def costs(x: object) -> Any:
    return Costly()


def fan() -> Any:
    return Step.parallel("fan", {"thread": Step("blocking", blocking), "loop": Step("plus", plus)})


def with_spare() -> Any:
    primary = Step("primary", fails, max_retries=1)
    primary.fallback(Step("spare", plus))
    return primary


PIPELINES = {
    "steps": lambda: Step("one", plus) >> Step("two", blocking),
    "retries": lambda: Step("flaky", Flaky(), max_retries=2) >> Step("two", plus),
    "loop": lambda: Step.loop_until(
        "loop", fan() >> Step("sum", total), lambda out, ctx: out >= 6, max_loops=5
    ),
    "fallback": with_spare,
    "failure": lambda: Step.parallel("fan", {"a": Step("fails", fails, max_retries=0)}),
    "ignored": lambda: fan() >> Step.parallel("f", {"a": Step("last", fails), "b": Step("plus", total)}),
    "life": lambda: Step.parallel("fan", {"a": Step("flaky", Flaky(), max_retries=0)}, max_retries=2),
    "limit": lambda: Step("first", plus) >> Step("costs", costs),
    "branch": lambda: Step.branch_on("which", lambda x, ctx: "a", {"a": Step("plus", plus)}),
}


def in_order(name: str, start: float) -> tuple[float, str]:
    """Which of several branches begins first isn't said."""
    return (0 if name.startswith("lane ") else start, name)


def shown(tree: Tree) -> Any:
    """What is the same however the spans are made."""
    attributes = {
        name: value
        for name, value in tree.span.attributes.items()
        if name not in ("flujo.run.id", "flujo.iteration")
    }
    below = sorted(tree.below, key=lambda each: in_order(each.span.name, each.span.start))
    return (tree.span.name, tree.span.status, attributes, [shown(each) for each in below])


async def run(name: str, **options: Any) -> Any:
    runner = Flujo(
        PIPELINES[name](),
        pipeline_name=name,
        usage_limits=UsageLimits(total_cost_usd_limit=1) if name == "limit" else None,
        **options,
    )
    try:
        return await runner.run_async(0)
    except UsageLimitExceededError as error:
        return error.result


@pytest.fixture(params=[True, False], ids=["optimized", "plain"])
def config(request: pytest.FixtureRequest) -> OptimizationConfig:
    return OptimizationConfig(enable_telemetry_optimization=request.param)


@pytest.mark.parametrize("name", PIPELINES)
async def test_both_twins_and_a_program_s_own_sdk_get_the_same_tree(
    name: str, config: OptimizationConfig
) -> None:
    telemetry = Telemetry()
    await run(name, telemetry=telemetry, optimization_config=config)
    own = one_tree(without_calls(taken(telemetry)))
    with user_sdk() as ended:
        await run(name)
        program = one_tree(ended.spans)
    assert shown(own) == shown(program)


def without_calls(spans: list[Span]) -> list[Span]:
    """A program's own libraries make spans of the calls of models; where there is no SDK, Flujo does."""
    return [span for span in spans if "gen_ai.operation.name" not in span.attributes]


def nodes(tree: TraceNode) -> Any:
    attributes = {name: value for name, value in tree.attributes.items() if name != "flujo.run.id"}
    status = "error" if tree.status in ("error", "limit_exceeded") else "unset"
    below = sorted(tree.children, key=lambda each: in_order(each.name, each.start_time))
    return (tree.name, status, attributes, [nodes(each) for each in below])


@pytest.mark.parametrize("name", PIPELINES)
async def test_a_result_s_trace_tree_is_what_is_exported(name: str) -> None:
    telemetry = Telemetry()
    result = await run(name, telemetry=telemetry)
    assert nodes(result.trace_tree) == shown(one_tree(without_calls(taken(telemetry))))
    assert isinstance(result.trace_tree, TraceNode)
    for node in result.trace_tree.walk():
        assert all(node.start_time <= child.start_time for child in node.children)
        assert 0 < node.start_time <= node.end_time


async def test_current_spans_are_those_that_are_exported(config: OptimizationConfig) -> None:
    seen: dict[str, str | None] = {}

    async def looks(x: int) -> int:
        seen[current_step().lane] = current_step().traceparent
        await asyncio.sleep(0)
        assert current_step().traceparent == seen[current_step().lane]
        return x

    def looks_in_a_thread(x: int) -> int:
        seen[current_step().lane] = current_step().traceparent
        return x

    telemetry = Telemetry()
    pipeline = Step.parallel("fan", {"a": Step("looks", looks), "b": Step("looks", looks_in_a_thread)})
    runner = Flujo(Step("first", looks) >> pipeline, telemetry=telemetry, optimization_config=config)
    await runner.run_async(1)
    tree = one_tree(taken(telemetry))
    attempts = {
        "": tree.find("first")[0].below[0],
        "fan[a]": tree.find("lane a")[0].find("attempt 1")[0],
        "fan[b]": tree.find("lane b")[0].find("attempt 1")[0],
    }
    of = {lane: f"00-{at.span.trace_id}-{at.span.span_id}-01" for lane, at in attempts.items()}
    assert seen == of


async def test_a_run_inside_a_step_is_below_that_step() -> None:
    telemetry = Telemetry()
    inner = Flujo(Step("inner", plus), telemetry=telemetry, pipeline_name="in")

    async def calls(x: int) -> Any:
        return (await inner.run_async(x)).output

    await Flujo(Step("outer", calls), telemetry=telemetry, pipeline_name="out").run_async(0)
    tree = one_tree(taken(telemetry))
    assert tree.names() == ["run out", ["outer", ["attempt 1", ["run in", ["inner", ["attempt 1"]]]]]]


async def test_a_paused_run_ends_its_spans_and_goes_on_in_the_same_trace(config: OptimizationConfig) -> None:
    telemetry = Telemetry()
    asks = Step.human_in_the_loop("ask", message_for_user="well?")
    runner = Flujo(
        Step("first", plus) >> Step.parallel("fan", {"a": asks}),
        telemetry=telemetry,
        optimization_config=config,
        pipeline_name="p",
    )
    paused = await runner.run_async(1)
    before = one_tree(taken(telemetry))
    assert before.names() == ["run p", ["first", ["attempt 1"]], ["fan", ["lane a", ["ask"]]]]
    for name in ("run p", "fan", "lane a", "ask"):
        assert before.find(name)[0].span.attributes["flujo.status"] == "paused"
    assert "error" not in {span.status for span in map(lambda each: each.span, before.find("run p"))}
    await runner.resume_async(paused, "yes")
    after = one_tree(taken(telemetry))
    assert after.names() == ["run p", ["fan", ["lane a", ["ask"]]]]
    assert after.span.attributes["flujo.resumed"] is True
    assert after.span.trace_id == before.span.trace_id


async def test_a_run_that_goes_on_for_another_process_is_below_that_one_s_span() -> None:
    telemetry = Telemetry()
    runner = Flujo(Step.human_in_the_loop("ask", message_for_user="well?"), telemetry=telemetry)
    caller, other = "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "00-" + "c" * 32 + "-" + "d" * 16 + "-01"
    paused = await runner.run_async(1, traceparent=caller)
    assert {span.trace_id for span in taken(telemetry)} == {"a" * 32}
    assert (await runner.resume_async(paused, 4, traceparent=other)).success
    spans = taken(telemetry)
    assert {span.trace_id for span in spans} == {"c" * 32}
    (run,) = (span for span in spans if span.name.startswith("run "))
    assert run.parent_id == "d" * 16
    with pytest.raises(TypeError, match="traceparent must be the text"):
        wrong: Any = 3
        await runner.resume_async(paused, 4, traceparent=wrong)


async def test_cancelled_and_abandoned_runs_end_their_spans(config: OptimizationConfig) -> None:
    telemetry = Telemetry()
    began = asyncio.Event()

    async def hangs(x: int) -> int:
        began.set()
        await asyncio.Event().wait()
        return x

    runner = Flujo(
        Step.parallel("fan", {"a": Step("hangs", hangs)}),
        telemetry=telemetry,
        optimization_config=config,
        pipeline_name="p",
    )
    task = asyncio.create_task(runner.run_async(1))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    cancelled = one_tree(taken(telemetry))
    assert cancelled.names() == ["run p", ["fan", ["lane a", ["hangs", ["attempt 1"]]]]]

    run = Flujo(Step("waits", plus), telemetry=telemetry, optimization_config=config).run_async(1)
    run.send(None)
    run.close()
    dropped = Flujo(Step("waits", plus), telemetry=telemetry, optimization_config=config).run_async(1)
    dropped.send(None)
    del dropped
    spans = taken(telemetry)
    assert len(spans) == 6
    everything = [*spans, *(tree.span for tree in cancelled.find("hangs"))]
    assert {span.attributes["flujo.status"] for span in everything} == {"cancelled"}
    assert {span.status for span in everything} == {"unset"}


async def test_sampling_follows_from_the_run_s_id() -> None:
    ids = [f"run {n}" for n in range(400)]

    async def recorded(share: float) -> set[str]:
        telemetry = Telemetry(sample=share)
        runner = Flujo(Step("one", plus), telemetry=telemetry)
        for run_id in ids:
            await runner.run_async(1, run_id=run_id)
        return {span.attributes["flujo.run.id"] for span in taken(telemetry)}

    assert await recorded(0) == set()
    assert await recorded(1) == set(ids)
    half = await recorded(0.5)
    assert 150 < len(half) < 250
    assert await recorded(0.5) == half
    assert half < await recorded(0.9)


async def test_a_run_that_isn_t_sampled_tells_other_processes_so() -> None:
    async def looks(x: int) -> str | None:
        return current_step().traceparent

    runner = Flujo(Step("looks", looks), telemetry=Telemetry(sample=0))
    text = (await runner.run_async(1)).output
    assert text is not None and text.endswith("-00")
    telemetry = Telemetry()
    await Flujo(Step("looks", looks), telemetry=telemetry).run_async(1, traceparent=text)
    assert taken(telemetry) == []


async def test_what_waits_is_bounded_and_counted() -> None:
    telemetry = Telemetry(queue_size=30)
    runner = Flujo(Step("one", plus), telemetry=telemetry)
    for _ in range(50):
        await runner.run_async(1)
    metrics = runner.get_performance_statistics()["telemetry_metrics"]
    assert metrics == telemetry.statistics()
    assert (metrics["spans_started"], metrics["spans_ended"]) == (150, 150)
    assert metrics["spans_dropped"] == 120
    assert metrics["queue_high_water"] == 30
    assert metrics["overhead_per_span"] > 0
    assert len(telemetry.take()) == 30


async def test_calls_of_models_are_spans_with_tokens_and_cost() -> None:
    class Usage:
        input_tokens = 7
        output_tokens = 5
        requests = 1

    class Answer:
        output = "hello"
        usage = Usage()
        model = "small-1"
        cost_usd = 0.25

    async def answers(x: object) -> Any:
        return Answer()

    telemetry = Telemetry()
    await Flujo(Step("greet", answers), telemetry=telemetry).run_async(1)
    tree = one_tree(taken(telemetry))
    (call,) = tree.find("attempt 1")[0].below
    assert call.span.name == "chat small-1"
    told = call.span.attributes
    assert told["gen_ai.request.model"] == "small-1"
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (7, 5)
    assert (told["flujo.usage.tokens"], told["flujo.usage.cost_usd"]) == (12, 0.25)


async def test_other_libraries_send_the_current_span_along() -> None:
    from opentelemetry import propagate, trace

    def looks_in_a_thread(x: object) -> dict[str, str]:
        headers: dict[str, str] = {}
        propagate.inject(headers)
        assert headers["traceparent"] == current_step().traceparent
        return headers

    telemetry = Telemetry()
    runner = Flujo(Step.parallel("fan", {"a": Step("looks", looks_in_a_thread)}), telemetry=telemetry)
    result = await runner.run_async(1)
    (attempt,) = (span for span in taken(telemetry) if span.name == "attempt 1")
    assert result.output["a"]["traceparent"] == f"00-{attempt.trace_id}-{attempt.span_id}-01"
    assert trace.get_current_span() is trace.INVALID_SPAN


async def test_a_program_with_an_sdk_gets_the_spans_there_alone() -> None:
    telemetry = Telemetry()
    runner = Flujo(Step("one", plus), telemetry=telemetry, pipeline_name="p")
    with user_sdk() as ended:
        await runner.run_async(1)
    assert one_tree(ended.spans).names() == ["run p", ["one", ["attempt 1"]]]
    assert taken(telemetry) == []


@pytest.fixture
def process_wide() -> Iterator[None]:
    from flujo.infra import telemetry

    yield
    telemetry._of_process = None


async def test_init_telemetry_is_for_runners_that_have_none(process_wide: None) -> None:
    from flujo import init_telemetry

    before = Flujo(Step("one", plus))
    telemetry = init_telemetry(sample=1.0)
    await before.run_async(1)
    assert taken(telemetry) == []
    await Flujo(Step("one", plus)).run_async(1)
    assert len(taken(telemetry)) == 3
    own = Telemetry()
    await Flujo(Step("one", plus), telemetry=own).run_async(1)
    await Flujo(Step("one", plus), enable_tracing=False).run_async(1)
    assert (len(taken(telemetry)), len(taken(own))) == (0, 3)
    assert init_telemetry(own) is own
    with pytest.raises(TypeError, match="not both"):
        init_telemetry(own, sample=1.0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sample": 1.5}, "a sample rate is a number from 0"),
        ({"sample": float("nan")}, "a sample rate is a number from 0"),
        ({"sample": -0.1}, "a sample rate is a number from 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Telemetry(**options)


def test_a_runner_takes_nothing_else_for_its_telemetry() -> None:
    with pytest.raises(TypeError, match=r"telemetry must be a flujo\.Telemetry, not str"):
        Flujo(Step("one", plus), telemetry="http://collector")


async def test_agents_that_ship_send_the_current_span_along() -> None:
    from flujo.agents import Command

    telemetry = Telemetry()
    runner = Flujo(Step("env", Command(["printenv", "TRACEPARENT"])), telemetry=telemetry)
    output = (await runner.run_async("")).output
    (attempt,) = (span for span in taken(telemetry) if span.name == "attempt 1")
    assert str(output).strip() == f"00-{attempt.trace_id}-{attempt.span_id}-01"
