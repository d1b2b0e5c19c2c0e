"""Cached steps as the engine is told of them: which cache, how long, what results depend on, what tells them apart."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import Enum
from types import BuiltinFunctionType, FunctionType
from typing import Any

from flujo._native import CachedResults, next_identity
from flujo.domain.caching import CachePolicy, InMemoryCache
from flujo.domain.dsl._composable import Composable
from flujo.domain.dsl.step_config import StepConfig

# What doesn't change a step's results, or is told by name.
_LEFT_OUT = frozenset(
    (
        *("name", "meta", "cache", "usage_limits", "input_keys", "output_keys", "validate_fields"),
        *("persist_feedback_to_context", "persist_validation_results_to", "failure_handlers"),
    )
)
_PLAIN = (str, int, float, bool, bytes, type(None), Enum)


def caching(step: Any, policy: CachePolicy) -> dict[str, Any]:
    """How the results of a step are kept, as keywords of `PlanBuilder.step`."""
    backend = policy.backend
    if backend is None:
        backend = step.__dict__.get("_own_cache")
        if backend is None:
            backend = step.__dict__["_own_cache"] = InMemoryCache()
    parts = tuple(_parts_of(step))
    known = _known(parts) if policy.version is None else f"version {policy.version}"
    cache = backend._cache
    if known is None and cache.second is not None:
        _say_that_it_stays_here(step, cache.second)
    scope = policy.scope
    return {
        "cache": CachedResults(
            cache,
            scope=scope if isinstance(scope, str) else list(scope),
            ttl_s=policy.ttl_s,
            known=known,
            local=0 if known is not None else _local(step, parts),
        ),
        "cache_key": _key(step),
    }


def report_uncached(step: str, text: str) -> None:
    """Say, once, that results of a step aren't kept, or not everywhere."""
    import logging

    logging.getLogger("flujo.run").warning("step %r %s", step, text)


def _key(step: Any) -> Any:
    """What stands for the input in keys: what the step's template makes of it, which may name any step before."""
    from flujo.application._templates import input_template

    made = input_template(step.input, f"the input of step {step.name!r}")
    return made[0] if made else None


def _parts_of(step: Any) -> Iterator[Any]:
    """All that a step's results may depend on by its definition: objects that do something, and settings."""
    waiting: list[Any] = [step]
    seen: set[int] = set()
    while waiting:
        found = waiting.pop()
        if isinstance(found, StepConfig):
            yield from (found.temperature, found.top_k, found.top_p)
        elif isinstance(found, (list, tuple)):
            yield len(found)
            waiting.extend(reversed(found))
        elif isinstance(found, dict):
            yield len(found)
            for key, value in reversed(found.items()):
                waiting.extend((value, key))
        elif isinstance(found, Composable) or (
            hasattr(type(found), "_fields") and hasattr(found, "_revision")
        ):
            if id(found) in seen:
                continue
            seen.add(id(found))
            yield type(found)
            values = [_value_of(found, name) for name in found._fields if name not in _LEFT_OUT]
            waiting.extend(reversed(values))
        else:
            yield found


def _value_of(holder: Any, name: str) -> Any:
    """A field; processors, which are made when somebody looks, count as none while there are none."""
    value = holder.__dict__.get(name)
    is_empty = name == "processors" and value and not (value.prompt_processors or value.output_processors)
    return None if is_empty else value


def _known(parts: tuple[Any, ...]) -> str | None:
    """What other processes know these parts by; None where there is one that they don't."""
    names = []
    for part in parts:
        if isinstance(part, _PLAIN):
            names.append(f"{type(part).__name__} {part!r}")
        elif isinstance(part, (type, FunctionType, BuiltinFunctionType)) and _is_importable(part):
            names.append(f"{part.__module__}:{part.__qualname__}")
        else:
            return None
    return "python " + "; ".join(names)


def _is_importable(part: Any) -> bool:
    module = getattr(part, "__module__", None)
    if module is None or module == "__main__":
        return False
    found: Any = sys.modules.get(module)
    for name in part.__qualname__.split("."):
        found = getattr(found, name, None)
    # A decorated function is found as its step.
    return found is part or getattr(found, "__wrapped__", None) is part


def _local(step: Any, parts: tuple[Any, ...]) -> int:
    """The number of a step that only this process knows: the same as long as its parts are the very same."""
    kept: tuple[tuple[Any, ...], int] | None = step.__dict__.get("_cache_identity")
    if kept is not None and _are_same(kept[0], parts):
        return kept[1]
    number = next_identity()
    step.__dict__["_cache_identity"] = (parts, number)
    return number


def _are_same(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return len(before) == len(now) and all(
        one is other or (isinstance(one, _PLAIN) and type(one) is type(other) and one == other)
        for one, other in zip(before, now, strict=True)
    )


def _say_that_it_stays_here(step: Any, tier: str) -> None:
    if step.__dict__.get("_cache_warned"):
        return
    step.__dict__["_cache_warned"] = True
    import warnings

    warnings.warn(
        f"results of step {step.name!r} are kept in memory only, not in {tier}: no other process knows what it "
        "does, since not all of its functions can be imported by name. Give it a version: "
        "CachePolicy(version='1'), or Step.cached(…, version='1')",
        UserWarning,
        stacklevel=2,
    )
