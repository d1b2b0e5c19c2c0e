"""Caches of results: in memory, in a file, on a Redis server; what is declared of a cached step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from os import PathLike, fspath
from typing import Any, Protocol, runtime_checkable

from flujo._native import ResultCache

__all__ = ["CacheBackend", "CachePolicy", "InMemoryCache", "RedisCache", "SQLiteCache"]


@runtime_checkable
class CacheBackend(Protocol):
    """What a cache can do by itself, beside keeping the results of steps. All of Flujo's caches are such."""

    async def get(self, key: str) -> Any:
        """The value under a key; None where there is none."""
        ...

    async def set(self, key: str, value: Any) -> None:
        """Keeps a value under a key."""
        ...


def _seconds(owner: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{owner} must be a number of seconds, 0 for no limit, or None, not {value!r}")
    if not (isfinite(value) and value >= 0):
        raise ValueError(f"{owner} must be 0 seconds or more, not {value}")
    return float(value)


class InMemoryCache:
    """Keeps results in this process; any number of steps, runners, threads and loops may share one.

    Values go in and out as clones: what anybody does to a value changes nobody else's. One that can't be
    cloned whole, such as one that holds a lock, is not kept.

    Args:
        max_size: How many results are kept at most; by default as many as the runner that uses it first is
            set to (`OptimizationConfig.cache_max_size`, 1,024).
        ttl_s: For how many seconds a result is good, by the monotonic clock; 0 is for ever. By default as
            the runner is set to (`OptimizationConfig.cache_ttl_seconds`, an hour). What a step says of
            itself comes first.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: a number is negative or isn't finite.
    """

    def __init__(self, max_size: int | None = None, ttl_s: float | None = None) -> None:
        self._cache = ResultCache(max_size=_size(max_size), ttl_s=_seconds("ttl_s", ttl_s))

    async def get(self, key: str) -> Any:
        """A clone of the value that was `set` under a key; None where there is none."""
        return self._cache.find(key)[1]

    async def set(self, key: str, value: Any, ttl_s: float | None = None) -> None:
        """Keep a clone of a value in memory; one that can't be cloned isn't kept."""
        self._cache.put(key, value, _seconds("ttl_s", ttl_s))

    def clear(self) -> None:
        """Let all results in memory go. What is under way is kept when it is there."""
        self._cache.clear()

    def statistics(self) -> dict[str, Any]:
        """What happened so far: `hits`, `misses`, `hit_rate` (a percentage), `size`, `evictions`,
        `expirations`, how often a result wasn't kept and why (`uncached`), and the same of the
        `second_tier`, where there is one.
        """
        return self._cache.statistics()

    async def flush(self) -> None:
        """Wait until the second tier, where there is one, has stored what it was given, or failed to."""
        from asyncio import get_running_loop

        stored = self._cache.stored(get_running_loop())
        if stored is not None:
            await stored

    def _where(self) -> str:
        return ""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._where()})"


