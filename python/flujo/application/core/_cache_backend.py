"""The optimised cache by itself: values by key, with a time to live and single flight."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from flujo._native import ResultCache
from flujo.domain.caching import _seconds, _size

__all__ = ["OptimizedCacheBackend"]

T = TypeVar("T")


class OptimizedCacheBackend:
    """Keeps values by key in memory; threads and event loops may share one.

    When it is full, what was asked for least lately goes, so that one pass over many keys doesn't push out
    what is asked for all the time. Values go in and out as clones.

    Keys may be of any type that has a canonical form: the built-in types, tuples, lists and dictionaries of
    them, enums, dates, dataclasses, pydantic models. `1`, `True` and `1.0` differ.

    A hit costs about a microsecond and the clone of the value; see `docs/caching.md`.

    Args:
        max_size: How many values are kept at most.
        ttl_s: For how many seconds a value is good, by the monotonic clock; 0 or None is for ever.

    Raises:
        TypeError: an argument has a wrong type, or a key has no canonical form.
        ValueError: a number is negative or isn't finite.
    """

    def __init__(self, max_size: int = 1024, ttl_s: float | None = 3600.0) -> None:
        self._cache = ResultCache(max_size=_size(max_size), ttl_s=_seconds("ttl_s", ttl_s) or 0.0)

    def get(self, key: Any, default: Any = None) -> Any:
        """A clone of the value under a key; `default` where there is none."""
        kind, found = self._cache.find(key)
        return found if kind else default

    def put(self, key: Any, value: Any, ttl_s: float | None = None) -> bool:
        """Keep a clone of a value; False where it can't be cloned whole, as with one that holds a lock.

        Args:
            key: The key.
            value: The value.
            ttl_s: For how many seconds it is good; 0 is for ever, None as the cache says.
        """
        return self._cache.put(key, value, _seconds("ttl_s", ttl_s))

    def invalidate(self, key: Any) -> bool:
        """Let the value under a key go; tells whether there was one."""
        return self._cache.remove(key)

    def clear(self) -> None:
        """Let all values go. What was counted stays."""
        self._cache.clear()

    async def get_or_compute(
        self, key: Any, compute: Callable[[], Awaitable[T] | T], ttl_s: float | None = None
    ) -> T:
        """The value under a key, made by `compute` when there is none.

        Of several that ask at the same time, on whatever loop or thread, one computes. When that fails or
        is cancelled, another one does. Each gets a value of its own; one that can't be cloned is computed
        by each.

        Args:
            key: The key.
            compute: Makes the value, or an awaitable of it.
            ttl_s: For how many seconds it is good; 0 is for ever, None as the cache says.
        """
        ttl_s = _seconds("ttl_s", ttl_s)
        kind, found = self._cache.join(key)
        while kind != "hit":
            if kind == "wait":
                future = found.future(asyncio.get_running_loop())
                if future is not None:
                    try:
                        await future
                    except BaseException:
                        found.leave()
                        raise
                kind, found = found.take()
            elif kind == "lead":
                try:
                    made = compute()
                    if isinstance(made, Awaitable):
                        made = await made
                except BaseException:
                    found.release()
                    raise
                found.put(key, made, ttl_s)
                return cast("T", made)
            else:
                kind, found = self._cache.join(key)
        return cast("T", found)

    def statistics(self) -> dict[str, Any]:
        """What happened so far: `hits`, `misses`, `hit_rate` (a percentage), `size`, `evictions`,
        `expirations`, and how often a value wasn't kept and why (`uncached`).
        """
        found = self._cache.statistics()
        del found["second_tier"]
        return found

    def __repr__(self) -> str:
        return f"OptimizedCacheBackend(size={self.statistics()['size']})"
