"""The agents of `Step.use_input` and `Step.gather`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["InputKey", "InputKeys"]


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


class InputKeys:
    """Picks some entries of a mapping, such as the output of a parallel step."""

    __slots__ = ("__weakref__", "keys")

    def __init__(self, keys: Iterable[str]) -> None:
        allowed = "the names of the branches, as a list of texts"
        if isinstance(keys, str) or not isinstance(keys, Iterable):
            raise TypeError(f"Step.gather(wait_for={keys!r}): must be {allowed}")
        self.keys = tuple(keys)
        if not self.keys or not all(isinstance(key, str) for key in self.keys):
            raise ValueError(f"Step.gather(wait_for={list(self.keys)!r}): must be {allowed}, at least one")

    def __call__(self, data: Any) -> dict[str, Any]:
        """The entries, in the order in which they were named.

        Raises:
            TypeError: the input is no mapping.
            KeyError: it lacks some of the keys.
        """
        if not isinstance(data, Mapping):
            raise TypeError(
                f"Step.gather waits for {', '.join(map(repr, self.keys))} of a parallel step's output, but its "
                f"input is a {type(data).__name__}; put it right after the parallel step"
            )
        missing = [key for key in self.keys if key not in data]
        if missing:
            raise KeyError(
                f"the input has no output of {', '.join(map(repr, missing))}; it has those of "
                f"{', '.join(map(repr, data)) or 'nothing'}"
            )
        return {key: data[key] for key in self.keys}

    def __repr__(self) -> str:
        return f"gather({', '.join(map(repr, self.keys))})"
