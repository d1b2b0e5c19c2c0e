"""The models of the domain, at the path where they're documented. Each is loaded when first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flujo.domain.agent_result import FlujoAgentResult, FlujoAgentUsage
    from flujo.domain.candidates import Candidate, Checklist, ChecklistItem, RefinementCheck, Task
    from flujo.domain.context import BaseContext, ExecutedCommandLog, HumanInteraction, PipelineContext
    from flujo.domain.context_reference import ContextReference
    from flujo.domain.processors import AgentProcessors
    from flujo.domain.resources import AppResources
    from flujo.domain.results import Pause, PipelineResult, StepFailure, StepResult
    from flujo.domain.usage import UsageLimits
    from flujo.domain.validation import ValidationFinding, ValidationReport, ValidationResult

__all__ = [
    "AgentProcessors",
    "AppResources",
    "BaseContext",
    "Candidate",
    "Checklist",
    "ChecklistItem",
    "ContextReference",
    "ExecutedCommandLog",
    "FlujoAgentResult",
    "FlujoAgentUsage",
    "HumanInteraction",
    "Pause",
    "PipelineContext",
    "PipelineResult",
    "RefinementCheck",
    "StepFailure",
    "StepResult",
    "Task",
    "UsageLimits",
    "ValidationFinding",
    "ValidationReport",
    "ValidationResult",
]

_MODULES = {
    "agent_result": ("FlujoAgentResult", "FlujoAgentUsage"),
    "candidates": ("Candidate", "Checklist", "ChecklistItem", "RefinementCheck", "Task"),
    "context": ("BaseContext", "ExecutedCommandLog", "HumanInteraction", "PipelineContext"),
    "context_reference": ("ContextReference",),
    "processors": ("AgentProcessors",),
    "resources": ("AppResources",),
    "results": ("Pause", "PipelineResult", "StepFailure", "StepResult"),
    "usage": ("UsageLimits",),
    "validation": ("ValidationFinding", "ValidationReport", "ValidationResult"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

if not TYPE_CHECKING:  # static tools would take every unknown name for a valid one

    def __getattr__(name: str) -> Any:
        if (module := _MODULE_OF.get(name)) is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"flujo.domain.{module}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
