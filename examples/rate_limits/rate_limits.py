"""Calls of a model that is shared by everything in a program, and by other programs too.

    python examples/rate_limits/rate_limits.py
    python examples/rate_limits/rate_limits.py redis://localhost:6379/0

No more than two calls are under way at the same time, and no more than 600 arrive in a minute: of all steps, branches,
runs and runners that name the limit `model`; with a Redis server, of all processes that name it.
"""

from __future__ import annotations

import asyncio
import sys

from flujo import Flujo, RateLimit, Step, StepConfig

under_way = most = 0


async def ask(topic: str) -> str:
    global under_way, most
    under_way += 1
    most = max(most, under_way)
    await asyncio.sleep(0.01)
    under_way -= 1
    return f"about {topic}"


async def main(redis: str | None) -> None:
    limit = RateLimit("model", requests_per_minute=600, max_concurrent=2, redis=redis)
    config = StepConfig(rate_limit=limit, expected_tokens=200)
    runner = Flujo(Step.map_over("all", Step("ask", ask, config=config), max_concurrency=10))
    topics = ["tea", "coffee", "water", "wine", "milk", "juice"]
    first, second = await asyncio.gather(runner.run_async(topics[:3]), runner.run_async(topics[3:]))
    print(first.output, second.output)
    print(f"{most} calls at the same time, at most")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None))
