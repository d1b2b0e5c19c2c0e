"""A real PostgreSQL server for a test: on a free port, with a folder of its own, ended with the test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NOBODY = 65534


def _program(name: str) -> str:
    # Debian keeps them off the path, the newest last.
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    folders = os.pathsep.join([os.environ.get("PATH", ""), *map(str, debian)])
    program = shutil.which(name, path=folders)
    assert program is not None, f"{name} is not installed: scripts/services.sh does that"
    return program


def _starter(folder: str) -> tuple[list[str], dict[str, Any]]:
    """How a program is begun that refuses those who may do everything."""
    if os.getuid() != 0:
        return [], {}
    renamed = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
    if subprocess.run([*renamed, "true"], capture_output=True, check=False).returncode == 0:
        return renamed, {}
    os.chown(folder, NOBODY, NOBODY)
    return [], {"user": NOBODY, "group": NOBODY, "extra_groups": []}


class PostgresServer:
    """A server that can be ended and started again on the same port, with what it had."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp()
        self._before, self._as = _starter(self._folder)
        options = ("--auth=trust", "--username=flujo", "--no-sync", "--encoding=UTF8", "--locale=C")
        made = subprocess.run(
            [*self._before, _program("initdb"), *options, "-D", f"{self._folder}/data"],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            **self._as,
        )
        assert made.returncode == 0, made.stderr
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://flujo:secret@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        places = ("-D", f"{self._folder}/data", "-h", "127.0.0.1", "-k", self._folder, "-p", str(self.port))
        process = subprocess.Popen(
            [*self._before, _program("postgres"), *places],
            cwd="/",
            stderr=subprocess.PIPE,
            text=True,
            **self._as,
        )
        log = process.stderr
        assert log is not None
        said = ""
        for line in log:
            said += line
            if "ready to accept connections" in line:
                break
        assert process.poll() is None, said
        # Read on, so that it never waits for its log.
        self._reader = threading.Thread(target=log.read)
        self._reader.start()
        self._process = process

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._reader.join()
            assert self._process.stderr is not None
            self._process.stderr.close()
            self._process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()
