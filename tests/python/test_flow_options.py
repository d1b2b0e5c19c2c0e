"""Every construct takes the options of a step, and is one step to whoever looks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from flujo import Flujo, Pipeline, PipelineContext, Step, UsageLimits, current_step
from flujo.domain.dsl import ImportStep, StateMachineStep
from flujo.domain.events import OnStepFailurePayload, PostStepPayload, PreStepPayload
from flujo.domain.plugins import PluginOutcome
from flujo.exceptions import ConfigurationError, UsageLimitExceededError


class Notes(PipelineContext):
    kept: Any = None
    notes: list[Any] = []
    counted: int = 0


Body = Callable[[Any], Any]


def conditional(name: str, body: Step[Any, Any], **options: Any) -> Step[Any, Any]:
    return Step.branch_on(name, lambda out, ctx: "only", {"only": body}, **options)


def parallel(name: str, body: Step[Any, Any], **options: Any) -> Step[Any, Any]:
    return Step.parallel(name, {"only": body}, reduce=_first, **options)


def _first(lanes: list[Any]) -> Any:
    return lanes[0].output


def mapped(name: str, body: Step[Any, Any], **options: Any) -> Step[Any, Any]:
    return Step.map_over(name, body, iterable_input=lambda given: [given], **options)


def looped(name: str, body: Step[Any, Any], **options: Any) -> Step[Any, Any]:
    return Step.loop_until(name, body, lambda out: True, **options)


def routed(name: str, body: Step[Any, Any], **options: Any) -> Step[Any, Any]:
    async def choose(given: Any) -> list[str]:
        return ["only"]

    return Step.dynamic_parallel_branch(name, choose, {"only": body}, reduce=_first, **options)


def states(name: str, body: Step[Any, Any], **options: Any) -> Step[Any, Any]:
    return StateMachineStep(name, {"only": body}, "only", ["only"], **options)


def nested(name: str, body: Step[Any, Any], **options: Any) -> Step[Any, Any]:
    return Pipeline([body]).as_step(name, **options)


def imported(name: str, body: Step[Any, Any], **options: Any) -> Step[Any, Any]:
    return ImportStep(name, body, inherit_context=True, **options)


CONSTRUCTS = {
    "conditional": conditional,
    "parallel": parallel,
    "map": mapped,
    "loop": looped,
    "router": routed,
    "state machine": states,
    "sub-pipeline": nested,
    "import": imported,
}

every_construct = pytest.mark.parametrize("make", CONSTRUCTS.values(), ids=CONSTRUCTS)

Make = Callable[..., Step[Any, Any]]


class Flaky:
    """Fails a few times; counts its calls."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls = 0

    async def run(self, data: Any) -> Any:
        self.calls += 1
        if self.calls <= self.failures:
            raise ValueError(f"call {self.calls}")
        return data


