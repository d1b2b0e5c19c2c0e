"""What calls say they used: failed ones too, with their requests; and what has no price."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from flujo import Flujo, Step
from flujo.agents import AgentFailed, AgentResult, AgentUsage, Chat
from flujo.domain.usage import UsageLimits
from flujo.exceptions import PricingNotConfiguredError, UsageLimitExceededError

# --- failed calls


async def _fails(x: Any) -> Any:
    raise AgentFailed("503", AgentUsage(cost_usd=0.25, total_tokens=7, requests=1))


async def test_requests_of_failed_attempts_count_against_their_limit() -> None:
    runner = Flujo(Step("ask", _fails, max_retries=9), usage_limits=UsageLimits(total_requests_limit=2))
    with pytest.raises(UsageLimitExceededError) as caught:
        await runner.run_async("x")
    result = caught.value.result
    assert (caught.value.limit, caught.value.used) == (2, 3)
    assert result is not None and (result.total_cost_usd, result.total_tokens) == (0.75, 21)


@dataclass
class Reported:
    """Usage as model clients report it."""

    requests: int
    input_tokens: int = 0
    output_tokens: int = 0


class ClientError(Exception):
    def __init__(self, usage: Any) -> None:
        super().__init__("the client broke")
        self.usage = usage


async def test_an_exception_s_usage_object_or_method_is_read() -> None:
    for usage in (Reported(1, 3, 4), lambda: Reported(1, 3, 4)):

        async def breaks(x: Any, usage: Any = usage) -> Any:
            raise ClientError(usage)

        limits = UsageLimits(total_requests_limit=0)
        with pytest.raises(UsageLimitExceededError) as caught:
            await Flujo(Step("ask", breaks), usage_limits=limits).run_async("x")
        assert caught.value.used == 1
        assert caught.value.result is not None and caught.value.result.total_tokens == 7


async def test_an_exception_whose_usage_is_a_word_of_its_own_is_a_plain_failure() -> None:
    for usage in ("usage: ask [options]", print, -3, object()):

        async def breaks(x: Any, usage: Any = usage) -> Any:
            raise ClientError(usage)

        result = await Flujo(Step("ask", breaks, max_retries=0)).run_async("x")
        assert (result.status, result.total_tokens) == ("failed", 0)
        assert isinstance(result.step_history[0].error, ClientError)


async def test_an_output_s_own_amounts_go_before_those_of_its_usage_which_adds_the_rest() -> None:
    @dataclass
    class Answer:
        output: str = "yes"
        cost_usd: float = 0.5
        usage: Reported = field(default_factory=lambda: Reported(2, 30, 4))

    async def answers(x: Any) -> Any:
        return Answer()

    limits = UsageLimits(total_requests_limit=1)
    with pytest.raises(UsageLimitExceededError) as caught:
        await Flujo(Step("ask", answers), usage_limits=limits).run_async("x")
    result = caught.value.result
    assert caught.value.used == 2
    assert result is not None and (result.total_cost_usd, result.total_tokens) == (0.5, 34)


# --- what has no price


COST = UsageLimits(total_cost_usd_limit=1.0)


def _unpriced(requests: list[Any]) -> Step[Any, Any]:
    class Model:
        pricing = "unknown"

        async def run(self, data: Any) -> AgentResult[str]:
            requests.append(data)
            return AgentResult("yes", AgentUsage(cost_usd=None, total_tokens=10, requests=1))

    return Step("ask", Model(), max_retries=3)


async def _same(x: Any) -> Any:
    return x


async def test_a_model_without_a_price_is_refused_before_its_first_call_where_cost_is_limited() -> None:
    requests: list[Any] = []
    with pytest.raises(PricingNotConfiguredError, match=r"step `ask`.* cost is limited to \$1") as caught:
        await Flujo(Step("first", _same) >> _unpriced(requests), usage_limits=COST).run_async("x")
    assert requests == []
    result = caught.value.result
    assert result is not None and result.status == "failed"
    assert [step.name for step in result.step_history] == ["first", "ask"]


async def test_a_shipped_chat_agent_without_a_price_is_refused_before_it_sends_anything() -> None:
    chat = Chat(base_url="http://127.0.0.1:9/v1", model="small")
    for step in (Step("ask", chat), Step("ask", chat, usage_limits=COST)):
        limits = None if step.usage_limits else COST
        with pytest.raises(PricingNotConfiguredError, match="step `ask`"):
            await Flujo(step, usage_limits=limits).run_async("x")


async def test_neither_branches_nor_fallbacks_swallow_the_refusal() -> None:
    fan = Step.parallel("fan", {"a": _unpriced([]), "b": Step("b", _same)}, on_branch_failure="ignore")
    saved = _unpriced([])
    saved.fallback(Step("saver", _same))
    for step in (fan, saved):
        with pytest.raises(PricingNotConfiguredError):
            await Flujo(step, usage_limits=COST).run_async("x")


async def test_a_call_that_turns_out_to_have_no_price_ends_the_run_where_cost_is_limited() -> None:
    calls = 0

    async def asks(x: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise AgentFailed("broke", AgentUsage(None, 10, 1))
        return AgentResult("yes", AgentUsage(None, 10, 1))

    for expected in (1, 2):
        with pytest.raises(PricingNotConfiguredError) as caught:
            await Flujo(Step("ask", asks, max_retries=3), usage_limits=COST).run_async("x")
        assert calls == expected
        assert caught.value.result is not None and caught.value.result.total_tokens == 10


async def test_without_a_limit_on_cost_it_goes_on_and_the_metadata_says_that_the_price_is_unknown() -> None:
    fan = Step.parallel("fan", {"a": _unpriced([]), "b": Step("b", _same)})
    result = await Flujo(fan, usage_limits=UsageLimits(total_tokens_limit=100)).run_async("x")
    assert (result.total_cost_usd, result.total_tokens) == (0.0, 10)
    record = result.step_history[0]
    assert record.metadata["price_unknown"] is True
    a, b = record.step_history
    assert (a.metadata, b.metadata) == ({"price_unknown": True}, {})
    assert a.step_history[0].metadata == {"price_unknown": True}
    assert (a.step_history[0].output, a.step_history[0].token_counts) == ("yes", 10)


async def test_a_cost_of_zero_that_is_stated_is_a_price() -> None:
    async def free(x: Any) -> Any:
        return AgentResult("yes", AgentUsage(cost_usd=0.0, total_tokens=10, requests=1))

    result = await Flujo(Step("ask", free), usage_limits=COST).run_async("x")
    assert (result.output, result.step_history[0].metadata) == ("yes", {})


async def test_a_plugin_s_redirect_to_a_model_without_a_price_is_refused_before_the_call() -> None:
    from flujo.domain.plugins import PluginOutcome

    requests: list[Any] = []
    other = _unpriced(requests).agent

    class Redirects:
        async def validate(self, data: dict[str, Any]) -> PluginOutcome:
            return PluginOutcome(success=True, redirect_to=other)

    with pytest.raises(PricingNotConfiguredError):
        await Flujo(Step("ask", _same, plugins=[(Redirects(), 1)]), usage_limits=COST).run_async("x")
    assert requests == []
