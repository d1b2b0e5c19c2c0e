"""A real Prometheus for tests, on a free port with a folder of its own."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that scrapes its targets four times a second."""

    address: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an instant query finds: each series with its `metric` and `value`."""
        return _get(f"{self.address}/api/v1/query?{urllib.parse.urlencode({'query': expression})}")["data"][
            "result"
        ]

    def wait_for(
        self, expression: str, holds: Callable[[list[dict[str, Any]]], bool]
    ) -> list[dict[str, Any]]:
        """What a query finds, as soon as this holds for it."""
        return _until(lambda: self.query(expression), holds, f"{expression} to hold")

    def targets(self) -> list[dict[str, Any]]:
        """The targets that are scraped, with their health and last error."""
        return _get(f"{self.address}/api/v1/targets")["data"]["activeTargets"]


@contextmanager
def prometheus(targets: Sequence[str]) -> Iterator[Prometheus]:
    """Starts Prometheus, which scrapes `/metrics` of these `host:port`s; stops it in the end."""
    program = shutil.which("prometheus")
    assert program is not None, "prometheus isn't installed: run scripts/services.sh"
    with tempfile.TemporaryDirectory() as folder:
        configuration = {
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms"},
            "scrape_configs": [{"job_name": "flujo", "static_configs": [{"targets": list(targets)}]}],
        }
        # JSON is YAML.
        file = Path(folder, "prometheus.yml")
        file.write_text(json.dumps(configuration))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = Path(folder, "log")
        with log.open("wb") as written:
            process = subprocess.Popen(
                [
                    program,
                    f"--config.file={file}",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=written,
                stderr=subprocess.STDOUT,
            )
        try:
            address = f"http://127.0.0.1:{port}"
            _until(lambda: _ready(process, address, log), bool, "Prometheus to be ready")
            yield Prometheus(address)
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def _ready(process: subprocess.Popen[bytes], address: str, log: Path) -> bool:
    assert process.poll() is None, f"prometheus ended:\n{log.read_text()}"
    try:
        with urllib.request.urlopen(f"{address}/-/ready", timeout=PATIENCE_S) as answer:
            return bool(answer.status == 200)
    except urllib.error.URLError:
        return False


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        return json.load(answer)


def _until(look: Callable[[], Any], holds: Callable[[Any], bool], what: str) -> Any:
    # Another process is waited for, which tells nobody when it is ready.
    give_up = time.monotonic() + PATIENCE_S
    while True:
        seen = look()
        if holds(seen):
            return seen
        assert time.monotonic() < give_up, f"waited {PATIENCE_S} s for {what}; seen: {seen}"
        time.sleep(0.02)
