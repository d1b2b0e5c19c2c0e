"""The agent of `Step.use_input`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["InputKey"]


class InputKey:
    """Picks one entry of a mapping, or one attribute of any other object."""

    __slots__ = ("__weakref__", "key")

    def __init__(self, key: str) -> None:
        if not isinstance(key, str):
            raise TypeError(f"Step.use_input({key!r}): the key must be a text")
        self.key = key

    def __call__(self, data: Any) -> Any:
        """The entry.

        Raises:
            KeyError: a mapping has no such key.
            AttributeError: an object has no such attribute.
        """
        key = self.key
        if isinstance(data, Mapping):
            if key not in data:
                raise KeyError(f"the input has no key {key!r}; it has {', '.join(map(repr, data)) or 'none'}")
            return data[key]
        if not hasattr(data, key):
            raise AttributeError(
                f"the input, a {type(data).__name__}, is no mapping and has no attribute {key!r}"
            )
        return getattr(data, key)

    def __repr__(self) -> str:
        return f"use_input({self.key!r})"
