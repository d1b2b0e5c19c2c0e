"""The benchmark's report: its rows and their shape. What it measures is never asserted here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

REPORT = Path(__file__).parents[3] / "benches" / "report.py"

# Every row that a reader of the report may count on.
PROMISED = {
    "linear, 10 steps",
    "linear, 100 steps",
    "linear, 1000 steps",
    "linear, a step of 1000 against one of 10",
    "linear, with timeout_s",
    "linear, each step really suspends",
    "linear, each step really suspends, with timeout_s",
    "loop, 1,000 iterations of one step",
    "linear, taking and writing a pydantic context",
    "linear, taking and writing a PipelineContext",
    "linear, two hooks, a validator, an output processor",
    "linear, reading every StepResult afterwards",
    "linear, every field of every StepResult",
    "linear, sync functions in the pool",
    "linear, sync functions inline",
    "parallel, 100 no-op branches",
    "parallel, 100 branches that sleep 10 ms",
    "1,000 concurrent runs of 5 steps",
    "200,000 streamed chunks, run_stream",
    "200,000 streamed chunks, run_with_events",
    "a stream whose reader is behind, memory",
    "10,000 steps, a step of it",
    "conditional, 10,000 levels deep, a level of it",
    "parallel, 10,000 levels deep, a level of it",
    "sub-pipeline, 10,000 levels deep, a level of it",
    "fallback, 10,000 levels deep, a level of it",
    "a hit of a cached step, 10 KB in and out",
    "cold import of five names",
    "parallel, beside a context of 10 MB, not taken",
    "parallel, beside a context of 10 MB, one small field read",
    "parallel, one branch edits one of 100 KB of rows",
    "parallel, one branch edits one of 100 KB of models",
    "rust linear 100 steps, current thread",
    "rust fork, one write, merge, 10,000 fields",
    "rust cache, misses, zipf 0.9",
}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("bench") / "report.json"
    command = [sys.executable, str(REPORT), "--quick", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_the_report_has_every_promised_row_once(report: dict[str, Any]) -> None:
    names = [row["name"] for row in report["rows"]]
    assert set(names) >= PROMISED
    assert len(names) == len(set(names))


def test_a_row_is_a_figure_beside_its_baseline_or_says_why_there_is_none(report: dict[str, Any]) -> None:
    for row in report["rows"]:
        assert {"name", "value", "unit", "baseline", "ratio", "reach", "holds"} <= row.keys()
        assert row["unit"] and row["reach"]
        if row["value"] is None:
            assert row["note"] and not row["holds"]
            continue
        assert row["baseline"] > 0 and row["ratio"] > 0
        assert all(math.isfinite(row[key]) for key in ("value", "baseline", "ratio", "median"))
        low, high = row["interval"]
        assert low <= row["median"] <= high


def test_nothing_nested_deeply_aborts(report: dict[str, Any]) -> None:
    deep = [row for row in report["rows"] if "levels deep" in row["name"]]
    assert deep
    assert [row["note"] for row in deep if row["value"] is None] == []


def test_the_report_names_interpreter_and_machine(report: dict[str, Any]) -> None:
    assert report["interpreter"].endswith(sys.version.split()[0])
    assert report["machine"]["cpu"] and report["machine"]["cores"]
    assert report["quick"] is True


def test_an_unknown_group_is_refused_by_name(tmp_path: Path) -> None:
    command = [sys.executable, str(REPORT), "--only", "lineal", "--out", str(tmp_path / "report.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "lineal" in done.stderr and "linear" in done.stderr
    assert not (tmp_path / "report.json").exists()
