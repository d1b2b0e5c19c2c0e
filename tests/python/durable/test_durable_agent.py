"""Agents of pydantic-ai whose model requests and tool calls are recorded one by one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import RequestUsage

from flujo import AppResources, Flujo, Step
from flujo.agents import DurableAgent
from flujo.domain.validation import validator
from flujo.state import InMemoryBackend

TWELVE = """
import asyncio, os, signal, sys
from pathlib import Path
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.usage import RequestUsage
from flujo import Flujo, Step
from flujo.agents import DurableAgent
from flujo.domain.validation import validator
from flujo.state import SQLiteBackend

path, calls, at = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])

def told(what):
    with calls.open("a") as file:
        file.write(f"{what}\\n")
        file.flush()
        os.fsync(file.fileno())

def returns(messages):
    return [part.content for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]

def answer(messages, info):
    given = returns(messages)
    if len(given) == at and at:
        os.kill(os.getpid(), signal.SIGKILL)  # the call before has returned, the next one has not begun
    told(f"request {len(given)}")
    usage = RequestUsage(input_tokens=1)
    if len(given) == 12:
        return ModelResponse([TextPart(str(sum(given)))], usage=usage)
    return ModelResponse([ToolCallPart("fetch", {"number": len(given)})], usage=usage)

agent = Agent(FunctionModel(answer))

@agent.tool_plain
def fetch(number: int) -> int:
    told(f"tool {number}")
    return number

runner = Flujo(Step("ask", DurableAgent(agent)), state_backend=SQLiteBackend(path))
result = asyncio.run(runner.run_async("Add them", run_id="one"))
print(result.status, result.output, result.total_tokens)
"""


def test_killed_between_tool_calls_3_and_4_calls_1_to_3_run_once(tmp_path: Path) -> None:
    script, calls = tmp_path / "twelve.py", tmp_path / "calls"
    script.write_text(TWELVE)
    command = [sys.executable, str(script), str(tmp_path / "runs.db"), str(calls)]
    killed = subprocess.run([*command, "3"], capture_output=True, text=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = calls.read_text().splitlines()
    assert before == ["request 0", "tool 0", "request 1", "tool 1", "request 2", "tool 2"]
    done = subprocess.run([*command, "0"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    # Usage counts once, that of the requests before the crash too.
    assert done.stdout.strip() == "completed 66 13"
    tools = [line for line in calls.read_text().splitlines() if line.startswith("tool")]
    requests = [line for line in calls.read_text().splitlines() if line.startswith("request")]
    assert tools == [f"tool {number}" for number in range(12)]
    assert requests == [f"request {number}" for number in range(13)]


def returned(messages: list[ModelMessage]) -> list[Any]:
    return [
        part.content for message in messages for part in message.parts if isinstance(part, ToolReturnPart)
    ]


def counting(asked: list[int], tools: int = 2) -> Any:
    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        given = returned(messages)
        asked.append(len(given))
        if len(given) < tools:
            return ModelResponse([ToolCallPart("fetch", {"number": len(given)})])
        return ModelResponse([TextPart(f"{len(asked)} requests")], usage=RequestUsage(input_tokens=1))

    return answer


async def test_an_attempt_after_one_that_broke_off_in_a_tool_goes_on_there() -> None:
    asked: list[int] = []
    fetched: list[int] = []
    agent = Agent(FunctionModel(counting(asked, tools=3)))

    @agent.tool_plain
    def fetch(number: int) -> int:
        fetched.append(number)
        if fetched == [0, 1]:
            raise ConnectionError("down")
        return number

    step = Step("ask", DurableAgent(agent), max_retries=2)
    result = await Flujo(step, state_backend=InMemoryBackend()).run_async("go")
    assert (result.output, result.step_history[0].attempts) == ("4 requests", 2)
    assert (asked, fetched) == ([0, 1, 2, 3], [0, 1, 1, 2])


async def test_an_attempt_after_one_that_was_refused_does_all_of_it_anew() -> None:
    asked: list[int] = []
    agent = Agent(FunctionModel(counting(asked)))

    @agent.tool_plain
    def fetch(number: int) -> int:
        return number

    def whole(output: str) -> tuple[bool, str | None]:
        return output == "6 requests", "that was too easy"

    step = Step("ask", DurableAgent(agent), validators=[validator(whole)], max_retries=1)
    result = await Flujo(step, state_backend=InMemoryBackend()).run_async("go")
    assert (result.output, result.step_history[0].attempts) == ("6 requests", 2)
    assert asked == [0, 1, 2] * 2


async def test_what_a_tool_asks_the_model_to_do_again_is_recorded_too() -> None:
    calls: list[str] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        calls.append("request")
        if "fetched" in returned(messages):
            return ModelResponse([TextPart("done")])
        return ModelResponse([ToolCallPart("fetch", {})])

    agent = Agent(FunctionModel(answer), retries=3)

    @agent.tool_plain
    async def fetch() -> str:
        calls.append("tool")
        if calls.count("tool") == 1:
            raise ModelRetry("not like this")
        if calls.count("tool") == 2:
            raise ConnectionError("down")
        return "fetched"

    step = Step("ask", DurableAgent(agent), max_retries=1)
    result = await Flujo(step, state_backend=InMemoryBackend()).run_async("go")
    assert result.output == "done"
    assert calls == ["request", "tool", "request", "tool", "tool", "request"]


NESTED = """
import asyncio, os, signal, sys
from pathlib import Path
from pydantic_ai import Agent
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import FunctionModel
from flujo import Flujo, Step
from flujo.agents import DurableAgent
from flujo.state import SQLiteBackend

