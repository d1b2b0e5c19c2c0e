"""The Rust runner's own benchmark, `crates/flujo-tokio/benches`, whose rows are taken over as they are."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .row import Row, not_measured
from .sampling import Effort

ROOT = Path(__file__).resolve().parents[2]
LINEAR = "rust linear 100 steps, current thread"
REACH = "<= 150 ns and <= 12 x a boxed-future loop"


def rows(effort: Effort) -> Iterator[Row]:
    """Runs `cargo bench`; a quick run doesn't build it."""
    if effort.quick:
        yield not_measured(LINEAR, reach=REACH, unit="ns/step", why="not built in a quick run")
        return
    cargo = shutil.which("cargo")
    if cargo is None:
        yield not_measured(LINEAR, reach=REACH, unit="ns/step", why="no cargo on PATH")
        return
    command = [cargo, "bench", "--quiet", "--locked", "-p", "flujo-tokio", "--bench", "steps", "--", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        yield Row(LINEAR, None, "ns/step", None, None, REACH, False, note=f"cargo bench failed: {why}")
        return
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            told = json.loads(line)
            yield Row(
                name=told["name"],
                value=told["value"],
                unit=told["unit"],
                baseline=told["baseline"],
                ratio=told["ratio"],
                reach=told["reach"],
                holds=None if told["reach"] == "reported" else told["holds"],
                against=told.get("against", "a boxed-future loop" if "boxed" in told["reach"] else ""),
                note="wall time",
            )
