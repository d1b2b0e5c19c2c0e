"""A step whose results are kept: in memory, for each tenant, and in a file for the next process.

Run it twice: the second time nothing is computed.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from flujo import Flujo, PipelineContext, SQLiteCache, Step, step
from flujo.domain.agent_result import FlujoAgentResult


class Shop(PipelineContext):
    tenant: str = "north"
    visits: int = 0


@step
async def describe(article: str, *, context: Shop) -> FlujoAgentResult:
    # A model would be asked here.
    text = f"{article.title()}, as the {context.tenant} shop sells it"
    return FlujoAgentResult(output=text, cost_usd=0.002, token_counts=120)


async def main(file: Path) -> None:
    # It reads context.tenant, so there is a result for each tenant; the visits make no difference.
    cached = Step.cached(describe, SQLiteCache(file), ttl_s=24 * 3600, version="1")
    runner = Flujo(cached, context_model=Shop)
    for visits, (article, tenant) in enumerate(
        (a, t) for a in ("tea", "tea", "jam") for t in ("north", "south")
    ):
        data = {"tenant": tenant, "visits": visits}
        result = await runner.run_async(article, initial_context_data=data)
        found = result.step_history[0]
        how = (
            f"found, saved ${found.saved_cost_usd:.3f}" if found.cache_hit else f"made, ${found.cost_usd:.3f}"
        )
        print(f"{result.output}: {how}")
    print(f"hit rate {runner.get_performance_statistics()['cache_hit_rate']:.0f} %")
    await cached.cache_backend.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else "results.db")))
