"""Prices of models from the nearest `flujo.toml`: what they are found by, and what can't be used as one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flujo import Flujo, Step
from flujo.agents import AgentResult, AgentUsage, Chat, Template, Tool
from flujo.domain.agent_result import FlujoAgentResult, FlujoAgentUsage
from flujo.domain.plugins import PluginOutcome
from flujo.domain.usage import UsageLimits
from flujo.exceptions import PricingNotConfiguredError, SettingsError, UsageLimitExceededError

PRICES = """
[cost.providers.openai.gpt-4o]
prompt_tokens_per_1k = 0.0025
completion_tokens_per_1k = 0.01

[cost.providers.local."small:8b"]
prompt_tokens_per_1k = 0
completion_tokens_per_1k = 0
"""
COST = UsageLimits(total_cost_usd_limit=1.0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with prices, in a folder below which the program runs."""
    inner = tmp_path / "inner" / "deep"
    inner.mkdir(parents=True)
    (tmp_path / "flujo.toml").write_text(PRICES, encoding="utf-8")
    monkeypatch.chdir(inner)
    yield tmp_path


class Broken(ConnectionError):
    usage = FlujoAgentUsage(1000, 100)


class Model:
    """An agent that tells its tokens and its model's name, and leaves what that costs to others."""

    def __init__(self, model: Any, tokens: tuple[int, int] = (1000, 100)) -> None:
        self.model = model
        self.tokens = tokens
        self.calls = 0

    async def run(self, data: Any) -> FlujoAgentResult[str]:
        self.calls += 1
        sent, received = self.tokens
        return FlujoAgentResult("yes", agent_usage=FlujoAgentUsage(input_tokens=sent, output_tokens=received))


@dataclass
class Named:
    model_name: str
    system: str


@pytest.mark.parametrize("model", ["gpt-4o", "openai:gpt-4o", Named("gpt-4o", "openai")])
async def test_p32_what_tokens_cost_is_found_by_the_agent_s_model(folder: Path, model: Any) -> None:
    result = await Flujo(Step("ask", Model(model)), usage_limits=COST).run_async("x")
    assert (result.total_cost_usd, result.total_tokens) == (0.0035, 1100)
    assert result.step_history[0].metadata == {}


async def test_p32_costs_are_summed_in_whole_nano_dollars(folder: Path) -> None:
    """A prompt's token costs 2,500 nano-dollars; a thousand of them are exactly 0.0025 dollars, not about."""
    step = Step.map_over("all", Step("ask", Model("gpt-4o", (1, 0))), max_concurrency=8)
    result = await Flujo(step).run_async(list(range(1000)))
    assert result.total_cost_usd == 0.0025


async def test_p32_a_limit_on_cost_is_kept_by_the_prices(folder: Path) -> None:
    model = Model("gpt-4o")
    step = Step.map_over("all", Step("ask", model))
    with pytest.raises(UsageLimitExceededError) as caught:
        await Flujo(step, usage_limits=UsageLimits(total_cost_usd_limit=0.01)).run_async([1, 2, 3, 4, 5])
    assert model.calls == 3
    assert caught.value.result is not None
    assert caught.value.result.total_cost_usd == 0.0105


async def test_p32_a_model_without_a_price_is_refused_where_cost_is_limited_and_unknown_is_not_zero(
    folder: Path,
) -> None:
    for model in ("gpt-5", Named("gpt-4o", "azure"), None):
        with pytest.raises(PricingNotConfiguredError, match=r"flujo\.toml"):
            await Flujo(Step("ask", Model(model)), usage_limits=COST).run_async("x")
        unknown = await Flujo(Step("ask", Model(model))).run_async("x")
        assert unknown.step_history[0].metadata == {"price_unknown": True}
    free = await Flujo(Step("ask", Model("small:8b")), usage_limits=COST).run_async("x")
    assert (free.total_cost_usd, free.step_history[0].metadata) == (0.0, {})


async def test_what_the_output_itself_says_it_cost_goes_before_the_prices(folder: Path) -> None:
    class Priced(Model):
        async def run(self, data: Any) -> FlujoAgentResult[str]:
            result = await super().run(data)
            result.cost_usd = 0.5
            return result

    result = await Flujo(Step("ask", Priced("gpt-4o"))).run_async("x")
    assert result.total_cost_usd == 0.5


async def test_tokens_that_are_not_told_apart_have_no_price(folder: Path) -> None:
    async def ask(x: Any) -> AgentResult[str]:
        return AgentResult("yes", AgentUsage(None, 10, 1), "gpt-4o")

    with pytest.raises(PricingNotConfiguredError):
        await Flujo(Step("ask", ask), usage_limits=COST).run_async("x")


