"""What the types promise, proven by the type checkers themselves over the files in `cases/`.

A line that ends in `# error` must be an error, every other line must not. `assert_type` does the rest.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "cases"
PACKAGE = Path(__file__).parents[2] / "python"


def _marked() -> set[tuple[str, int]]:
    return {
        (path.name, number)
        for path in CASES.glob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if line.endswith("# error")
    }


def _mypy() -> dict[tuple[str, int], str]:
    pytest.importorskip("mypy")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--config-file=",
        "--output=json",
        "--no-incremental",
    ]
    command += ["--disable-error-code=import-not-found", "--disable-error-code=import-untyped", str(CASES)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"MYPYPATH": str(PACKAGE), "PATH": ""}
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {
        (Path(one["file"]).name, one["line"]): one["message"]
        for one in found
        if one["severity"] == "error" and Path(one["file"]).parent.name == CASES.name
    }


def _pyright() -> dict[tuple[str, int], str]:
    pytest.importorskip("pyright")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    command += ["--project", str(CASES.parent / "pyrightconfig.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = json.loads(done.stdout)["generalDiagnostics"]
    return {
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1): one["message"]
        for one in found
        if one["severity"] == "error"
    }


def _assert_only_marked_lines(found: dict[tuple[str, int], str]) -> None:
    marked = _marked()
    assert marked, "the cases mark no line, so the test proves nothing"
    unexpected = {place: text for place, text in found.items() if place not in marked}
    assert not unexpected, "\n".join(f"{file}:{line}: {text}" for (file, line), text in unexpected.items())
    assert not marked - found.keys(), f"not reported: {sorted(marked - found.keys())}"


def test_mypy_strict_reports_the_marked_lines_and_no_others() -> None:
    _assert_only_marked_lines(_mypy())


def test_pyright_reports_the_marked_lines_and_no_others() -> None:
    _assert_only_marked_lines(_pyright())
