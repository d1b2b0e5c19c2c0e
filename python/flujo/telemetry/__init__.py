"""Telemetry under the names it had in earlier versions. What they stand for is in `flujo.infra.telemetry`."""

from flujo.infra.telemetry import Telemetry, init_telemetry
from flujo.telemetry.otel_hook import OpenTelemetryHook
from flujo.telemetry.prometheus import PrometheusCollector, start_prometheus_server

__all__ = [
    "OpenTelemetryHook",
    "PrometheusCollector",
    "Telemetry",
    "init_telemetry",
    "start_prometheus_server",
]
