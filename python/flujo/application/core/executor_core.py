"""The executor's configuration."""

from __future__ import annotations

from flujo._native import OptimizationConfig as OptimizationConfig

__all__ = ["OptimizationConfig"]
