"""Agents of pydantic-ai as agents of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from flujo import AppResources, Flujo, Step

pydantic_ai = pytest.importorskip("pydantic_ai")

from pydantic_ai import Agent, RunContext  # noqa: E402
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart  # noqa: E402
from pydantic_ai.models.function import AgentInfo, FunctionModel  # noqa: E402
from pydantic_ai.models.test import TestModel  # noqa: E402
from pydantic_ai.usage import RequestUsage  # noqa: E402


class City(BaseModel):
    name: str


class Shop(AppResources):
    owner: str = "Ada"


async def test_the_output_alone_goes_on_and_its_usage_counts() -> None:
    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse([TextPart("Paris")], usage=RequestUsage(input_tokens=20, output_tokens=3))

    agent = Agent(FunctionModel(answer))

    async def shout(text: str) -> str:
        return text.upper()

    result = await Flujo(Step("ask", agent) >> Step("shout", shout)).run_async("Capital of France?")
    assert result.output == "PARIS"
    assert result.step_history[0].output == "Paris"
    assert result.step_history[0].token_counts == 23


async def test_a_structured_output_stays_an_instance() -> None:
    agent = Agent(TestModel(custom_output_args={"name": "Paris"}), output_type=City)
    result = await Flujo(Step("ask", agent)).run_async("?")
    assert result.output == City(name="Paris")


async def test_the_runners_resources_are_its_deps() -> None:
    seen: list[Any] = []
    agent = Agent(TestModel(), deps_type=Shop)

    @agent.tool
    def owner(run: RunContext[Shop]) -> str:
        seen.append(run.deps.owner)
        return run.deps.owner

    result = await Flujo(Step("ask", agent), resources=Shop()).run_async("Who?")
    assert result.success
    assert seen == ["Ada"]


async def test_a_model_that_fails_once_is_asked_again() -> None:
    calls: list[int] = []

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        calls.append(len(messages))
        if len(calls) == 1:
            raise ConnectionError("down")
        return ModelResponse([TextPart("up")])

    result = await Flujo(Step("ask", Agent(FunctionModel(answer)), max_retries=1)).run_async("?")
    assert (result.output, result.step_history[0].attempts) == ("up", 2)


async def test_tokens_cost_what_the_nearest_settings_file_says_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = "prompt_tokens_per_1k = 1\ncompletion_tokens_per_1k = 10\n"
    (tmp_path / "flujo.toml").write_text(f"[cost.providers.own.small]\n{prices}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        return ModelResponse([TextPart("Paris")], usage=RequestUsage(input_tokens=20, output_tokens=3))

    for name, cost in (("small", 0.05), ("large", None)):
        step = Step("ask", Agent(FunctionModel(answer, model_name=name)))
        result = await Flujo(step).run_async("?")
        assert result.step_history[0].metadata == ({} if cost else {"price_unknown": True})
        assert result.total_cost_usd == (cost or 0.0)
