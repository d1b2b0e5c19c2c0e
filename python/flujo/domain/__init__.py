"""The domain: what users write and what they get back. Each name is loaded when it's first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flujo.domain.agent_result import FlujoAgentResult, FlujoAgentUsage
    from flujo.domain.backends import ExecutionBackend, StepExecutionRequest
    from flujo.domain.backoff import Backoff
    from flujo.domain.candidates import Candidate, Checklist, ChecklistItem, RefinementCheck, Task
    from flujo.domain.context import BaseContext, ExecutedCommandLog, PipelineContext
    from flujo.domain.dsl import (
        BranchFailureStrategy,
        ConditionalStep,
        LoopStep,
        MapStep,
        MergeStrategy,
        ParallelStep,
        Pipeline,
        StateMachineStep,
        Step,
        StepConfig,
        SubPipelineStep,
        TreeSearchStep,
        adapter_step,
        blocking,
        step,
    )
    from flujo.domain.events import HookCallable, HookPayload
    from flujo.domain.plugins import PluginOutcome, ValidationPlugin
    from flujo.domain.processors import AgentProcessors
    from flujo.domain.resources import AppResources
    from flujo.domain.results import PipelineResult, StepFailure, StepResult
    from flujo.domain.usage import UsageLimits
    from flujo.domain.validation import ValidationFinding, ValidationReport, ValidationResult, Validator

_MODULES = {
    "agent_result": ("FlujoAgentResult", "FlujoAgentUsage"),
    "backends": ("ExecutionBackend", "StepExecutionRequest"),
    "backoff": ("Backoff",),
    "candidates": ("Candidate", "Checklist", "ChecklistItem", "RefinementCheck", "Task"),
    "context": ("BaseContext", "ExecutedCommandLog", "PipelineContext"),
    "dsl": (
        "BranchFailureStrategy",
        "ConditionalStep",
        "LoopStep",
        "MapStep",
        "MergeStrategy",
        "ParallelStep",
        "Pipeline",
        "StateMachineStep",
        "Step",
        "StepConfig",
        "SubPipelineStep",
        "TreeSearchStep",
        "adapter_step",
        "blocking",
        "step",
    ),
    "events": ("HookCallable", "HookPayload"),
    "plugins": ("PluginOutcome", "ValidationPlugin"),
    "processors": ("AgentProcessors",),
    "resources": ("AppResources",),
    "results": ("PipelineResult", "StepFailure", "StepResult"),
    "usage": ("UsageLimits",),
    "validation": ("ValidationFinding", "ValidationReport", "ValidationResult", "Validator"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AgentProcessors",
    "AppResources",
    "Backoff",
    "BaseContext",
    "BranchFailureStrategy",
    "Candidate",
    "Checklist",
    "ChecklistItem",
    "ConditionalStep",
    "ExecutedCommandLog",
    "ExecutionBackend",
    "FlujoAgentResult",
    "FlujoAgentUsage",
    "HookCallable",
    "HookPayload",
    "LoopStep",
    "MapStep",
    "MergeStrategy",
    "ParallelStep",
    "Pipeline",
    "PipelineContext",
    "PipelineResult",
    "PluginOutcome",
    "RefinementCheck",
    "StateMachineStep",
    "Step",
    "StepConfig",
    "StepExecutionRequest",
    "StepFailure",
    "StepResult",
    "SubPipelineStep",
    "Task",
    "TreeSearchStep",
    "UsageLimits",
    "ValidationFinding",
    "ValidationPlugin",
    "ValidationReport",
    "ValidationResult",
    "Validator",
    "adapter_step",
    "blocking",
    "step",
]

if not TYPE_CHECKING:  # type checkers would take every unknown name for a valid one

    def __getattr__(name: str) -> Any:
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"flujo.domain.{module}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