def plain(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


@every_construct
async def test_a_construct_is_retried_only_when_its_user_says_so(make: Make) -> None:
    agent = Flaky(1)
    result = await Flujo(make("whole", Step("inner", agent, max_retries=0))).run_async("x")
    assert (result.success, agent.calls) == (False, 1)

    agent = Flaky(2)
    result = await Flujo(make("whole", Step("inner", agent, max_retries=0), max_retries=2)).run_async("x")
    assert (result.success, agent.calls, plain(result.output)) == (True, 3, "x")
    [whole] = result.step_history
    assert (whole.name, whole.attempts) == ("whole", 3)
    assert len(whole.metadata_["attempt_failures"]) == 2


@every_construct
async def test_a_failed_attempt_of_a_construct_leaves_no_trace_in_the_context(make: Make) -> None:
    async def writes(x: Any, context: Notes) -> Any:
        context.counted += 1
        context.notes.append(context.counted)
        return x

    runs = Flaky(1)
    body = Pipeline([Step("writes", writes), Step("fails", runs, max_retries=0)]).as_step("body")
    whole = make("whole", body, max_retries=1)
    if hasattr(whole, "merge_strategy"):
        whole.merge_strategy = "context_update"
    result = await Flujo(whole, context_model=Notes).run_async("x")
    assert result.success and runs.calls == 2
    assert result.final_pipeline_context.notes == [1]


@every_construct
async def test_sink_to_and_updates_context(make: Make) -> None:
    whole = make("whole", Step("inner", Flaky(0)), sink_to="kept")
    result = await Flujo(whole, context_model=Notes).run_async("x")
    assert plain(result.final_pipeline_context.kept) == "x"
    whole = make("whole", Step("inner", Flaky(0)), updates_context=True)
    if make is mapped:
        result = await Flujo(whole, context_model=Notes).run_async({"kept": 7})
        assert not result.success
        assert "updates_context=True, but its output is a list" in (result.step_history[0].feedback or "")
    else:
        result = await Flujo(whole, context_model=Notes).run_async({"kept": 7})
        assert result.final_pipeline_context.kept == 7


@every_construct
async def test_plugins_and_validators_check_a_constructs_output(make: Make) -> None:
    class Replace:
        async def validate(self, data: dict[str, Any]) -> PluginOutcome:
            return PluginOutcome(success=True, new_solution="replaced")

    seen: list[Any] = []

    def refuses_first(output: Any) -> tuple[bool, str | None]:
        seen.append(output)
        return len(seen) > 1, "not yet"

    agent = Flaky(0)
    whole = make(
        "whole", Step("inner", agent), plugins=[Replace()], validators=[refuses_first], max_retries=1
    )
    result = await Flujo(whole).run_async("x")
    assert (result.output, seen, agent.calls) == ("replaced", ["replaced"] * 2, 2)
    assert "not yet" in result.step_history[0].metadata_["attempt_failures"][0]


@every_construct
async def test_a_fallback_takes_the_place_of_a_construct(make: Make) -> None:
    async def instead(x: Any) -> str:
        return f"instead of {x}"

    whole = make("whole", Step("inner", Flaky(9), max_retries=0), fallback_step=Step("other", instead))
    result = await Flujo(whole).run_async("x")
    [one] = result.step_history
    assert (result.output, one.name, one.success) == ("instead of x", "other", True)
    assert one.metadata_["fallback_triggered"] is True
    assert "call 1" in one.metadata_["original_error"]


@every_construct
async def test_a_time_limit_holds_for_one_attempt_of_a_construct(make: Make) -> None:
    calls = 0
    ended = 0

    async def slow_at_first(x: Any) -> Any:
        nonlocal calls, ended
        calls += 1
        if calls == 1:
            try:
                await asyncio.Event().wait()
            finally:
                ended += 1
        return x

    whole = make("whole", Step("inner", slow_at_first, max_retries=0), timeout_s=0.05, max_retries=1)
    result = await Flujo(whole).run_async("x")
    assert result.success and (calls, ended) == (2, 1)
    assert "took longer than its time limit" in result.step_history[0].metadata_["attempt_failures"][0]


@every_construct
async def test_feedback_of_a_construct_is_persisted(make: Make) -> None:
    whole = make("whole", Step("inner", Flaky(9), max_retries=0), persist_feedback_to_context="notes")
    result = await Flujo(whole, context_model=Notes).run_async("x")
    assert not result.success
    [note] = result.final_pipeline_context.notes
    assert "call 1" in note


@every_construct
async def test_usage_limits_of_a_construct_hold(make: Make) -> None:
    class Costly:
        output, cost_usd, token_counts = "x", 0.5, 10

    async def work(x: Any) -> Costly:
        return Costly()

    body = Pipeline([Step("one", work), Step("two", work)]).as_step("body")
    whole = make("whole", body, usage_limits=UsageLimits(total_tokens_limit=15))
    with pytest.raises(UsageLimitExceededError) as caught:
        await Flujo(whole).run_async("x")
    assert caught.value.result.total_tokens == 20


@every_construct
async def test_a_construct_with_options_is_one_step_to_results_hooks_and_paths(make: Make) -> None:
    told: list[tuple[str, str]] = []
    paths: list[str] = []

    async def before(payload: PreStepPayload) -> None:
        told.append(("pre", payload.step.name))

    async def after(payload: PostStepPayload) -> None:
        told.append(("post", payload.step_result.name))

    async def look(x: Any) -> Any:
        paths.append(current_step().path)
        return x

    def whole(**options: Any) -> Step[Any, Any]:
        return make("whole", Step("inner", look), **options)

    bare = await Flujo(whole(), hooks=[before, after]).run_async("x")
    told_bare, paths_bare = list(told), list(paths)
    told.clear()
    paths.clear()
    wrapped = await Flujo(
        whole(sink_to="kept", validators=[lambda out: True]), hooks=[before, after]
    ).run_async("x")
    assert told == told_bare
    assert paths == paths_bare
    assert described(wrapped.step_history) == described(bare.step_history)


def described(history: list[Any]) -> list[Any]:
    return [
        (one.name, one.output, one.success, one.metadata_, described(one.step_history), described(one.items))
        for one in history
    ]


@every_construct
async def test_a_failing_construct_is_told_of_once(make: Make) -> None:
    told: list[str] = []

    async def failed(payload: OnStepFailurePayload) -> None:
        told.append(payload.step_result.name)

    whole = make("whole", Step("inner", Flaky(9), max_retries=0), max_retries=1)
    result = await Flujo(whole, hooks=[failed]).run_async("x")
    assert not result.success
    assert told.count("whole") == 1


@every_construct
async def test_processors_change_what_goes_into_and_comes_out_of_a_construct(make: Make) -> None:
    class Mark:
        def __init__(self, mark: str) -> None:
            self.name, self.mark = mark, mark

        async def process(self, data: Any, context: Any) -> Any:
            return f"{plain(data)}{self.mark}"

    whole = make("whole", Step("inner", Flaky(0)))
    whole.processors.prompt_processors.append(Mark(">"))
    whole.processors.output_processors.append(Mark("<"))
    assert (await Flujo(whole).run_async("x")).output == "x><"


@every_construct
async def test_a_construct_whose_output_could_not_be_processed_has_none(make: Make) -> None:
    class Broken:
        name = "broken"

        async def process(self, data: Any, context: Any) -> Any:
            raise ValueError("no")

    whole = make("whole", Step("inner", Flaky(0)))
    whole.processors.output_processors.append(Broken())
    result = await Flujo(whole).run_async("x")
    [one] = result.step_history
    assert (one.success, one.output, result.output) == (False, None, None)


@every_construct
async def test_what_only_agents_have_is_refused_on_a_construct(make: Make) -> None:
    whole = make("whole", Step("inner", Flaky(0)), retry_on=ValueError)
    with pytest.raises(ConfigurationError, match="retry_on, which only a step with an agent can have"):
        await Flujo(whole).run_async("x")


async def test_the_last_output_of_a_loop_that_ran_out_is_kept_also_with_options() -> None:
    async def add(x: int) -> int:
        return x + 1

    whole = Step.loop_until("loop", Step("add", add), lambda out: False, max_loops=3, timeout_s=60.0)
    result = await Flujo(whole).run_async(0)
    one = result.step_history[0]
    assert (one.output, one.attempts, one.success) == (3, 1, False)
    assert one.metadata_["iterations"] == 3 and one.metadata_["exit_reason"] == "max_loops"
    assert len(one.step_history) == 3


async def test_statistics_count_a_construct_with_options_once() -> None:
    runner = Flujo(looped("whole", Step("inner", Flaky(0)), sink_to="kept"))
    await runner.run_async("x")
    assert runner.get_performance_statistics()["execution_time_stats"]["by_step"]["whole"]["count"] == 1