async def test_an_agent_that_says_its_price_is_unknown_is_called_once_there_is_one(folder: Path) -> None:
    class Unknown(Model):
        pricing = "unknown"

    for model, calls in (("gpt-4o", 1), ("gpt-5", 0)):
        agent = Unknown(model)
        try:
            result = await Flujo(Step("ask", agent), usage_limits=COST).run_async("x")
        except PricingNotConfiguredError:
            assert calls == 0
        else:
            assert result.total_cost_usd == 0.0035
        assert agent.calls == calls


async def test_an_agent_that_a_plugin_redirects_to_is_priced_by_its_own_model(folder: Path) -> None:
    other = Model("gpt-4o")

    class Redirects:
        async def validate(self, data: dict[str, Any]) -> PluginOutcome:
            return PluginOutcome(success=True, redirect_to=other if other.calls == 0 else None)

    step = Step("ask", Model("small:8b"), plugins=[(Redirects(), 1)])
    result = await Flujo(step, usage_limits=COST).run_async("x")
    assert (other.calls, result.total_cost_usd) == (1, 0.0035)


async def test_a_failed_call_that_tells_its_tokens_costs_what_they_cost(folder: Path) -> None:
    class Fails(Model):
        async def run(self, data: Any) -> FlujoAgentResult[str]:
            raise Broken("broke")

    result = await Flujo(Step("ask", Fails("gpt-4o"), max_retries=1)).run_async("x")
    assert (result.success, result.total_cost_usd) == (False, 0.007)


def test_p32_a_shipped_chat_agent_takes_its_price_from_the_nearest_file(folder: Path) -> None:
    def chat(model: str, **settings: Any) -> str:
        return Chat(base_url="http://127.0.0.1:9/v1", model=model, **settings).pricing

    assert (chat("gpt-4o"), chat("small:8b"), chat("gpt-5")) == ("known", "known", "unknown")
    assert chat("gpt-4o", provider="azure") == "unknown"
    own = Chat(base_url="http://127.0.0.1:9/v1", model="gpt-5")
    tool = Tool("t", "d", {"type": "object"}, Template(template="x"))
    assert chat("gpt-4o", tools=[tool]) == "known"
    assert chat("gpt-4o", tools=[Tool("own", "d", {"type": "object"}, own)]) == "unknown"


async def test_strict_refuses_what_has_no_price_without_a_limit_too(folder: Path) -> None:
    (folder / "flujo.toml").write_text("[cost]\nstrict = true\n" + PRICES, encoding="utf-8")
    result = await Flujo(Step("ask", Model("gpt-4o"))).run_async("x")
    assert result.total_cost_usd == 0.0035
    with pytest.raises(PricingNotConfiguredError, match="gpt-5") as caught:
        await Flujo(Step("ask", Model("gpt-5"))).run_async("x")
    assert caught.value.model == "gpt-5"
    assert "[cost.providers.<provider>.gpt-5]" in str(caught.value.suggestion)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("completion_tokens_per_1k = -1", "is -1"),
        ("completion_tokens_per_1k = nan", "is nan"),
        ("completion_tokens_per_1k = inf", "is inf"),
        ("completion_tokens_per_1k = '1'", 'is the text "1"'),
    ],
)
def test_p32_what_is_no_price_is_refused_with_its_place(folder: Path, line: str, shown: str) -> None:
    text = f"[cost.providers.openai.gpt-4o]\nprompt_tokens_per_1k = 1\n{line}\n"
    (folder / "flujo.toml").write_text(text, encoding="utf-8")
    expected = (
        f"{folder / 'flujo.toml'}:3: `cost.providers.openai.gpt-4o.completion_tokens_per_1k` {shown}; "
        "a price is a number of US dollars for 1,000 tokens, from 0 to 1,000,000"
    )
    for make in (lambda: Flujo(Step("ask", Model("x"))), lambda: Chat(model="x")):
        with pytest.raises(SettingsError) as caught:
            make()
        assert str(caught.value) == expected


def test_p32_a_price_with_a_hole_is_refused(folder: Path) -> None:
    text = "[cost.providers.openai.gpt-4o]\nprompt_tokens_per_1k = 1\n"
    (folder / "flujo.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"flujo\.toml:1: .* lacks `completion_tokens_per_1k`"):
        Flujo(Step("ask", Model("x")))


@pytest.mark.parametrize("cost", [-0.01, math.nan, math.inf])
async def test_p32_a_cost_that_is_negative_or_unreal_is_rejected_and_not_added(cost: float) -> None:
    async def ask(x: Any) -> FlujoAgentResult[str]:
        return FlujoAgentResult("yes", cost_usd=cost, token_counts=5)

    async def before(x: Any) -> FlujoAgentResult[str]:
        return FlujoAgentResult("x", cost_usd=0.01, token_counts=1)

    result = await Flujo(
        Step("before", before) >> Step("ask", ask, max_retries=0), usage_limits=COST
    ).run_async(1)
    assert (result.success, result.total_cost_usd, result.total_tokens) == (False, 0.01, 1)
    assert isinstance(result.step_history[-1].error, ValueError)
    assert "cost_usd is refused" in str(result.step_history[-1].error)
