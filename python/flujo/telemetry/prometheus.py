"""Metrics of finished runs for Prometheus: served, or given to `prometheus_client`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

from flujo.infra.telemetry import Telemetry, init_telemetry, of_process

__all__ = ["PrometheusCollector", "start_prometheus_server"]


class PrometheusCollector:
    """Metrics of finished runs as a collector of `prometheus_client` (`pip install 'flujo-rs[prometheus]'`):
    `REGISTRY.register(PrometheusCollector())`. They stand beside the program's own metrics then.

    Args:
        backend: Where they are counted: a `Telemetry(prometheus=True)`. By default the process's own, which is set up
            for runners that are made from then on.

    Raises:
        TypeError: `backend` is something else.
    """

    def __init__(self, backend: Telemetry | None = None) -> None:
        self.telemetry = _counting(backend)

    def collect(self) -> Iterator[Any]:
        """The metrics as they are now.

        Raises:
            ModuleNotFoundError: `prometheus_client` isn't installed.
        """
        from prometheus_client.parser import text_string_to_metric_families

        yield from text_string_to_metric_families(self.telemetry.metrics())

    def describe(self) -> list[Any]:
        """Nothing in advance: which metrics there are follows from what has run."""
        return []


def start_prometheus_server(
    port: int = 8000, backend: Telemetry | None = None
) -> tuple[Callable[[float], bool], int]:
    """Serve the metrics of finished runs to Prometheus at `http://127.0.0.1:<port>/metrics`, to the end of the process.

    Args:
        port: Where to listen; 0 takes a free port.
        backend: A `Telemetry` that serves them already, such as `Telemetry(prometheus="0.0.0.0:9464")`: its port is
            given then. By default one is set up for all runners that are made from then on.

    Returns:
        A function that waits until the server answers, at most so many seconds, and says whether it does; and the port.

    Raises:
        OSError: the port can't be listened at.
        TypeError: `backend` is something else.
        ValueError: `port` is none, or `backend` serves nothing.
    """
    telemetry = init_telemetry(prometheus=port) if backend is None else _counting(backend)
    address = telemetry.prometheus_address
    if address is None:
        raise ValueError("this Telemetry serves no metrics; make it with prometheus=<port>")
    host, _, own = address.rpartition(":")
    host = host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)

    def wait_ready(timeout_s: float = 5.0) -> bool:
        try:
            socket.create_connection((host, int(own)), timeout=timeout_s).close()
        except OSError:
            return False
        return True

    return wait_ready, int(own)


def _counting(backend: Any) -> Telemetry:
    if backend is None:
        return of_process() or init_telemetry(prometheus=True)
    if isinstance(backend, Telemetry):
        return backend
    raise TypeError(
        f"backend must be a flujo.Telemetry, which counts the runs of this process, not {type(backend).__name__}"
    )
