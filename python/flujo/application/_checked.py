"""What a runner is given, checked: one clear error for each thing that can't be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from flujo._native import OptimizedTelemetry
from flujo.domain.dsl.pipeline import Pipeline
from flujo.domain.dsl.step import Step
from flujo.exceptions import ConfigurationError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from flujo._native import OptimizationConfig
    from flujo.domain.rate_limit import RateLimit
    from flujo.domain.usage import UsageLimits
    from flujo.infra.registry import PipelineRegistry


def as_pipeline(pipeline: Any) -> Pipeline[Any, Any]:
    """The pipeline itself; of a step, a pipeline of one."""
    if isinstance(pipeline, Pipeline):
        return pipeline
    if isinstance(pipeline, Step):
        return Pipeline([pipeline])
    raise TypeError(
        f"Flujo runs a Pipeline or a Step, not a {type(pipeline).__name__}: join steps with >>, or decorate a "
        "function with @step"
    )


def pipeline_of(
    pipeline: Any, registry: PipelineRegistry | None, name: str | None, version: str
) -> Pipeline[Any, Any]:
    """The pipeline that a runner was given, or the one of a registry."""
    if pipeline is not None:
        return as_pipeline(pipeline)
    if registry is None or not name:
        raise TypeError("Flujo needs a pipeline, or a registry and the pipeline_name to look for there")
    found = registry.get(name, version)
    if found is None:
        versions = ", ".join(registry.versions(name)) or "no version"
        raise ConfigurationError(
            f"the registry has no pipeline {name!r} of version {version!r}; of this name it has {versions}",
            suggestion=f"register it: registry.register(pipeline, {name!r}, {version!r})",
        )
    return found


def checked_model(model: Any) -> type[BaseModel] | None:
    """A class of contexts, its merge rules checked."""
    if model is None:
        return None
    if isinstance(model, type) and hasattr(model, "model_fields"):
        from flujo.domain._merge_rules import check

        check(model)
        return cast("type[BaseModel]", model)
    raise TypeError(
        f"context_model must be a class derived from PipelineContext or pydantic.BaseModel, not {model!r}"
    )


def checked_data(data: Any) -> Mapping[str, Any] | None:
    """Fields of a context."""
    if data is None or isinstance(data, Mapping):
        return data
    raise TypeError(
        f"initial_context_data must be a mapping of field names to values, not {type(data).__name__}"
    )


def checked_limits(limits: Any) -> UsageLimits | None:
    """Usage limits."""
    if limits is None or hasattr(limits, "total_cost_usd_limit"):
        return cast("UsageLimits | None", limits)
    raise TypeError(f"usage_limits must be a UsageLimits, not {type(limits).__name__}")


def checked_rates(limits: Any) -> list[RateLimit]:
    """Rate limits."""
    from flujo.domain.rate_limit import RateLimit

    listed: list[Any] = list(limits or ())
    for limit in listed:
        if not isinstance(limit, RateLimit):
            raise TypeError(f"rate_limits must be RateLimits, not {type(limit).__name__}")
    return listed


def checked_config(config: Any) -> OptimizationConfig | None:
    """An optimisation config."""
    if config is None or hasattr(config, "enable_object_pooling"):
        return cast("OptimizationConfig | None", config)
    raise TypeError(f"optimization_config must be an OptimizationConfig, not {type(config).__name__}")


def checked_on_alert(callback: Any) -> object:
    """Who tells `on_alert`; None where nobody is to be told."""
    if callback is None:
        return None
    from flujo.application._alerts import teller_for

    return teller_for(callback)


def checked_callable(name: str, value: Any) -> Any:
    """A function, or None."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be a function, not {type(value).__name__}")
    return value


def checked_grace(value: Any) -> float:
    """Seconds, 0 or more, that a cancelled run waits."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"cancel_grace_s must be a number of seconds, not {type(value).__name__}")
    if not value >= 0:
        raise ValueError(f"cancel_grace_s must be 0 seconds or more, not {value}")
    return float(value)


def checked_seconds(name: str, value: Any) -> float | None:
    """Seconds above 0."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not value > 0:
        raise ValueError(f"{name} must be above 0 seconds, not {value}")
    return float(value)


def checked_traceparent(value: Any) -> str | None:
    """The span of another process. A text that isn't one counts as none, as the standard asks: who calls is to blame,
    not who is called.
    """
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"traceparent must be the text of a W3C traceparent header, not {type(value).__name__}")


def checked_telemetry(value: Any) -> OptimizedTelemetry | None:
    """What was given, or the process's own of `init_telemetry`."""
    if value is None:
        # Nobody has called `init_telemetry` while its module isn't there.
        module = sys.modules.get("flujo.infra.telemetry")
        return None if module is None else cast("OptimizedTelemetry | None", module.of_process())
    if isinstance(value, OptimizedTelemetry):
        return value
    raise TypeError(f"telemetry must be a flujo.Telemetry, not {type(value).__name__}")


def hooks_and_telemetry(
    hooks: Iterable[Callable[..., object]] | None, value: Any
) -> tuple[list[Callable[..., object]], OptimizedTelemetry | None]:
    """The hooks without those that stand for a telemetry, and the telemetry."""
    own, stand_ins = list(hooks or ()), []
    # Nobody has such a hook while its module isn't there.
    if (module := sys.modules.get("flujo.telemetry.otel_hook")) is not None:
        kind = module.OpenTelemetryHook
        stand_ins = [hook for hook in own if isinstance(getattr(hook, "__self__", None), kind)]
    if not stand_ins:
        return own, checked_telemetry(value)
    if value is not None or len(stand_ins) > 1:
        raise TypeError("give a runner one OpenTelemetryHook or a telemetry, not several of them")
    telemetry: OptimizedTelemetry = vars(getattr(stand_ins[0], "__self__", None))["telemetry"]
    return [hook for hook in own if hook is not stand_ins[0]], telemetry


def hooks_of_tracer(value: Any) -> list[Callable[..., object]]:
    """The hook of a console tracer."""
    if value is None:
        return []
    from flujo.infra.console_tracer import ConsoleTracer

    if value == "default":
        value = ConsoleTracer()
    if not isinstance(value, ConsoleTracer):
        raise TypeError(f"local_tracer must be a ConsoleTracer or 'default', not {value!r}")
    return [value.hook]
