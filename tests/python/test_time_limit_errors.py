"""What ran out of time says so by its error, as whatever raised does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import virtual_time

from flujo import Flujo, Step, StepConfig
from flujo.domain.results import PipelineResult
from flujo.exceptions import PipelineFailed


async def sleeps(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


def ran(pipeline: Any) -> PipelineResult[Any, Any]:
    async def main() -> PipelineResult[Any, Any]:
        return await Flujo(pipeline).run_async(10.0)

    return virtual_time.run(main())


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            StepConfig(timeout_s=1, max_retries=1),
            "attempt 2 of step `slow` took longer than its time limit of 1s",
        ),
        (StepConfig(deadline_s=2, max_retries=0), "step `slow` did not end within its deadline of 2s"),
    ],
)
def test_a_step_that_ran_out_of_time_has_a_timeout_error(config: StepConfig, said: str) -> None:
    result = ran(Step("slow", sleeps, config=config))
    (record,) = result.step_history
    assert type(record.error) is TimeoutError
    assert str(record.error) == said
    assert record.error is record.error
    with pytest.raises(PipelineFailed) as caught:
        result.raise_for_failure()
    assert caught.value.__cause__ is record.error
    assert record.model_dump(mode="json")["error"]["type"] == "TimeoutError"


def test_a_branch_and_an_item_that_ran_out_of_time_have_one_too() -> None:
    slow = Step("slow", sleeps, config=StepConfig(timeout_s=1, max_retries=0))
    listed: Step[Any, Any] = Step("listed", lambda seconds: [seconds], inline=True)
    for pipeline in (Step.parallel("fan", {"a": slow}), listed >> Step.map_over("each", slow)):
        result = ran(pipeline)
        assert not result.success
        failed = result.step_history[-1]
        (inner,) = failed.step_history or failed.items
        assert type(inner.error) is TimeoutError


def test_a_handler_of_the_failure_is_given_it() -> None:
    given: list[Any] = []

    async def handle(failure: Any) -> str:
        given.append(failure.error)
        return "handled"

    slow = Step("slow", sleeps, config=StepConfig(timeout_s=1, max_retries=0))
    slow.on_failure(handle)
    ran(slow)
    assert [type(error) for error in given] == [TimeoutError]
