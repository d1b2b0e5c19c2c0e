"""The benchmarks in Rust: runner, durable runs, merging, caching, stores. Their rows are taken over as they are."""

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
MERGE = "rust fork, one write, merge, 10,000 fields"
MERGE_REACH = "<= 2000 ns and <= 2 x of 100 fields"
MEMORY = "rust 10,000 runs in flight, memory"
CACHE = "rust cache, misses, zipf 0.9"
DURABLE = "rust strict, one run, a step, new file"
STORE = "store: strict, one run, a step"

# By package and benchmark, the first row and its reach and unit: what is told where it can't be measured.
BENCHES = (
    ("flujo-tokio", "steps", LINEAR, REACH, "ns/step"),
    ("flujo-tokio", "concurrency", MEMORY, "<= 40 MB", "MB"),
    ("flujo-tokio", "durable", DURABLE, "<= 1.3 x", "µs"),
    ("flujo-core", "merging", MERGE, MERGE_REACH, "ns"),
    ("flujo-core", "caching", CACHE, "<= 1 x", "misses"),
    ("flujo-store", "stores", STORE, "<= 1.3 x", "us"),
)


def rows(effort: Effort) -> Iterator[Row]:
    """Runs `cargo bench`; a quick run doesn't build it."""
    cargo = shutil.which("cargo")
    for package, bench, first, reach, unit in BENCHES:
        if effort.quick or cargo is None:
            why = "not built in a quick run" if effort.quick else "no cargo on PATH"
            yield not_measured(first, reach=reach, unit=unit, why=why)
            continue
        command = [cargo, "bench", "--quiet", "--locked", "-p", package, "--bench", bench, "--", "--json"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            why = (done.stderr.strip().splitlines() or ["no message"])[-1]
            yield Row(first, None, unit, None, None, reach, False, note=f"cargo bench failed: {why}")
            continue
        yield from _told(done.stdout)


def _told(output: str) -> Iterator[Row]:
    for line in output.splitlines():
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
                against=told["against"],
                note="" if told["unit"] == "misses" else "wall time",
            )
