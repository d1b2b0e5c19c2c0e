"""The fields of a step: their names, their checks, their defaults, and how they are given by keyword."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from flujo.domain.dsl import _checks
from flujo.domain.dsl._tracking import Check
from flujo.domain.dsl.step_config import StepConfig, StepConfigOptions

if TYPE_CHECKING:
    from flujo.domain.caching import CachePolicy
    from flujo.domain.dsl._composable import Composable
    from flujo.domain.dsl.step import Step
    from flujo.domain.processors import AgentProcessors
    from flujo.domain.usage import UsageLimits

__all__ = ["CHECKS", "DEFAULTS", "NamedStepOptions", "StepOptions", "merged_config"]


class StepOptions(StepConfigOptions, total=False):
    """What `Step`, `@step` and the factories of `Step` take by keyword: a step's fields, and its config's."""

    config: StepConfig | Mapping[str, object] | None
    plugins: Iterable[object] | None
    validators: Iterable[object] | None
    processors: AgentProcessors | None
    fallback_step: Step[Any, Any] | None
    usage_limits: UsageLimits | None
    cache: CachePolicy | bool | float | None
    persist_feedback_to_context: str | None
    persist_validation_results_to: str | None
    input: str | None
    updates_context: bool
    validate_fields: bool
    input_keys: Iterable[str] | None
    output_keys: Iterable[str] | None
    sink_to: str | None
    meta: Mapping[str, Any] | None
    failure_route: Composable[Any, Any] | None
    failure_handlers: Iterable[Callable[..., object]] | None
    static_invariants: Iterable[Callable[..., object]] | None
    is_adapter: bool
    adapter_id: str | None
    adapter_allow: str | None
    inline: bool


class NamedStepOptions(StepOptions, total=False):
    """`StepOptions` of a factory that knows a name by itself."""

    name: str | None


def _agent(where: str, value: object) -> object:
    from flujo.domain.dsl._signature import agent_entry_point
    from flujo.domain.dsl.step import Step

    if isinstance(value, Step):
        raise TypeError(
            f"{where} = {value!r}: a step isn't an agent; chain steps with >>, or give step.agent"
        )
    if value is not None and agent_entry_point(value) is None:
        raise _checks.wrong_type(where, value, "an object with a run method, a callable, or None")
    return value


def _plugin(where: str, value: object) -> object:
    allowed = "a plugin (an object with a validate method, or a callable) or a pair (plugin, priority)"
    plugin, priority = value if isinstance(value, tuple) and len(value) == 2 else (value, 0)
    if not (callable(plugin) or callable(getattr(plugin, "validate", None))):
        raise _checks.wrong_type(where, value, allowed)
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise _checks.wrong_type(
            where, priority, "a whole number as the plugin's priority; higher runs first"
        )
    return (plugin, priority)


def _validator(where: str, value: object) -> object:
    if not (callable(value) or callable(getattr(value, "validate", None))):
        raise _checks.wrong_type(where, value, "a validator: an object with a validate method, or a callable")
    return value


def _callable(where: str, value: object) -> object:
    if not callable(value):
        raise _checks.wrong_type(where, value, "a callable")
    return value


def _fallback(where: str, value: object) -> object:
    from flujo.domain.dsl.step import Step

    if not isinstance(value, Step):
        raise _checks.wrong_type(
            where, value, "a Step or None; a whole pipeline goes in by pipeline.as_step(name)"
        )
    return value


def _route(where: str, value: object) -> object:
    from flujo.domain.dsl.pipeline import as_pipeline

    return as_pipeline(where, value)


def _processors() -> type:
    from flujo.domain.processors import AgentProcessors

    return AgentProcessors


def _usage_limits() -> type:
    from flujo.domain.usage import UsageLimits

    return UsageLimits


def _cache(where: str, value: object) -> object:
    if value is None or value is False:
        return None
    from flujo.domain.caching import CachePolicy, InMemoryCache

    if value is True:
        return CachePolicy()
    if isinstance(value, CachePolicy):
        return value
    if isinstance(value, (int, float)):
        return CachePolicy(ttl_s=value)
    if isinstance(value, InMemoryCache):
        return CachePolicy(backend=value)
    raise _checks.wrong_type(
        where, value, "True, a number of seconds that results are good for, a CachePolicy, a cache, or None"
    )


def _config(where: str, value: object) -> StepConfig:
    if value is None:
        return StepConfig()
    if isinstance(value, StepConfig | Mapping):
        return StepConfig.model_validate(value)
    raise _checks.wrong_type(where, value, "a StepConfig or a mapping of its fields")


_names = _checks.list_of(_checks.text, "a list of texts")

CHECKS: Mapping[str, Check] = {
    "name": _checks.name,
    "agent": _agent,
    "config": _config,
    "plugins": _checks.list_of(_plugin, "a list of plugins, or of pairs (plugin, priority)"),
    "validators": _checks.list_of(_validator, "a list of validators"),
    "processors": _checks.optional(
        _checks.instance_of(
            _processors, "AgentProcessors(prompt_processors=[…], output_processors=[…]), or None"
        )
    ),
    "fallback_step": _checks.optional(_fallback),
    "usage_limits": _checks.optional(_checks.instance_of(_usage_limits, "a UsageLimits or None")),
    "cache": _cache,
    "persist_feedback_to_context": _checks.optional(_checks.dotted_path),
    "persist_validation_results_to": _checks.optional(_checks.dotted_path),
    "input": _checks.optional(_checks.text),
    "updates_context": _checks.boolean,
    "validate_fields": _checks.boolean,
    "input_keys": _names,
    "output_keys": _names,
    "sink_to": _checks.optional(_checks.dotted_path),
    "meta": _checks.mapping(None, "a mapping"),
    "failure_route": _checks.optional(_route),
    "failure_handlers": _checks.list_of(_callable, "a list of callables"),
    "static_invariants": _checks.list_of(_callable, "a list of callables of the context"),
    "is_adapter": _checks.boolean,
    "adapter_id": _checks.optional(_checks.text),
    "adapter_allow": _checks.optional(_checks.text),
    "inline": _checks.boolean,
}

DEFAULTS: Mapping[str, object] = {
    "config": None,
    "plugins": None,
    "validators": None,
    "processors": None,
    "fallback_step": None,
    "usage_limits": None,
    "cache": None,
    "persist_feedback_to_context": None,
    "persist_validation_results_to": None,
    "input": None,
    "updates_context": False,
    "validate_fields": False,
    "input_keys": None,
    "output_keys": None,
    "sink_to": None,
    "meta": None,
    "failure_route": None,
    "failure_handlers": None,
    "static_invariants": None,
    "is_adapter": False,
    "adapter_id": None,
    "adapter_allow": None,
    "inline": False,
}
"""What the fields are where nothing is given; the checks turn None into an empty list, mapping or config."""


def merged_config(config: object, settings: Mapping[str, Any], owner: str) -> object:
    """The config of a step that was given a `config`, settings by keyword, or both: then the keywords win."""
    if not settings:
        return config
    if config is None:
        return StepConfig(**settings)
    import warnings

    given = _config(f"{owner}.config", config)
    names = ", ".join(settings)
    warnings.warn(
        f"{owner} was given both config= and {names}; the keywords win. Put them into the StepConfig",
        UserWarning,
        stacklevel=_frames_inside(),
    )
    return StepConfig(**{**given.given(), **settings})


def _frames_inside() -> int:
    """How many frames of this package lie between `warnings.warn` and the user's code."""
    import sys

    depth = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("flujo.domain.dsl"):
        frame = frame.f_back
        depth += 1
    return depth
