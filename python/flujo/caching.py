"""Caches of results, at the path that older versions had them at."""

from flujo.domain.caching import CacheBackend, CachePolicy, InMemoryCache, RedisCache, SQLiteCache

__all__ = ["CacheBackend", "CachePolicy", "InMemoryCache", "RedisCache", "SQLiteCache"]
