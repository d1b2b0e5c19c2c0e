"""Questions inside loops, conditionals, state machines and steps with a life of their own."""

from __future__ import annotations

from typing import Any

import pytest

from flujo import Flujo, Pipeline, PipelineContext, Step, step
from flujo.domain.plugins import PluginOutcome
from flujo.testing.agents import StubAgent


class Slots(PipelineContext):
    slots: list[str] = []


def ask(name: str = "ask") -> Any:
    return Step.human_in_the_loop(name, f"{name}?")


def body_with(place: str, calls: list[Any]) -> Pipeline[Any, Any]:
    @step
    async def a(data: Any) -> Any:
        calls.append("a")
        return data

    @step
    async def b(data: Any, *, context: Slots) -> Any:
        calls.append("b")
        context.slots.append(str(data))
        return data

    match place:
        case "first":
            return ask() >> a >> b
        case "last":
            return a >> b >> ask()
        case "inside a conditional":
            return a >> Step.branch_on("if", lambda data, context: "yes", {"yes": ask()}) >> b
        case _:
            return a >> ask() >> b


@pytest.mark.parametrize("place", ["between", "first", "last", "inside a conditional"])
async def test_p01_a_loop_goes_on_where_it_asked(place: str) -> None:
    calls: list[Any] = []
    loop = Step.loop_until(
        "loop", body_with(place, calls), lambda output, context: len(context.slots) == 2, max_loops=5
    )
    runner = Flujo(Pipeline([loop]), context_model=Slots)
    first = await runner.run_async("start")
    assert first.status == "paused"
    second = await runner.resume_async(first, "x")
    assert second.status == "paused"
    assert first.pauses[0].id != second.pauses[0].id
    done = await runner.resume_async(second, "y")
    assert done.status == "completed"
    assert (calls.count("a"), calls.count("b")) == (2, 2)
    assert [result.name for result in done.step_history] == ["loop"]
    assert done.step_history[0].attempts == 2
    context = done.final_pipeline_context
    expected = ["start", "x"] if place == "last" else ["x", "y"]
    assert context.slots == expected
    assert [said.human_response for said in context.hitl_history] == ["x", "y"]
    assert (context.pause_message, context.paused_step_input) == (None, None)


async def test_p01_two_questions_in_a_body_are_asked_one_after_the_other() -> None:
    calls: list[Any] = []
    body = ask("one") >> body_with("between", calls)
    loop = Step.loop_until("loop", body, lambda output, context: len(context.slots) == 2)
    runner = Flujo(Pipeline([loop]), context_model=Slots)
    result = await runner.run_async("start")
    for answer in ("1", "x", "2", "y"):
        assert result.status == "paused"
        result = await runner.resume_async(result, answer)
    assert result.status == "completed"
    assert result.final_pipeline_context.slots == ["x", "y"]


async def test_p02_a_pause_inside_a_step_with_a_life_is_no_failure_of_it() -> None:
    fell_back: list[Any] = []
    looked_at: list[Any] = []

    async def other(data: Any) -> Any:
        fell_back.append(data)

    async def plugin(data: dict[str, Any]) -> PluginOutcome:
        looked_at.append(data)
        return PluginOutcome(success=True)

    fan = Step.parallel(
        "fan",
        {"asks": Step("work", StubAgent(["draft"])) >> ask(), "plain": Step("plain", StubAgent(["x"]))},
        max_retries=3,
        fallback_step=Step("other", other),
        plugins=[plugin],
    )
    runner = Flujo(Pipeline([fan, Step("after", StubAgent(["end"]))]))
    paused = await runner.run_async("x")
    assert paused.status == "paused"
    assert (fell_back, looked_at) == ([], [])
    assert [pause.message for pause in paused.pauses] == ["ask?"]
    done = await runner.resume_async(paused, "yes")
    assert done.output == "end"
    assert [(result.name, result.attempts) for result in done.step_history] == [("fan", 1), ("after", 1)]
    assert done.step_history[0].output == {"asks": "yes", "plain": "x"}
    assert len(looked_at) == 1
    assert fell_back == []
