"""A real Redis server for a test: on a free port, with a folder of its own, ended with the test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


class RedisServer:
    """A server that can be killed and started again, empty, on the same port."""

    def __init__(self, *settings: str) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "redis-server is not installed: scripts/services.sh does that"
        self._program, self._settings = program, settings
        self._folder = tempfile.mkdtemp()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        places = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._folder)
        process = subprocess.Popen(
            (self._program, *places, "--save", "", "--appendonly", "no", *self._settings),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "Ready to accept connections" in line:
                break
        assert process.poll() is None, said
        self._process = process

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def redis_server(*settings: str) -> Iterator[RedisServer]:
    server = RedisServer(*settings)
    try:
        yield server
    finally:
        server.close()
