"""An agentic loop: a planner runs agents until it has the answer. Run it: `python agentic_loop.py`."""

import asyncio
from typing import Any

from flujo import make_agentic_loop_pipeline, run_agentic_loop_pipeline
from flujo.domain.commands import FinishCommand, RunAgentCommand


async def planner(state: dict[str, Any]) -> RunAgentCommand | FinishCommand:
    # A model would decide here.
    if state["last_command_result"] is None:
        return RunAgentCommand(agent_name="calculator", input_data="6 * 7")
    return FinishCommand(final_answer=f"{state['goal']}: {state['last_command_result']}")


async def calculator(expression: str) -> int:
    left, _, right = expression.split()
    return int(left) * int(right)


pipeline = make_agentic_loop_pipeline(planner, {"calculator": calculator})

if __name__ == "__main__":
    result = asyncio.run(run_agentic_loop_pipeline(pipeline, "the answer"))
    print(result.output)
    for entry in result.final_pipeline_context.command_log:
        print(entry.turn, entry.generated_command.type, entry.execution_result)
