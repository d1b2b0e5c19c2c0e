"""Caches of results, at the path that existing users know."""

from flujo.domain.caching import CacheBackend, CachePolicy, InMemoryCache, RedisCache, SQLiteCache

__all__ = ["CacheBackend", "CachePolicy", "InMemoryCache", "RedisCache", "SQLiteCache"]
