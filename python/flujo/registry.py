"""Pipelines by name and version, at the path that older versions had them at."""

from flujo.infra.registry import PipelineRegistry

__all__ = ["PipelineRegistry"]
