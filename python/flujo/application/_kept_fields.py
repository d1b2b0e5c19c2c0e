"""Merging only some fields of what branches wrote: `context_include_keys` and `field_mapping`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from flujo._native import context_merge, context_touched, context_view

Merge = Callable[[Any, Mapping[str, Any]], Any]
Keeps = Callable[[str, str], bool]


def kept_fields(step: Any) -> Keeps | None:
    """Whether a branch's writes to a field are kept; None where all are."""
    include = getattr(step, "context_include_keys", None)
    mapping = getattr(step, "field_mapping", None)
    if include is None and mapping is None:
        return None

    def keeps(branch: str, field: str) -> bool:
        own = None if mapping is None else mapping.get(branch)
        return (include is None or field in include) and (own is None or field in own)

    return keeps


def by_strategy(strategy: str) -> Merge:
    """What merges by a strategy of that name."""

    def merge(context: Any, branches: Mapping[str, Any]) -> None:
        context_merge(context, list(branches.items()), strategy)

    return merge


class MergeKept:
    """Merges the writes that are kept.

    Args:
        merge: Merges branches' contexts by name into the context.
        keeps: Whether a branch's writes to a field are kept.
    """

    def __init__(self, merge: Merge, keeps: Keeps) -> None:
        self._merge = merge
        self._keeps = keeps

    def __call__(self, context: Any, branches: Mapping[str, Any]) -> Any:
        """What the merge gives, of contexts in which nothing else has changed."""
        return self._merge(
            context, {name: self._kept(name, branch, context) for name, branch in branches.items()}
        )

    def _kept(self, name: str, branch: Any, context: Any) -> Any:
        kept = context_view(context)
        for field in context_touched(branch):
            if self._keeps(name, field):
                setattr(kept, field, getattr(branch, field))
        return kept