class SQLiteCache(InMemoryCache):
    """Keeps results in memory, and in a file for the next process and the others on this machine.

    Only results of steps that other processes know are stored: of those with a `version`, and of functions
    that can be imported. Values are stored in a form of Flujo's own, never pickled; secrets are not. The
    file is readable by its owner alone. When it can't be read or written, the results in memory carry on,
    and `statistics()` says so.

    Args:
        path: The file; it is made where there is none.
        max_size: How many results are kept in memory; see `InMemoryCache`.
        ttl_s: For how many seconds a result is good; see `InMemoryCache`.
        max_bytes: How large the file may become; the results written longest ago go first.
        timeout_s: The longest time a call may take.
        retry_after_s: For so long a file that failed isn't asked; twice as long when it fails again, at
            most 30 seconds.

    Raises:
        OSError: the file can't be opened, or isn't such a cache. It is left as it is.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        max_size: int | None = None,
        ttl_s: float | None = None,
        *,
        max_bytes: int = 256_000_000,
        timeout_s: float = 2.0,
        retry_after_s: float = 1.0,
    ) -> None:
        self._path = fspath(path)
        self._cache = ResultCache(
            max_size=_size(max_size),
            ttl_s=_seconds("ttl_s", ttl_s),
            path=self._path,
            max_bytes=max_bytes,
            timeout_s=timeout_s,
            retry_after_s=retry_after_s,
        )

    def _where(self) -> str:
        return repr(self._path)


class RedisCache(InMemoryCache):
    """Keeps results in memory, and on a Redis server for processes of any machine.

    What is stored, and what isn't, is as with `SQLiteCache`. The server is first asked when a result is
    looked for; while it is away, the results in memory carry on, and `statistics()` says so. How much it
    keeps is for its own settings (`maxmemory`, `maxmemory-policy`) to say. Name and password of the address
    are shown nowhere.

    Args:
        url: `redis://user:password@host:6379/0`, `rediss://…` for TLS, or `unix:///path`.
        max_size: How many results are kept in memory; see `InMemoryCache`.
        ttl_s: For how many seconds a result is good; see `InMemoryCache`.
        prefix: What the keys on the server begin with.
        timeout_s: The longest time a call may take.
        retry_after_s: For so long a server that failed isn't asked; twice as long when it fails again, at
            most 30 seconds.

    Raises:
        ValueError: the address is none.
    """

    def __init__(
        self,
        url: str,
        max_size: int | None = None,
        ttl_s: float | None = None,
        *,
        prefix: str = "flujo:result:",
        timeout_s: float = 2.0,
        retry_after_s: float = 1.0,
    ) -> None:
        self._cache = ResultCache(
            max_size=_size(max_size),
            ttl_s=_seconds("ttl_s", ttl_s),
            url=url,
            prefix=prefix,
            timeout_s=timeout_s,
            retry_after_s=retry_after_s,
        )

    def _where(self) -> str:
        return repr(self._cache.second)


def _size(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"max_size must be a whole number of results, or None, not {value!r}")
    if value < 0:
        raise ValueError(f"max_size must be 0 or more, not {value}")
    return value


@dataclass(frozen=True)
class CachePolicy:
    """How the results of a step are kept: `@step(cache=CachePolicy(ttl_s=60))`.

    Args:
        ttl_s: For how many seconds a result is good; 0 is for ever, None as its cache says.
        scope: What a result depends on beside the step and its input. `"auto"`: the fields of the context
            that the step is seen to read, and the resources if it takes them. `"input"`: nothing. Else a
            list of such fields and resources, as `["context.tenant", "resources.model"]`, and nothing else.
        version: What other processes know the step by; to be changed when it gives other results than
            before. Without one, a step is known by its functions where these can be imported, else in this
            process only.
        backend: The cache; by default one of the step's own.
    """

    ttl_s: float | None = None
    scope: str | Iterable[str] = "auto"
    version: str | None = None
    backend: InMemoryCache | None = None

    def __post_init__(self) -> None:
        _seconds("ttl_s", self.ttl_s)
        scope = self.scope
        if isinstance(scope, str):
            if scope not in ("auto", "input"):
                raise ValueError(
                    'scope must be "auto", "input" or a list such as ["context.tenant", "resources.model"], '
                    f"not {scope!r}"
                )
        else:
            object.__setattr__(self, "scope", tuple(_scope_name(name) for name in scope))
        if self.version is not None and not (isinstance(self.version, str) and self.version):
            raise TypeError(f"version must be a text, such as '2', or None, not {self.version!r}")
        if self.backend is not None and not isinstance(self.backend, InMemoryCache):
            raise TypeError(
                "a cache must be an InMemoryCache, a SQLiteCache or a RedisCache, not "
                f"{type(self.backend).__name__}"
            )


def _scope_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a scope lists texts such as 'context.tenant', not {name!r}")
    kind, _, rest = name.partition(".")
    if kind not in ("context", "resources") or not all(rest.split(".")):
        raise ValueError(f"a scope lists names such as 'context.tenant' and 'resources.model', not {name!r}")
    return name
