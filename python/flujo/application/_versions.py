"""The versions of a registered pipeline: a run goes on with the one that it began with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flujo._native import CompiledPlan, definition_epoch
from flujo.exceptions import DefinitionChangedError

if TYPE_CHECKING:
    from typing import Any

    from flujo.domain.dsl.pipeline import Pipeline
    from flujo.infra.registry import PipelineRegistry


class Versions:
    """Compiles the versions of a pipeline, each when a run needs it."""

    def __init__(self, registry: PipelineRegistry, name: str) -> None:
        self._registry = registry
        self._name = name
        self._compiled: dict[str, tuple[int, Pipeline[Any, Any], CompiledPlan]] = {}

    def version_of(self, pipeline: Pipeline[Any, Any]) -> str | None:
        """The highest version that a pipeline is registered as."""
        versions = self._registry.versions(self._name)
        return next((one for one in versions if self._registry.get(self._name, one) is pipeline), None)

    def __call__(self, version: str) -> CompiledPlan:
        """The plan of a version.

        Raises:
            DefinitionChangedError: the registry doesn't have it.
        """
        pipeline = self._registry.get(self._name, version)
        if pipeline is None:
            has = ", ".join(self._registry.versions(self._name)) or "none"
            raise DefinitionChangedError(
                f"the run began with version {version!r} of {self._name!r}, which isn't registered: there is {has}",
                differences=[f"version {version!r} isn't registered"],
                suggestion="register that version for as long as runs of it are under way",
            )
        epoch = definition_epoch()
        known = self._compiled.get(version)
        if known is not None and known[0] == epoch and known[1] is pipeline:
            return known[2]
        from flujo.application._lowering import compile_pipeline

        plan = compile_pipeline(pipeline, self._name)
        self._compiled[version] = (epoch, pipeline, plan)
        return plan


def versions_of(registry: PipelineRegistry | None, name: str) -> Versions | None:
    """The versions that a registry has of a pipeline, if there is one."""
    return None if registry is None else Versions(registry, name)
