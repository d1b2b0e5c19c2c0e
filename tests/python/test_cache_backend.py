"""`OptimizedCacheBackend` by itself, and what the caches do for whoever uses them directly."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel

from flujo import InMemoryCache
from flujo.application.core.executor_core import OptimizedCacheBackend
from flujo.domain.caching import CacheBackend


class Item(BaseModel):
    tags: list[str] = []


def test_a_value_is_found_until_it_is_invalidated_or_cleared() -> None:
    cache = OptimizedCacheBackend(max_size=8)
    assert cache.put(("user", 1), Item(tags=["a"]))
    found = cache.get(("user", 1))
    found.tags.append("b")
    assert cache.get(("user", 1)) == Item(tags=["a"])
    assert (cache.get(("user", True)), cache.get(["user", 1], 7)) == (None, 7)
    assert (cache.invalidate(("user", 1)), cache.invalidate(("user", 1))) == (True, False)
    cache.put("none", None)
    assert cache.get("none", "default") is None
    cache.clear()
    assert cache.get("none", "default") == "default"
    statistics = cache.statistics()
    assert (statistics["hits"], statistics["misses"], statistics["size"]) == (3, 3, 0)
    assert statistics["hit_rate"] == 50.0


def test_a_full_cache_keeps_what_is_asked_for_all_the_time() -> None:
    cache = OptimizedCacheBackend(max_size=100)
    for key in range(100):
        cache.put(key, key)
    for _ in range(5):
        for key in range(50):
            assert cache.get(key) == key
    for key in range(1_000, 1_300):
        cache.put(key, key)
    assert sum(cache.get(key) == key for key in range(50)) >= 45
    assert cache.statistics()["size"] == 100


def test_a_time_to_live_of_zero_is_for_ever_and_an_old_value_is_gone() -> None:
    for cache in (OptimizedCacheBackend(ttl_s=0), OptimizedCacheBackend(ttl_s=None)):
        cache.put("a", 1)
        assert cache.get("a") == 1
    cache = OptimizedCacheBackend(ttl_s=1e-9)
    cache.put("a", 1)
    cache.put("b", 1, ttl_s=0)
    assert (cache.get("a"), cache.get("b")) == (None, 1)
    assert cache.statistics()["expirations"] == 1


def test_a_value_that_cannot_be_isolated_is_not_kept() -> None:
    cache = OptimizedCacheBackend()
    assert not cache.put("lock", [threading.Lock()])
    assert cache.get("lock") is None
    assert cache.statistics()["uncached"] == {"output": 1}
    with pytest.raises(TypeError, match="can't be a key"):
        cache.get(object())


async def test_of_many_that_ask_at_the_same_time_one_computes() -> None:
    cache, made = OptimizedCacheBackend(), 0

    async def compute() -> Item:
        nonlocal made
        made += 1
        await asyncio.sleep(0)
        return Item(tags=["a"])

    found = await asyncio.gather(*(cache.get_or_compute("key", compute) for _ in range(1_000)))
    assert made == 1
    found[0].tags.append("b")
    assert all(item.tags == ["a"] for item in found[1:])
    assert await cache.get_or_compute("key", lambda: Item()) == Item(tags=["a"])
    assert await cache.get_or_compute("other", lambda: 7) == 7


async def test_when_who_computes_fails_or_is_cancelled_another_one_does() -> None:
    cache, made = OptimizedCacheBackend(), 0
    waits = asyncio.Event()

    async def compute() -> int:
        nonlocal made
        made += 1
        if made == 1:
            raise ValueError("no")
        if made == 2:
            waits.set()
            await asyncio.Event().wait()
        return made

    tasks = [asyncio.create_task(cache.get_or_compute("key", compute)) for _ in range(10)]
    await waits.wait()
    tasks[5].cancel()
    tasks[1].cancel()
    found: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    kinds = [type(result).__name__ for result in found]
    assert (kinds.count("ValueError"), kinds.count("CancelledError"), kinds.count("int")) == (1, 2, 7)
    assert made == 3
    assert {result for result in found if isinstance(result, int)} == {3}


def test_threads_and_their_loops_share_one_computation() -> None:
    cache, made, ready = OptimizedCacheBackend(), [], threading.Barrier(8)
    found: list[int] = []

    asked = threading.Semaphore(0)

    async def compute() -> int:
        made.append(1)
        for _ in range(8):  # all are there before there is a result
            await asyncio.to_thread(asked.acquire)
        return 7

    def use() -> None:
        async def main() -> int:
            ready.wait()
            result = asyncio.ensure_future(cache.get_or_compute("key", compute))
            await asyncio.sleep(0)
            asked.release()
            return await result

        found.append(asyncio.run(main()))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, made) == ([7] * 8, [1])


async def test_a_value_that_cannot_be_isolated_is_computed_by_each() -> None:
    cache, made = OptimizedCacheBackend(), 0

    async def compute() -> Any:
        nonlocal made
        made += 1
        await asyncio.sleep(0)
        return threading.Lock()

    found = await asyncio.gather(*(cache.get_or_compute("key", compute) for _ in range(3)))
    assert made == len({id(lock) for lock in found}) == 3


@pytest.mark.parametrize(
    "wrong",
    [{"max_size": -1}, {"max_size": "8"}, {"ttl_s": -1}, {"ttl_s": float("inf")}, {"ttl_s": "1"}],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        OptimizedCacheBackend(**wrong)


async def test_a_cache_of_steps_is_a_cache_by_key_as_well() -> None:
    cache = InMemoryCache()
    assert isinstance(cache, CacheBackend)
    value = {"items": [1]}
    await cache.set("key", value)
    value["items"].append(2)
    assert await cache.get("key") == {"items": [1]}
    assert await cache.get("other") is None
    assert repr(cache) == "InMemoryCache()"
