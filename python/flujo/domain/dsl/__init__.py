"""What a user writes: steps, pipelines and the constructs that combine them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Imported at once, and `step` last: a submodule has the decorator's name and, when it's loaded, takes its
# place.
from flujo.domain.dsl.pipeline import Pipeline
from flujo.domain.dsl.step import Step
from flujo.domain.dsl.step_config import StepConfig

from flujo.domain.dsl.decorator import adapter_step, blocking, step  # isort: skip

if TYPE_CHECKING:
    from flujo.domain.backoff import Backoff
    from flujo.domain.dsl.cache_step import CacheStep
    from flujo.domain.dsl.conditional import BranchKey, ConditionalStep
    from flujo.domain.dsl.human import HumanInTheLoopStep
    from flujo.domain.dsl.import_step import ImportStep, OutputMapping
    from flujo.domain.dsl.loop import LoopStep, RefineStep
    from flujo.domain.dsl.map import MapStep
    from flujo.domain.dsl.parallel import BranchFailureStrategy, MergeStrategy, ParallelStep
    from flujo.domain.dsl.router import DynamicParallelRouterStep
    from flujo.domain.dsl.state_machine import StateMachineStep, Transition
    from flujo.domain.dsl.sub_pipeline import SubPipelineStep
    from flujo.domain.dsl.tree_search import TreeSearchStep
    from flujo.exceptions import ResumeError

__all__ = [
    "Backoff",
    "BranchFailureStrategy",
    "BranchKey",
    "CacheStep",
    "ConditionalStep",
    "DynamicParallelRouterStep",
    "HumanInTheLoopStep",
    "ImportStep",
    "LoopStep",
    "MapStep",
    "MergeStrategy",
    "OutputMapping",
    "ParallelStep",
    "Pipeline",
    "RefineStep",
    "ResumeError",
    "StateMachineStep",
    "Step",
    "StepConfig",
    "SubPipelineStep",
    "Transition",
    "TreeSearchStep",
    "adapter_step",
    "blocking",
    "step",
]

_HOMES = {
    "Backoff": "flujo.domain.backoff",
    "BranchFailureStrategy": "flujo.domain.dsl.parallel",
    "BranchKey": "flujo.domain.dsl.conditional",
    "CacheStep": "flujo.domain.dsl.cache_step",
    "ConditionalStep": "flujo.domain.dsl.conditional",
    "DynamicParallelRouterStep": "flujo.domain.dsl.router",
    "ImportStep": "flujo.domain.dsl.import_step",
    "LoopStep": "flujo.domain.dsl.loop",
    "HumanInTheLoopStep": "flujo.domain.dsl.human",
    "MapStep": "flujo.domain.dsl.map",
    "MergeStrategy": "flujo.domain.dsl.parallel",
    "OutputMapping": "flujo.domain.dsl.import_step",
    "ParallelStep": "flujo.domain.dsl.parallel",
    "RefineStep": "flujo.domain.dsl.loop",
    "StateMachineStep": "flujo.domain.dsl.state_machine",
    "ResumeError": "flujo.exceptions",
    "SubPipelineStep": "flujo.domain.dsl.sub_pipeline",
    "Transition": "flujo.domain.dsl.state_machine",
    "TreeSearchStep": "flujo.domain.dsl.tree_search",
}


if not TYPE_CHECKING:  # type checkers would take every unknown name for a valid one

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(home), name)
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
