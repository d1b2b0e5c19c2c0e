"""Another path of `flujo.infra.console_tracer`."""

from flujo.infra.console_tracer import ConsoleTracer

__all__ = ["ConsoleTracer"]
