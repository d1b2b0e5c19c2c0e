"""A step whose results are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from flujo.domain.dsl import _checks
from flujo.domain.dsl._composable import InputT, OutputT
from flujo.domain.dsl._tracking import Check
from flujo.domain.dsl.step import Step

if TYPE_CHECKING:
    from flujo.domain.caching import CachePolicy, InMemoryCache

__all__ = ["CacheStep"]


def _wrapped(where: str, value: object) -> object:
    if not isinstance(value, Step):
        raise _checks.wrong_type(where, value, "a Step; a whole pipeline goes in by pipeline.as_step(name)")
    return value


class CacheStep(Step[InputT, OutputT]):
    """Runs a step, or gives its result of before: for the same input, and the same of what its scope says.

    It goes by the name of the step that it holds, and shows its result as that of this step, with
    `cache_hit`, `saved_cost_usd` and `saved_tokens`. What the step writes by `updates_context` and
    `sink_to` is written at each hit, too. Failures, pauses and results of a fallback are never kept. Of
    several equal calls at the same time one is made.

    Args:
        wrapped_step: The step.
        cache_backend: Where results are kept; by default in a cache of the step's own.
        ttl_s: For how many seconds a result is good; 0 is for ever, None as the cache says.
        scope: What a result depends on beside the step and its input; see `CachePolicy`.
        version: What other processes know the step by; see `CachePolicy`.

    Raises:
        TypeError: something has a wrong type.
        ValueError: something has a value that isn't allowed.
    """

    kind: ClassVar[str] = "cache"
    _fields: ClassVar[tuple[str, ...]] = (*Step._fields, "wrapped_step")
    _checks: ClassVar[Mapping[str, Check]] = {**Step._checks, "wrapped_step": _wrapped}

    wrapped_step: Step[InputT, OutputT]
    cache: CachePolicy | None

    def __init__(
        self,
        wrapped_step: Step[InputT, OutputT],
        cache_backend: InMemoryCache | None = None,
        ttl_s: float | None = None,
        scope: str | Iterable[str] = "auto",
        *,
        version: str | None = None,
    ) -> None:
        from flujo.domain.caching import CachePolicy, InMemoryCache

        policy = CachePolicy(
            ttl_s=ttl_s, scope=scope, version=version, backend=cache_backend or InMemoryCache()
        )
        held = _wrapped("CacheStep.wrapped_step", wrapped_step)
        name = getattr(held, "name", "")
        self._fill({**self._values(name, None, {"cache": policy}), "wrapped_step": held})

    @property
    def cache_backend(self) -> Any:
        """Where results are kept."""
        return None if self.cache is None else self.cache.backend

    def facts(self) -> Any:
        """What is known about the agent of the step that it holds."""
        return self.wrapped_step.facts()

    def _input_type(self, levels: int) -> Any:
        return self.wrapped_step._input_type(levels - 1)

    def _output_type(self, levels: int) -> Any:
        return self.wrapped_step._output_type(levels - 1)
