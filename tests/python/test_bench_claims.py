"""`python -m flujo.bench claims`: the seed's table, measured here."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from flujo._native import Claims
from flujo.bench._rows import ROWS, Effort, Row

NAMES = {"name", "seed", "target", "plain", "optimized", "unit", "difference", "interval", "holds"}


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)


def test_claims_are_measured_in_rust_and_in_python_and_told_as_json_and_as_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "claims.svg"
    done = bench(
        "flujo.bench", "claims", "--quick", "--json", "--only", "step execution", "--svg", str(picture)
    )
    assert done.returncode in (0, 1), done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)["claims"]
    assert [row["host"] for row in rows] == ["rust", "python"]
    assert all(row.keys() >= NAMES for row in rows)
    assert done.returncode == (0 if all(row["holds"] for row in rows) else 1)
    assert ElementTree.parse(picture).getroot().tag.endswith("svg")


def test_the_command_is_part_of_the_package_s_command_too() -> None:
    done = bench("flujo", "bench", "claims", "--only", "no such claim")
    assert done.returncode == 2
    assert "no claim's name contains 'no such claim'; there are: " in done.stderr


@pytest.mark.parametrize(
    "row", [row for row in ROWS if not row.name.startswith("memory")], ids=lambda row: row.name
)
def test_every_row_fails_when_its_optimised_twin_is_slowed_down(row: Row) -> None:
    claims = Claims()
    row.measure(claims, Effort(pairs=1, repeated=4 if row.promise == "more" else 100))
    assert not claims.hold(), claims.table()


@pytest.mark.parametrize("module", ["flujo.bench", "flujo bench"])
@pytest.mark.parametrize("twin", ["plain", "optimized"])
def test_memory_of_a_run_is_measured_in_a_process_of_its_own(module: str, twin: str) -> None:
    figures = [float(line) for line in bench(*module.split(), "memory", twin, "5").stdout.splitlines()]
    assert len(figures) == 5 and sorted(figures)[2] > 0


def test_figures_that_cannot_be_judged_are_refused() -> None:
    with pytest.raises(RuntimeError, match="`row` could not be measured"):
        Claims().judge(
            name="row",
            part="all",
            unit="ns",
            promise="less",
            seed=0.2,
            target=0.6,
            plain=[1.0],
            optimized=[float("nan")],
        )
