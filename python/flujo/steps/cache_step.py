"""`CacheStep`, at the path that older versions had it at."""

from flujo.domain.dsl.cache_step import CacheStep

__all__ = ["CacheStep"]
