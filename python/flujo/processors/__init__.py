"""Processors that ship: for prompts and for the usual blemishes of model output."""

from flujo.processors.context_variables import AddContextVariables
from flujo.processors.diff import DiffProcessor
from flujo.processors.json_output import (
    DeterministicRepairProcessor,
    EnforceJsonResponse,
    JsonRegionExtractor,
    TolerantJsonDecoder,
)
from flujo.processors.structured import SerializePydantic, SmartTypeCoercion
from flujo.processors.text import StripMarkdownFences

__all__ = [
    "AddContextVariables",
    "DeterministicRepairProcessor",
    "DiffProcessor",
    "EnforceJsonResponse",
    "JsonRegionExtractor",
    "SerializePydantic",
    "SmartTypeCoercion",
    "StripMarkdownFences",
    "TolerantJsonDecoder",
]
