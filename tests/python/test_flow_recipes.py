"""The recipes: an agentic loop, and the default pipeline."""

from __future__ import annotations

from typing import Any

import pytest

from flujo import (
    Flujo,
    make_agentic_loop_pipeline,
    make_default_pipeline,
    run_agentic_loop_pipeline,
    run_default_pipeline,
)
from flujo.domain.candidates import Candidate, Checklist, ChecklistItem, Task
from flujo.domain.commands import AskHumanCommand, FinishCommand, RunAgentCommand


class Planner:
    """Gives prepared commands; keeps what it was asked."""

    def __init__(self, *commands: Any) -> None:
        self.commands = list(commands)
        self.asked: list[Any] = []

    async def run(self, data: Any) -> Any:
        self.asked.append(data)
        return self.commands.pop(0)


class Costly:
    def __init__(self, output: Any) -> None:
        self.output, self.cost_usd, self.token_counts = output, 0.25, 10


async def search(query: Any) -> Costly:
    return Costly(f"found {query}")


async def broken(query: Any) -> str:
    raise LookupError("no network")


async def test_a_planner_runs_agents_until_it_finishes() -> None:
    planner = Planner(
        RunAgentCommand(agent_name="search", input_data="rust"),
        {"type": "run_agent", "agent_name": "search", "input_data": "python"},
        FinishCommand(final_answer="both"),
    )
    result = await run_agentic_loop_pipeline(
        make_agentic_loop_pipeline(planner, {"search": search}), "compare"
    )
    assert result.success and result.output == "both"
    log = result.final_pipeline_context.command_log
    assert [(entry.turn, entry.generated_command.type, entry.execution_result) for entry in log] == [
        (1, "run_agent", "found rust"),
        (2, "run_agent", "found python"),
        (3, "finish", "both"),
    ]
    assert [asked["last_command_result"] for asked in planner.asked] == [None, "found rust", "found python"]
    assert {asked["goal"] for asked in planner.asked} == {"compare"}
    assert [len(asked["command_log"]) for asked in planner.asked] == [0, 1, 2]
    assert (result.total_cost_usd, result.total_tokens) == (0.5, 20)


async def test_an_agent_that_fails_or_isnt_there_is_told_to_the_planner() -> None:
    planner = Planner(
        RunAgentCommand(agent_name="broken"),
        RunAgentCommand(agent_name="nobody"),
        FinishCommand(final_answer=1),
    )
    pipeline = make_agentic_loop_pipeline(planner, {"broken": broken}, max_retries=0)
    result = await Flujo(pipeline).run_async("goal")
    assert result.success
    first, second = [asked["last_command_result"] for asked in planner.asked[1:]]
    assert first.startswith("Error during command execution:") and "no network" in first
    assert second == "Error: there is no agent of that name; the agents are 'broken'"


async def test_a_question_to_a_human_pauses_the_run_and_the_planner_gets_the_answer() -> None:
    planner = Planner(AskHumanCommand(question="who?"), FinishCommand(final_answer="done"))
    runner = Flujo(make_agentic_loop_pipeline(planner, {}))
    paused = await runner.run_async("goal")
    assert (paused.status, [pause.message for pause in paused.pauses]) == ("paused", ["who?"])
    result = await runner.resume_async(paused, "me")
    assert result.output == "done"
    log = result.final_pipeline_context.command_log
    assert [(entry.turn, entry.execution_result) for entry in log] == [(1, "me"), (2, "done")]
    assert planner.asked[1]["last_command_result"] == "me"


async def test_a_planner_that_never_finishes_ends_with_max_loops_and_its_log() -> None:
    planner = Planner(*[RunAgentCommand(agent_name="search", input_data=n) for n in range(3)])
    result = await Flujo(make_agentic_loop_pipeline(planner, {"search": search}, max_loops=3)).run_async(
        "goal"
    )
    assert not result.success
    assert result.step_history[0].metadata_["exit_reason"] == "max_loops"
    assert len(result.final_pipeline_context.command_log) == 3


async def test_what_is_no_command_is_a_failed_attempt_of_the_planner() -> None:
    planner = Planner({"type": "dance"}, FinishCommand(final_answer="done"))
    result = await Flujo(make_agentic_loop_pipeline(planner, {})).run_async("goal")
    assert result.output == "done" and len(planner.asked) == 2


def test_a_registry_is_a_mapping() -> None:
    with pytest.raises(TypeError, match="agent_registry"):
        make_agentic_loop_pipeline(search, [search])


# --- the default pipeline


async def review(prompt: str) -> Checklist:
    return Checklist(items=[ChecklistItem(description="short"), ChecklistItem(description=prompt)])


def validator(passes: Any) -> Any:
    async def validate(given: dict[str, Any]) -> Checklist:
        items = [
            item.model_copy(update={"passed": passes(given["solution"], item), "feedback": "see above"})
            for item in given["checklist"].items
        ]
        return Checklist(items=items)

    return validate


async def test_the_default_pipeline_solves_until_the_checklist_has_passed() -> None:
    asked: list[Any] = []

    async def solve(given: Any) -> str:
        asked.append(given)
        return f"solution {len(asked)}"

    pipeline = make_default_pipeline(review, solve, validator(lambda text, item: text == "solution 2"))
    best = await run_default_pipeline(pipeline, Task(prompt="write"))
    assert isinstance(best, Candidate)
    assert (best.solution, best.score) == ("solution 2", 1.0)
    assert asked[0] == "write"
    assert asked[1] == {
        "prompt": "write",
        "solution": "solution 1",
        "feedback": ["short: see above", "write: see above"],
    }


async def test_the_best_variant_counts_and_reflection_makes_the_feedback() -> None:
    asked: list[Any] = []

    async def solve(given: Any) -> str:
        asked.append(given)
        return "good" if len(asked) % 2 else "bad"

    async def reflect(candidate: Candidate) -> str:
        return f"more than {candidate.score}"

    pipeline = make_default_pipeline(
        review,
        solve,
        validator(lambda text, item: text == "good" and item.description == "short"),
        reflect,
        k_variants=2,
        max_iters=3,
        reflection_limit=1,
    )
    result = await Flujo(pipeline).run_async("write")
    assert not result.success
    assert (result.output.solution, result.output.score) == ("good", 0.5)
    assert len(asked) == 6
    assert asked[2]["feedback"] == "more than 0.5"
    assert result.final_pipeline_context.solution == "good"
    reflected = [
        one.name
        for turn in result.step_history[-1].step_history
        if turn.name == "reflect"
        for one in turn.step_history
    ]
    assert reflected == ["reflection", "go on", "go on"]


@pytest.mark.parametrize("options", [{"k_variants": 0}, {"max_iters": 0}, {"k_variants": True}])
def test_numbers_below_one_are_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="must be a whole number"):
        make_default_pipeline(review, search, search, **options)
