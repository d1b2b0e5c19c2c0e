"""Recipes by one function each, at the path where they're documented."""

from __future__ import annotations

from flujo.recipes.agentic_loop import make_agentic_loop_pipeline, run_agentic_loop_pipeline
from flujo.recipes.default_pipeline import make_default_pipeline, run_default_pipeline

__all__ = [
    "make_agentic_loop_pipeline",
    "make_default_pipeline",
    "run_agentic_loop_pipeline",
    "run_default_pipeline",
]
