"""How often agents are called, shared by name over branches, runs and runners."""

from __future__ import annotations

from flujo._native import RateLimit as RateLimit

__all__ = ["RateLimit"]
