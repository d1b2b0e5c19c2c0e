"""Spans of one runner on the console or at a collector, asked for by a hook."""

from __future__ import annotations

from typing import Literal

from flujo.domain.events import HookPayload
from flujo.infra.telemetry import Telemetry

__all__ = ["OpenTelemetryHook"]


class OpenTelemetryHook:
    """The spans of a runner, on the console or at an OpenTelemetry collector: `Flujo(..., hooks=[it.hook])`.

    It is another way to give the runner a `Telemetry`, its attribute `telemetry`; new programs write
    `Flujo(..., telemetry=Telemetry(otlp=...))`.

    Args:
        mode: `console` prints each run as a tree on standard error, `otlp` sends spans to a collector.
        endpoint: The collector's address; by default the one that the environment names
            (`OTEL_EXPORTER_OTLP_ENDPOINT`), or `http://localhost:4318`.

    Raises:
        ValueError: `mode` is something else, or `endpoint` can't be used or was given for the console.
    """

    def __init__(self, *, mode: Literal["console", "otlp"] = "console", endpoint: str | None = None) -> None:
        if mode not in ("console", "otlp"):
            raise ValueError(f"mode must be 'console' or 'otlp', not {mode!r}")
        if mode == "console" and endpoint is not None:
            raise ValueError("endpoint is for mode='otlp'; nothing is sent anywhere by mode='console'")
        self.telemetry = Telemetry(console=True) if mode == "console" else Telemetry(otlp=endpoint or True)

    async def hook(self, payload: HookPayload) -> None:
        """Stands for the telemetry in a runner's list of hooks; it has nothing to do itself."""
