"""The errors that end a run from inside carry what it had done until then."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from flujo import Flujo, Step
from flujo.domain.plugins import PluginOutcome
from flujo.exceptions import (
    ConfigurationError,
    ControlFlowError,
    InfiniteFallbackError,
    InfiniteRedirectError,
    MissingAgentError,
    PausedException,
    PricingNotConfiguredError,
    UsageLimitExceededError,
)

EndsRuns = ConfigurationError | ControlFlowError | UsageLimitExceededError


async def _first(x: int) -> int:
    return x + 1


async def _ended_by(step: Step[Any, Any], kind: type[EndsRuns]) -> Any:
    with pytest.raises(kind) as caught:
        await Flujo(Step("first", _first) >> step).run_async(1)
    return caught.value.result


async def test_agents_that_redirect_to_one_another_for_ever() -> None:
    async def agent(x: int) -> int:
        return x

    class Redirects:
        async def validate(self, data: Any) -> PluginOutcome:
            return PluginOutcome(success=True, redirect_to=agent)

    result = await _ended_by(Step("turns", agent, plugins=[(Redirects(), 1)]), InfiniteRedirectError)
    assert result.status == "failed"
    assert [(step.name, step.success) for step in result.step_history] == [("first", True), ("turns", False)]
    assert result.step_history[0].output == 2


@pytest.mark.parametrize(
    "raised",
    [
        UsageLimitExceededError("too much"),
        PricingNotConfiguredError("openai", "gpt"),
        MissingAgentError("nobody"),
        InfiniteRedirectError("round"),
        InfiniteFallbackError("and round"),
        PausedException("wait"),
        ControlFlowError("else"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_each_of_them_raised_by_a_step(raised: EndsRuns) -> None:
    async def raises(x: int) -> int:
        raise copy.copy(raised)

    for step in (
        Step("raises", raises, max_retries=3, fallback_step=Step("saver", _first)),
        Step.parallel(
            "fan", {"a": Step("raises", raises), "b": Step("b", _first)}, on_branch_failure="ignore"
        ),
    ):
        result = await _ended_by(step, type(raised))
        assert result.status == "failed"
        assert [record.name for record in result.step_history] == ["first", step.name]


async def test_a_result_that_the_error_carries_already_stays() -> None:
    inner = Flujo(Step("inner", _first))
    result = await inner.run_async(1)

    async def raises(x: int) -> int:
        raise UsageLimitExceededError("inside", result)

    assert await _ended_by(Step("raises", raises), UsageLimitExceededError) is result


async def test_a_pipeline_that_was_refused_before_it_began_has_no_result() -> None:
    assert await _ended_by(Step("nobody"), MissingAgentError) is None
