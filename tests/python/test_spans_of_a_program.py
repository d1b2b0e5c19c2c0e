"""A program that has set up OpenTelemetry finds its runs in its traces: each span below the one around it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor
from otel_sdk import Ended, user_sdk
from otlp_receiver import Span, one_tree

from flujo import Flujo, Step, current_step
from flujo.exceptions import RunCancelled, UsageLimitExceededError


def span(name: str) -> Any:
    """A span of the program itself; a tracer that is kept would stay with the SDK of the first test."""
    return trace.get_tracer("the program").start_as_current_span(name)


@pytest.fixture
def ended() -> Iterator[Ended]:
    with user_sdk() as ended:
        yield ended


def own_span(name: str) -> None:
    with span(name):
        pass


def blocking(x: int) -> int:
    own_span("in a thread")
    return x + 1


async def waiting(x: int) -> int:
    await asyncio.sleep(0)
    own_span("on the loop")
    return x + 1


async def deep(x: int) -> int:
    async def inside() -> None:
        own_span("in a task")

    await asyncio.gather(inside(), inside())
    return x + 1


def spans_named(spans: list[Span], name: str) -> list[Span]:
    return [span for span in spans if span.name == name]


# --- parents


async def test_a_run_is_below_its_caller_and_what_a_step_does_is_below_the_step(ended: Ended) -> None:
    runner = Flujo(Step("one", waiting) >> Step("two", deep), pipeline_name="sums")
    with span("the caller") as caller:
        assert (await runner.run_async(0)).output == 2
        assert trace.get_current_span() is caller
    tree = one_tree(ended.spans)
    assert tree.names() == [
        "the caller",
        [
            "run sums",
            ["one", ["attempt 1", ["on the loop"]]],
            ["two", ["attempt 1", ["in a task"], ["in a task"]]],
        ],
    ]
    run = tree.find("run sums")[0].span
    assert run.scope == "flujo"
    assert run.status == "unset"
    assert run.attributes["flujo.status"] == "ok"
    assert run.attributes["flujo.pipeline"] == "sums"
    one = tree.find("one")[0].span.attributes
    assert (one["flujo.step"], one["flujo.step.path"], one["flujo.attempts"]) == ("one", "one", 1)


async def total(both: dict[str, int]) -> int:
    return sum(both.values())


def nested() -> Any:
    fan = Step.parallel("fan", {"thread": Step("blocking", blocking), "loop": Step("waiting", waiting)})
    return Step.loop_until(
        "loop",
        fan >> Step("sum", total),
        lambda out, ctx: out >= 6,
        max_loops=5,
    )


async def test_branches_in_threads_and_tasks_inside_a_loop_make_one_tree(ended: Ended) -> None:
    outer = Step.parallel("outer", {"left": nested(), "right": nested()})
    assert (await Flujo(outer, pipeline_name="p").run_async(0)).output == {"left": 6, "right": 6}
    tree = one_tree(ended.spans)
    fan = [
        "fan",
        ["lane thread", ["blocking", ["attempt 1", ["in a thread"]]]],
        ["lane loop", ["waiting", ["attempt 1", ["on the loop"]]]],
    ]
    turn = [fan, ["sum", ["attempt 1"]]]
    for side in ("left", "right"):
        (lane,) = tree.find(f"lane {side}")
        (loop,) = lane.below
        assert loop.names() == ["loop", *turn, *turn]
        turns = [each.span.attributes["flujo.iteration"] for each in loop.below]
        assert turns == [[1], [1], [2], [2]]
        lanes = [each.span.attributes for each in loop.find("lane loop")]
        assert [(of["flujo.lane"], of["flujo.lane.index"]) for of in lanes] == [("loop", 1), ("loop", 1)]
    assert all(span.attributes.get("flujo.status", "ok") == "ok" for span in ended.spans)


async def test_two_runs_at_once_don_t_mix(ended: Ended) -> None:
    runner = Flujo(Step("one", waiting) >> Step("two", waiting), pipeline_name="p")
    with span("the caller"):
        await asyncio.gather(*(runner.run_async(n) for n in range(5)))
    tree = one_tree(ended.spans)
    run = ["run p", *(["one", ["attempt 1", ["on the loop"]]], ["two", ["attempt 1", ["on the loop"]]])]
    assert tree.names() == ["the caller", *[run] * 5]


def test_a_run_without_a_loop_is_below_its_caller_each_time(ended: Ended) -> None:
    runner = Flujo(Step("one", blocking), pipeline_name="p")
    for name in ("first", "second"):
        with span(name):
            runner.run(1)
    for name in ("first", "second"):
        (caller,) = spans_named(ended.spans, name)
        trace_ = [span for span in ended.spans if span.trace_id == caller.trace_id]
        assert one_tree(trace_).names() == [name, ["run p", ["one", ["attempt 1", ["in a thread"]]]]]


async def test_a_run_inside_a_step_is_below_that_step(ended: Ended) -> None:
    inner = Flujo(Step("inner", waiting), pipeline_name="in")

    async def calls(x: int) -> Any:
        return (await inner.run_async(x)).output

    await Flujo(Step("outer", calls), pipeline_name="out").run_async(0)
    tree = one_tree(ended.spans)
    inside = ["run in", ["inner", ["attempt 1", ["on the loop"]]]]
    assert tree.names() == ["run out", ["outer", ["attempt 1", inside]]]


async def test_attributes_that_user_code_sets_are_those_of_its_attempt(ended: Ended) -> None:
    async def sets(x: int) -> int:
        trace.get_current_span().set_attribute("of.mine", x)
        return x

    await Flujo(Step("sets", sets)).run_async(7)
    assert [span.name for span in ended.spans if span.attributes.get("of.mine") == 7] == ["attempt 1"]


# --- ends


async def test_a_failed_attempt_is_an_error_and_the_step_that_a_retry_saved_is_not(ended: Ended) -> None:
    left = [ValueError("secret text")]

    async def flaky(x: int) -> int:
        if left:
            raise left.pop()
        return x

    await Flujo(Step("flaky", flaky, max_retries=1)).run_async(1)
    tree = one_tree(ended.spans)
    (flaky_step,) = tree.find("flaky")
    first, second = (each.span for each in flaky_step.below)
    assert (first.name, first.status, first.message) == ("attempt 1", "error", "ValueError")
    assert first.attributes["error.type"] == "ValueError"
    assert (second.name, second.status) == ("attempt 2", "unset")
    assert (flaky_step.span.status, flaky_step.span.attributes["flujo.attempts"]) == ("unset", 2)
    assert "secret" not in repr(ended.spans)


async def test_a_step_that_fails_is_an_error_and_so_is_its_run(ended: Ended) -> None:
    async def fails(x: int) -> int:
        raise KeyError(x)

    result = await Flujo(Step("fails", fails, max_retries=0), pipeline_name="p").run_async(1)
    assert result.status == "failed"
    tree = one_tree(ended.spans)
    for name in ("run p", "fails", "attempt 1"):
        (found,) = (each.span for each in tree.find(name))
        assert (found.status, found.attributes["error.type"]) == ("error", "KeyError"), name


async def test_a_fallback_is_below_the_step_it_stands_in_for(ended: Ended) -> None:
    async def fails(x: int) -> int:
        raise ValueError

    primary = Step("primary", fails, max_retries=0)
    primary.fallback(Step("spare", waiting))
    await Flujo(primary, pipeline_name="p").run_async(1)
    tree = one_tree(ended.spans)
    spare = ["spare", ["attempt 1", ["on the loop"]]]
    assert tree.names() == ["run p", ["primary", ["attempt 1"], spare]]
    assert tree.find("primary")[0].span.status == "unset"


async def test_a_pause_is_no_error_and_what_goes_on_is_linked_to_it(ended: Ended) -> None:
    asks = Step.human_in_the_loop("ask", message_for_user="well?")
    runner = Flujo(
        Step("first", waiting) >> Step.loop_until("loop", asks, lambda out: out == "yes", max_loops=3),
        pipeline_name="p",
    )
    paused = await runner.run_async(1)
    assert paused.status == "paused"
    before = one_tree(ended.spans)
    for name in ("run p", "loop", "ask"):
        (tree,) = before.find(name)
        assert (tree.span.status, tree.span.attributes["flujo.status"]) == ("unset", "paused"), name
    ended.clear()
    assert (await runner.resume_async(paused, "yes")).output == "yes"
    after = one_tree(ended.spans)
    assert after.names() == ["run p", ["loop", ["ask"]]]
    assert after.span.attributes["flujo.resumed"] is True
    assert after.span.links == ((before.span.trace_id, before.span.span_id),)
    assert {span.attributes["flujo.status"] for span in ended.spans} == {"ok"}


async def test_a_lane_that_paused_is_linked_too(ended: Ended) -> None:
    asks = Step.human_in_the_loop("ask", message_for_user="well?")
    runner = Flujo(Step.parallel("fan", {"a": asks, "b": Step("b", waiting)}), pipeline_name="p")
    paused = await runner.run_async(1)
    (before,) = spans_named(ended.spans, "lane a")
    assert spans_named(ended.spans, "lane b")[0].attributes["flujo.status"] == "ok"
    ended.clear()
    await runner.resume_async(paused, "yes")
    assert one_tree(ended.spans).names() == ["run p", ["fan", ["lane a", ["ask"]]]]
    (after,) = spans_named(ended.spans, "lane a")
    assert after.links == ((before.trace_id, before.span_id),)


def assert_cancelled(spans: list[Span], *names: str) -> None:
    for name in names:
        (found,) = spans_named(spans, name)
        assert (found.status, found.attributes["flujo.status"]) == ("unset", "cancelled"), name


async def test_a_cancelled_run_is_no_error(ended: Ended) -> None:
    began = asyncio.Event()

    async def hangs(x: int) -> int:
        began.set()
        await asyncio.Event().wait()
        return x

    runner = Flujo(Step.parallel("fan", {"a": Step("hangs", hangs)}), pipeline_name="p")
    task = asyncio.create_task(runner.run_async(1, run_id="r"))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    one_tree(ended.spans)
    assert_cancelled(ended.spans, "run p", "fan", "lane a", "hangs", "attempt 1")

    ended.clear()
    began.clear()
    task = asyncio.create_task(runner.run_async(1, run_id="s"))
    await began.wait()
    await runner.cancel("s")
    with pytest.raises(RunCancelled):
        await task
    assert_cancelled(ended.spans, "run p", "fan", "lane a", "hangs", "attempt 1")


async def test_a_limit_says_so(ended: Ended) -> None:
    from flujo import UsageLimits

    class Costly:
        output = "x"
        cost_usd = 2.0
        token_counts = 3

    async def costs(x: int) -> Any:
        return Costly()

    runner = Flujo(Step("costs", costs), usage_limits=UsageLimits(total_cost_usd_limit=1), pipeline_name="p")
    with pytest.raises(UsageLimitExceededError):
        await runner.run_async(1)
    (run,) = spans_named(ended.spans, "run p")
    assert run.attributes["flujo.status"] == "limit_exceeded"
    assert (run.attributes["flujo.usage.cost_usd"], run.attributes["flujo.usage.tokens"]) == (2.0, 3)


class Words:
    async def stream(self, data: Any) -> AsyncIterator[str]:
        own_span("word")
        yield "a"
        await asyncio.Event().wait()


async def test_a_stream_left_after_one_chunk_ends_its_spans_without_noise(
    ended: Ended, caplog: pytest.LogCaptureFixture
) -> None:
    runner = Flujo(Step("words", Words()), pipeline_name="p")
    with span("the caller") as caller:
        stream = runner.run_stream(1)
        async for chunk in stream:
            assert chunk == "a"
            break
        await stream.aclose()
        assert trace.get_current_span() is caller
    tree = one_tree(ended.spans)
    assert [below.names()[0] for below in tree.below] == ["run p"]
    assert_cancelled(ended.spans, "run p", "words", "attempt 1")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_run_that_is_closed_half_way_ends_its_spans(
    ended: Ended, caplog: pytest.LogCaptureFixture
) -> None:
    run = Flujo(Step("waits", waiting), pipeline_name="p").run_async(1)
    with span("the caller") as caller:
        run.send(None)
        run.close()
        assert trace.get_current_span() is caller
    tree = one_tree(ended.spans)
    assert tree.names() == ["the caller", ["run p", ["waits", ["attempt 1"]]]]
    for name in ("run p", "waits", "attempt 1"):
        (found,) = spans_named(ended.spans, name)
        assert (found.status, found.attributes["flujo.status"]) == ("unset", "cancelled")
    assert caplog.records == []


async def test_closing_a_run_elsewhere_changes_nothing_there(ended: Ended) -> None:
    run = Flujo(Step("waits", waiting)).run_async(1)
    run.send(None)

    async def closes() -> None:
        with span("elsewhere") as current:
            run.close()
            assert trace.get_current_span() is current

    await asyncio.create_task(closes())


# --- whose spans


async def test_spans_are_left_unless_the_runner_is_told_not_to(ended: Ended) -> None:
    await Flujo(Step("one", waiting), enable_tracing=False).run_async(1)
    runner = Flujo(Step("one", waiting))
    runner.disable_tracing()
    await runner.run_async(1)
    assert [span.name for span in ended.spans] == ["on the loop"] * 2


async def test_without_an_sdk_there_are_no_spans() -> None:
    seen = []

    async def looks(x: int) -> int:
        seen.append((trace.get_current_span(), current_step().traceparent))
        return x

    await Flujo(Step("looks", looks)).run_async(1)
    assert seen == [(trace.INVALID_SPAN, None)]


async def test_an_sdk_that_fails_harms_no_run(ended: Ended, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(SpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise RuntimeError("broken")

    ended.provider.add_span_processor(Broken())
    result = await Flujo(Step.parallel("fan", {"a": Step("a", lambda x: x)})).run_async(1)
    assert result.output == {"a": 1}
    assert {record.name for record in caplog.records} == {"flujo.telemetry"}


# --- other processes

FOREIGN = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_a_run_may_be_below_a_span_of_another_process(ended: Ended) -> None:
    seen: list[str | None] = []

    async def looks(x: int) -> int:
        seen.append(current_step().traceparent)
        return x

    runner = Flujo(Step("looks", looks), pipeline_name="p")
    with span("of this process"):
        await runner.run_async(1, traceparent=FOREIGN)
    (run,) = spans_named(ended.spans, "run p")
    assert (run.trace_id, run.parent_id) == (FOREIGN[3:35], FOREIGN[36:52])
    (attempt,) = spans_named(ended.spans, "attempt 1")
    assert seen == [f"00-{run.trace_id}-{attempt.span_id}-01"]


async def test_a_traceparent_goes_through_a_run_that_leaves_no_spans() -> None:
    async def looks(x: int) -> str | None:
        return current_step().traceparent

    assert (await Flujo(Step("looks", looks)).run_async(1, traceparent=FOREIGN)).output == FOREIGN


async def test_what_is_no_traceparent_counts_as_none(ended: Ended) -> None:
    for text in ("", "00-zz-zz-01", "x" * 10_000):
        ended.clear()
        await Flujo(Step("one", waiting), pipeline_name="p").run_async(1, traceparent=text)
        (run,) = spans_named(ended.spans, "run p")
        assert run.parent_id == ""
    with pytest.raises(TypeError, match="traceparent must be the text"):
        Flujo(Step("one", waiting)).run_async(1, traceparent=b"00")
