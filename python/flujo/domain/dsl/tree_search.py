"""The search over a tree of candidates, which this version doesn't have."""

from __future__ import annotations

from typing import NoReturn

__all__ = ["TreeSearchStep"]


class TreeSearchStep:
    """Reserved: this version has no tree search.

    Raises:
        ConfigurationError: always; it names what to use instead.
    """

    def __new__(cls, *args: object, **kwargs: object) -> NoReturn:
        """Refuse it."""
        from flujo.exceptions import ConfigurationError

        raise ConfigurationError(
            "TreeSearchStep is not part of this version",
            suggestion="refine one candidate with Step.refine_until, or keep the best of several in a Step.loop_until "
            "whose body is a Step.map_over the candidates",
        )
