"""The usage meter by itself, and what a runner tells of it."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest

from flujo import Flujo, OptimizationConfig, Step, UsageLimits
from flujo.application.core.executor_core import OptimizedUsageMeter
from flujo.exceptions import UsageLimitExceededError


def amount(cost_usd: float = 0.0, tokens: int = 0, requests: int = 0) -> dict[str, Any]:
    return {"cost_usd": cost_usd, "tokens": tokens, "requests": requests}


def test_what_is_reserved_is_settled_to_what_was_used() -> None:
    meter = OptimizedUsageMeter(UsageLimits(total_cost_usd_limit=0.10, total_tokens_limit=100))
    first, second = (meter.reserve(cost_usd=0.04, tokens=10, step="s") for _ in range(2))
    assert meter.reserved == amount(0.08, 20)
    with pytest.raises(UsageLimitExceededError) as refused:
        meter.reserve(cost_usd=Decimal("0.04"), step="third")
    assert (refused.value.refused_step, refused.value.reserved, refused.value.limit) == ("third", 0.08, 0.1)
    first.settle(cost_usd=0.02, tokens=7)
    second.refund()
    assert (meter.used, meter.reserved) == (amount(0.02, 7), amount())
    statistics = meter.statistics()
    assert statistics.pop("batches") > 0
    assert statistics == {
        "reserved": amount(0.08, 20),
        "committed": amount(0.02, 7),
        "refunded": amount(0.06, 13),
    }


def test_a_reservation_is_settled_once_and_given_back_by_whoever_forgets_it() -> None:
    meter = OptimizedUsageMeter(UsageLimits(total_tokens_limit=10))
    with meter.reserve(tokens=10) as reservation:
        reservation.settle(tokens=4)
        with pytest.raises(RuntimeError, match="settled or given back already"):
            reservation.settle(tokens=4)
    with meter.reserve(tokens=6):
        pass
    meter.reserve(tokens=6)  # nobody holds it
    assert (meter.used, meter.reserved) == (amount(tokens=4), amount())


def test_what_passes_the_limit_counts_and_is_told() -> None:
    meter = OptimizedUsageMeter(UsageLimits(total_requests_limit=2))
    meter.add(requests=2)
    with pytest.raises(UsageLimitExceededError, match="Request limit of 2 exceeded"):
        meter.add(requests=1, step="s")
    assert meter.used == amount(requests=3)


@pytest.mark.parametrize("cost", [-0.01, float("nan"), float("inf"), 1e300])
def test_a_cost_that_cannot_be_counted_is_refused(cost: float) -> None:
    meter = OptimizedUsageMeter()
    with pytest.raises(ValueError, match="cost_usd is refused"):
        meter.add(cost_usd=cost)
    with pytest.raises(ValueError, match="cost_usd is refused"):
        meter.reserve(cost_usd=cost)
    with pytest.raises(ValueError, match="tokens must be an integer, 0 or more"):
        meter.add(tokens=-1)
    assert meter.used == amount()


def test_p38_no_increment_of_64_threads_is_lost() -> None:
    meter = OptimizedUsageMeter(UsageLimits(total_tokens_limit=448_000))

    def report() -> None:
        for _ in range(1000):
            meter.add(tokens=7)

    threads = [threading.Thread(target=report) for _ in range(64)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert meter.used["tokens"] % 7 == 0
    for thread in threads:
        thread.join()
    assert meter.used == amount(tokens=448_000)
    with pytest.raises(UsageLimitExceededError):
        meter.add(tokens=1)


class Reports:
    cost_usd = 0.02
    token_counts = 5
    output = "done"


@pytest.mark.parametrize("enabled", [True, False])
def test_a_runner_tells_what_was_reserved_committed_and_refunded(enabled: bool) -> None:
    async def work(_: str) -> Reports:
        return Reports()

    step = Step[Any, Any].from_callable(work, name="work", expected_cost_usd=0.04, expected_tokens=5)
    runner = Flujo(
        step,
        usage_limits=UsageLimits(total_cost_usd_limit=0.1),
        optimization_config=OptimizationConfig(enable_usage_optimization=enabled),
    )
    for _ in range(3):
        assert runner.run("x").total_cost_usd == 0.02
    statistics = runner.get_performance_statistics()
    usage = statistics["usage_stats"]
    assert usage.pop("batches") > 0
    assert usage == {
        "reserved": amount(0.12, 15),
        "committed": amount(0.06, 15),
        "refunded": amount(0.06),
    }
    assert statistics["optimizations"]["usage"]["twin"] == ("optimized" if enabled else "plain")
