"""Isolation of contexts without copying them, usable by itself."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel
from typing_extensions import TypeVar

from flujo._native import context_commit, context_merge, context_plain, context_touched, context_view
from flujo.domain.dsl._merging import MergeStrategy

__all__ = ["OptimizedContextManager"]

ContextT = TypeVar("ContextT", bound=BaseModel)


class OptimizedContextManager:
    """Gives isolated views of a context: instances of its own class whose fields are cloned when first touched.

    A view costs the same whatever the context weighs; writes to it, also in place, reach nobody until they are
    committed or merged. Nothing is remembered between calls: a context is known by the object that is given.

        manager = OptimizedContextManager()
        mine = manager.isolate(context)
        mine.items.append("seen here only")
        manager.commit(mine, context)
    """

    def __init__(self) -> None:
        self._forks = self._merges = self._conflicts = self._commits = self._touched = 0

    def isolate(self, context: ContextT) -> ContextT:
        """A view that starts equal to the context. One whose class admits no views is copied."""
        view: ContextT = context_view(context)
        self._forks += 1
        return view

    def commit(self, view: ContextT, context: ContextT) -> list[str]:
        """Make what was written to a view part of the context that it is of; gives the names of fields touched."""
        touched = context_touched(view)
        context_commit(view, context)
        self._commits += 1
        self._touched += len(touched)
        return touched

    def merge(
        self,
        context: ContextT,
        views: Mapping[str, ContextT],
        strategy: MergeStrategy = MergeStrategy.CONTEXT_UPDATE,
    ) -> None:
        """Make what was written to several views part of the context, three-way and by path, in the given order.

        Raises:
            ContextMergeError: two views wrote different values to one place; nothing is written.
        """
        from flujo.exceptions import ContextMergeError

        try:
            context_merge(context, list(views.items()), strategy.value)
        except ContextMergeError:
            self._conflicts += 1
            raise
        self._merges += len(views)

    def plain(self, view: ContextT) -> ContextT:
        """An ordinary instance of the user's class with a view's present state, independent of it."""
        model: ContextT = context_plain(view)
        return model

    def statistics(self) -> dict[str, int]:
        """Counts: `forks`, `commits`, `fields_touched`, `merges`, `conflicts`."""
        return {
            "forks": self._forks,
            "commits": self._commits,
            "fields_touched": self._touched,
            "merges": self._merges,
            "conflicts": self._conflicts,
        }