path, calls, dies = sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "dies"

def told(what):
    with calls.open("a") as file:
        file.write(f"{what}\\n")
    return calls.read_text().splitlines().count(what)

def returned(messages):
    return [part.content for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]

def of_inner(messages, info):
    return ModelResponse([TextPart(f"inner {told('inner')}")])

def of_outer(messages, info):
    told("outer")
    given = returned(messages)
    if len(given) < 2:
        return ModelResponse([ToolCallPart("fetch", {"number": len(given)})])
    return ModelResponse([TextPart("outer")])

async def streamed(messages, info):
    told("streamed")
    for word in ("one ", "two"):
        yield word

inner, outer_agent = DurableAgent(Agent(FunctionModel(of_inner))), Agent(FunctionModel(of_outer))
streaming = DurableAgent(Agent(FunctionModel(stream_function=streamed)), name="streaming")
seen = []

@outer_agent.tool_plain
async def fetch(number: int) -> str:
    return (await inner.run(f"number {number}")).output

async def handle(context, events):
    seen.extend([type(event).__name__ async for event in events])

async def work(x):
    first = await DurableAgent(outer_agent, name="outer").run(x)
    second = await inner.run(x)
    third = await streaming.run(x, event_stream_handler=handle)
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    fourth = await inner.run(x)
    return returned(first.all_messages()), second.output, third.output, fourth.output

result = asyncio.run(Flujo(Step("work", work), state_backend=SQLiteBackend(path)).run_async("go", run_id="one"))
print(result.output, "PartStartEvent" in seen)
"""


def test_agents_in_tools_twice_in_a_step_and_streaming_have_records_of_their_own(tmp_path: Path) -> None:
    script, calls = tmp_path / "nested.py", tmp_path / "calls"
    script.write_text(NESTED)
    command = [sys.executable, str(script), str(tmp_path / "runs.db"), str(calls)]
    killed = subprocess.run([*command, "dies"], capture_output=True, text=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = ["outer", "inner", "outer", "inner", "outer", "inner", "streamed"]
    assert calls.read_text().splitlines() == before
    done = subprocess.run([*command, ""], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{(['inner 1', 'inner 2'], 'inner 3', 'one two', 'inner 4')} True"
    assert calls.read_text().splitlines() == [*before, "inner"]


class Shop(AppResources):
    owner: str = "Ada"


async def test_it_is_the_agent_itself_outside_of_steps_and_has_its_deps_within() -> None:
    agent = Agent(FunctionModel(counting([], tools=1)), deps_type=Shop)

    @agent.tool
    def fetch(run: RunContext[Shop], number: int) -> str:
        return run.deps.owner

    durable = DurableAgent(agent)
    alone = await durable.run("go", deps=Shop())
    assert returned(alone.all_messages()) == ["Ada"]
    result = await Flujo(Step("ask", durable), resources=Shop()).run_async("go")
    assert result.output == "4 requests"

    with pytest.raises(TypeError, match="takes an agent of pydantic-ai, not str"):
        DurableAgent(cast(Any, "gpt"))
    failed = await Flujo(Step("ask", DurableAgent(Agent()))).run_async("go")
    assert "the agent 'agent' has no model" in (failed.step_history[0].feedback or "")
