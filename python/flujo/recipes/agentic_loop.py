"""An agentic loop: a planner says what is to be done next, until it says that it has finished.

Each turn is one iteration of a loop: the planner's step, then the branch that its command chooses. Each agent of the
registry is a step of its own there, so its retries, usage and record are those of any step. The context's `command_log`
holds the turns.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flujo.domain.commands import AgentCommand, AskHumanCommand, FinishCommand, RunAgentCommand
from flujo.domain.context import ExecutedCommandLog
from flujo.domain.dsl.pipeline import Pipeline
from flujo.domain.dsl.step import Step
from flujo.domain.results import PipelineResult, StepFailure

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["make_agentic_loop_pipeline", "run_agentic_loop_pipeline"]

_RUN, _ASK, _FINISH, _UNKNOWN = "run_agent", "ask_human", "finish", "unknown agent"


def make_agentic_loop_pipeline(
    planner_agent: object,
    agent_registry: Mapping[str, object],
    max_loops: int = 10,
    max_retries: int = 3,
) -> Pipeline[Any, Any]:
    """A loop in which a planner runs agents, asks humans, and at last gives the answer.

    The planner gets a dict with `goal`, `last_command_result` and `command_log`, and gives a `RunAgentCommand`, an
    `AskHumanCommand` or a `FinishCommand` (or a dict that is one). An agent that fails, or that the registry lacks,
    doesn't end the loop: the planner gets the error as result. The output is the `final_answer`. The run's context must
    be a `PipelineContext`.

    Args:
        planner_agent: Says what is to be done next.
        agent_registry: The agents by the names that commands use.
        max_loops: How many commands there are at most.
        max_retries: How often the planner and each agent are tried again.

    Raises:
        TypeError: an agent is none.
    """
    if not isinstance(agent_registry, Mapping):
        raise TypeError(f"agent_registry = {agent_registry!r}: must be a mapping of names to agents")
    planner = Step("planner", planner_agent, max_retries=max_retries)
    planner.processors.output_processors.append(_AsCommand())
    branches: dict[Any, Step[Any, Any]] = {
        (_RUN, name): Step(name, agent, max_retries=max_retries).on_failure(
            Step.from_callable(_error_text, name=f"{name} failed", inline=True)
        )
        for name, agent in agent_registry.items()
    }
    branches[_ASK] = Step.human_in_the_loop("ask_human")
    branches[_FINISH] = Step.from_mapper(_same, name="finish")
    known = ", ".join(map(repr, agent_registry)) or "none"
    branches[_UNKNOWN] = Step.from_mapper(_Unknown(known), name="unknown agent")
    execute = Step.branch_on(
        "execute",
        _Choice(agent_registry),
        branches,
        branch_input_mapper=_begin_turn,
        branch_output_mapper=_end_turn,
    )
    loop = Step.loop_until(
        "agentic loop",
        planner >> execute,
        _has_finished,
        max_loops,
        initial_input_to_loop_body_mapper=_first_prompt,
        iteration_input_mapper=_next_prompt,
        loop_output_mapper=_final_answer,
    )
    return Pipeline([loop], name="agentic_loop")


async def run_agentic_loop_pipeline(
    pipeline: Pipeline[Any, Any], initial_goal: Any, **options: Any
) -> PipelineResult[Any, Any]:
    """Run such a pipeline on a goal.

    Args:
        pipeline: What `make_agentic_loop_pipeline` gave.
        initial_goal: What the planner is to reach.
        **options: The options of `Flujo`.
    """
    from flujo.application.runner import Flujo

    async with Flujo(pipeline, **options) as runner:
        return await runner.run_async(initial_goal)


class _AsCommand:
    """Makes a command of what the planner gave; what is none is a failed attempt."""

    name = "as command"

    async def process(self, data: Any) -> Any:
        """The command."""
        if isinstance(data, RunAgentCommand | AskHumanCommand | FinishCommand):
            return data
        return _commands().validate_python(data)


@functools.cache
def _commands() -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(AgentCommand)


class _Choice:
    """The branch that a command is for."""

    def __init__(self, registry: Mapping[str, object]) -> None:
        self._known = frozenset(registry)

    def __call__(self, command: Any) -> Any:
        if isinstance(command, RunAgentCommand):
            return (_RUN, command.agent_name) if command.agent_name in self._known else _UNKNOWN
        return command.type


def _begin_turn(command: Any, context: Any) -> Any:
    """Note the command, and give its input to the branch."""
    turn = len(context.command_log) + 1
    context.command_log.append(ExecutedCommandLog(turn=turn, generated_command=command))
    match command:
        case RunAgentCommand(input_data=given):
            return given
        case AskHumanCommand(question=question):
            return question
        case FinishCommand(final_answer=answer):
            return answer
    return command


def _end_turn(output: Any, context: Any) -> Any:
    """Note what came of the command."""
    context.command_log[-1].execution_result = output
    return output


def _same(value: Any) -> Any:
    return value


class _Unknown:
    """Tells the planner of a name that the registry lacks."""

    def __init__(self, known: str) -> None:
        self._known = known

    def __call__(self, given: Any) -> str:
        return f"Error: there is no agent of that name; the agents are {self._known}"


async def _error_text(failure: StepFailure) -> str:
    """What the planner is told of an agent that failed."""
    return f"Error during command execution: {failure.feedback}"


def _prompt(context: Any, goal: Any, last: Any) -> dict[str, Any]:
    return {"goal": goal, "last_command_result": last, "command_log": list(context.command_log)}


def _first_prompt(goal: Any, context: Any) -> dict[str, Any]:
    context.initial_prompt = goal if isinstance(goal, str) else str(goal)
    return _prompt(context, goal, None)


def _next_prompt(result: Any, context: Any, _index: int) -> dict[str, Any]:
    return _prompt(context, context.initial_prompt, result)


def _has_finished(_result: Any, context: Any) -> bool:
    return isinstance(context.command_log[-1].generated_command, FinishCommand)


def _final_answer(_result: Any, context: Any) -> Any:
    return context.command_log[-1].generated_command.final_answer
