"""The tools for testing pipelines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from flujo.domain.plugins import PluginOutcome
from flujo.domain.results import PipelineResult, StepResult
from flujo.domain.validation import ValidationResult
from flujo.exceptions import ReplayError
from flujo.testing.agents import all_steps
from flujo.testing.backends import through_json
from flujo.testing.utils import (
    DummyPlugin,
    FailingStreamAgent,
    ReplayAgent,
    StubAgent,
    assert_context_updated,
    assert_pipeline_result,
    assert_validator_failed,
    gather_result,
    override_agent,
    override_agent_direct,
)


async def test_a_stub_gives_its_outputs_in_turn_and_then_says_so() -> None:
    agent = StubAgent(["a", ValueError("b")])
    assert await agent.run("first", temperature=1) == "a"
    with pytest.raises(ValueError, match="b"):
        await agent.run("second")
    with pytest.raises(IndexError, match="No more outputs available"):
        await agent.run("third")
    assert agent.inputs == ["first", "second", "third"]
    assert agent.call_count == 3


async def test_a_dummy_plugin_repeats_its_last_outcome() -> None:
    plugin = DummyPlugin([PluginOutcome(False, "no"), PluginOutcome(True)])
    assert [(await plugin.validate({"output": n})).success for n in range(3)] == [False, True, True]
    assert plugin.call_count == 3
    with pytest.raises(ValueError, match="at least one"):
        DummyPlugin([])


@pytest.mark.parametrize(("fail_after", "expected"), [(None, ["a", "b"]), (1, ["a"]), (0, [])])
async def test_a_failing_stream_breaks_off_where_it_is_told(
    fail_after: int | None, expected: list[str]
) -> None:
    agent = FailingStreamAgent(["a", "b"], RuntimeError("gone"), fail_after)
    seen = []
    with pytest.raises(RuntimeError, match="gone"):
        async for chunk in agent.stream("x"):
            seen.append(chunk)
    assert seen == expected


async def test_a_replay_gives_what_was_recorded_and_refuses_more() -> None:
    loop = StepResult(name="loop", step_history=[StepResult(name="draft", output=n) for n in (1, 2)])
    result: PipelineResult[Any, Any] = PipelineResult(step_history=[loop])
    agent = ReplayAgent.of(result, "draft")
    assert [await agent.run(), await agent.run()] == [1, 2]
    with pytest.raises(ReplayError, match="'draft' was called 3 times, but only 2"):
        await agent.run()
    with pytest.raises(ReplayError, match="'draft', 'loop'"):
        ReplayAgent.of(result, "nothing")


def test_all_steps_walks_any_depth() -> None:
    step = StepResult(name="0")
    for n in range(1, 5000):
        step = StepResult.model_construct(name=str(n), step_history=[step], items=[])
    assert sum(1 for _ in all_steps([step])) == 5000
    while step.step_history:  # taken apart from the outside, so that no deep chain is freed at once
        step.step_history, step = [], step.step_history[0]


async def test_gather_result_awaits_or_iterates() -> None:
    result: PipelineResult[Any, Any] = PipelineResult(output=1)

    async def awaited(data: Any) -> PipelineResult[Any, Any]:
        return result

    async def iterated(data: Any) -> AsyncIterator[Any]:
        yield "chunk"
        yield result

    async def wrong(data: Any) -> str:
        return "text"

    assert await gather_result(SimpleNamespace(run_async=awaited), "x") is result
    assert await gather_result(SimpleNamespace(run_async=iterated), "x") is result
    with pytest.raises(TypeError, match="not with a PipelineResult"):
        await gather_result(SimpleNamespace(run_async=wrong), "x")


@pytest.mark.parametrize("override", [override_agent, override_agent_direct])
def test_an_overridden_agent_comes_back_whatever_happens(override: Any) -> None:
    step = SimpleNamespace(agent="own")
    with pytest.raises(KeyError), override(step, "stub") as agent:
        assert step.agent == agent == "stub"
        raise KeyError
    assert step.agent == "own"


def test_assertions_on_the_result_pass_or_say_what_was_there() -> None:
    good: PipelineResult[Any, Any] = PipelineResult(step_history=[StepResult(name="a", output=1)])
    assert_pipeline_result(good, 1, steps=["a"])
    with pytest.raises(AssertionError, match="expected the output 2, but it is 1"):
        assert_pipeline_result(good, 2)
    with pytest.raises(AssertionError, match="these were run: \\['a'\\]"):
        assert_pipeline_result(good, steps=["b"])
    bad: PipelineResult[Any, Any] = PipelineResult(
        step_history=[StepResult(name="a", success=False, feedback="broke")], success=False
    )
    assert_pipeline_result(bad, success=False)
    with pytest.raises(AssertionError, match="failed: 'a': broke"):
        assert_pipeline_result(bad)


class Context(BaseModel):
    n: int = 3
    verdicts: list[ValidationResult] = []


@pytest.mark.parametrize("place", ["feedback", "metadata", "context"])
def test_a_validators_refusal_is_found_wherever_it_is_kept(place: str) -> None:
    verdict = ValidationResult(is_valid=False, feedback="too long", validator_name="short")
    step = StepResult(name="a", success=False)
    context = Context()
    if place == "feedback":
        step.feedback = "validator short: too long"
    elif place == "metadata":
        step.metadata["validation"] = [verdict]
    else:
        context.verdicts = [verdict]
    result: PipelineResult[Any, Any] = PipelineResult(
        step_history=[StepResult(name="outer", step_history=[step])], final_pipeline_context=context
    )
    assert_validator_failed(result, "short", "too long")
    with pytest.raises(AssertionError, match="'other' to refuse"):
        assert_validator_failed(result, "other")


def test_context_assertions_name_field_and_value() -> None:
    result: PipelineResult[Any, Any] = PipelineResult(final_pipeline_context=Context())
    assert_context_updated(result, n=3)
    with pytest.raises(AssertionError, match=r"context\.n to be 4, but it is 3"):
        assert_context_updated(result, n=4)
    with pytest.raises(AssertionError, match="no such field"):
        assert_context_updated(result, m=4)


class Inner(BaseModel):
    words: set[str]


class Outer(BaseModel):
    inner: Inner
    anything: Any = None


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        "text",
        [Inner(words={"a"}), (1, 2)],
        {"a": Inner(words={"b"})},
        Outer(inner=Inner(words={"a"}), anything=Inner(words={"c"})),
        {1, 2},
        frozenset({"x"}),
    ],
)
def test_a_value_comes_back_from_json_equal_and_of_its_class(value: Any) -> None:
    back = through_json(value)
    assert back == value
    assert type(back) is type(value)


def test_a_copy_through_json_shares_nothing() -> None:
    value = {"a": [1]}
    through_json(value)["a"].append(2)
    assert value == {"a": [1]}


def test_what_json_cannot_hold_is_named() -> None:
    with pytest.raises(ValueError, match="the input"):
        through_json([object()], "the input")


async def test_a_remote_step_works_on_copies_and_sends_its_result_back() -> None:
    pytest.importorskip("flujo.application.runner")
    from flujo.domain.backends import StepExecutionRequest
    from flujo.domain.context import PipelineContext
    from flujo.domain.dsl import step
    from flujo.testing.utils import DummyRemoteBackend

    seen: list[Any] = []

    @step
    async def grow(data: list[Inner], *, context: PipelineContext) -> Inner:
        seen.append(data)
        data.append(Inner(words={"far"}))
        context.call_count += 1
        return data[-1]

    given = [Inner(words={"near"})]
    context = PipelineContext()
    backend = DummyRemoteBackend()
    result = await backend.execute_step(StepExecutionRequest(step=grow, input_data=given, context=context))
    assert result.success
    assert result.output == Inner(words={"far"})
    assert seen[0] is not given
    assert given == [Inner(words={"near"})]
    assert (context.call_count, result.branch_context.call_count) == (0, 1)
    assert backend.call_counter == 1
    with pytest.raises(ValueError, match="the input"):
        await backend.execute_step(StepExecutionRequest(step=grow, input_data=object()))
