"""Blueprints that name functions of Python, under `python -m flujo run`."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from flujo.application._functions import imported

MODULE = """
import asyncio
from pathlib import Path

from flujo import step

Path("imported").write_text("yes")


def shout(text, context):
    return {"text": text.upper(), "tone": context.tone}


async def wait(data):
    await asyncio.sleep(0)
    return data["text"] + "!"


class Counter:
    calls = 0

    async def run(self, data):
        self.calls += 1
        if self.calls == 1:
            raise ValueError("once more")
        return f"{data} after {self.calls}"


counter = Counter()


def longer_than_three(output, context):
    return len(output) > 3


def writes(text, context):
    context.tone = "loud"


@step
async def decorated(data: str) -> str:
    return f"<{data}>"


class Used(str):
    token_counts = 5
    cost_usd = 0.25


def costs(data):
    return Used("x")
"""

BLUEPRINT = """
steps:
  - {name: shout, uses: "helpers:shout"}
  - {name: wait, uses: "helpers:wait"}
  - name: choose
    kind: conditional
    condition: "helpers:longer_than_three"
    branches:
      true:
        - {name: count, uses: "helpers:counter.run", config: {max_retries: 1}}
        - {name: decorated, uses: "helpers:decorated", input: "{{ steps.shout.tone }} {{ previous_step }}"}
      false: {name: short, uses: "helpers:wait"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "helpers.py").write_text(MODULE)
    (tmp_path / "test.yaml").write_text(BLUEPRINT)
    return tmp_path


def flujo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "flujo", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return flujo(folder, "run", "test.yaml", "--input", "word", *arguments)


def test_functions_sync_and_async_agents_and_conditions_run(folder: Path) -> None:
    done = run(folder, "--allow", "python_import=helpers", "--set", "tone=calm")
    assert (done.returncode, done.stdout) == (0, "<calm WORD! after 2>\n"), done.stderr


def test_an_import_has_to_be_allowed_and_the_refusal_names_both_ways(folder: Path) -> None:
    refused = run(folder)
    assert refused.returncode == 2
    assert "--allow python_import=helpers:shout" in refused.stderr
    assert "flujo.toml" in refused.stderr and "test.yaml:3" in refused.stderr
    assert not (folder / "imported").exists()
    (folder / "flujo.toml").write_text('[allow]\npython_import = ["helpers"]\n')
    assert run(folder, "--set", "tone=calm").returncode == 0
    assert run(folder, "--allow", "python_import=help").returncode == 2


def test_validate_and_graph_import_nothing(folder: Path) -> None:
    assert flujo(folder, "validate", "test.yaml").returncode == 0
    graph = flujo(folder, "graph", "test.yaml")
    assert graph.returncode == 0 and "helpers:shout" in graph.stdout
    assert not (folder / "imported").exists()


def test_what_cannot_be_imported_is_a_problem_with_its_place(folder: Path) -> None:
    for path, reason in [
        ("missing_module:f", "No module named 'missing_module'"),
        ("helpers:missing", "helpers has no 'missing'"),
        ("helpers:__name__", "can't be called"),
    ]:
        (folder / "test.yaml").write_text(f'steps:\n  - {{name: a, uses: "{path}"}}\n')
        failed = run(folder, "--allow", "python_import")
        assert failed.returncode == 2 and "FLU-0211" in failed.stderr and "test.yaml:2" in failed.stderr
        assert reason in failed.stderr
    (folder / "test.yaml").write_text('steps:\n  - {name: a, uses: "not a path"}\n')
    assert "package.module:function" in flujo(folder, "validate", "test.yaml").stderr


def test_a_function_that_fails_or_writes_to_the_context_says_so(folder: Path) -> None:
    (folder / "test.yaml").write_text('steps:\n  - {name: a, uses: "helpers:writes"}\n')
    failed = run(folder, "--allow", "python_import")
    assert failed.returncode == 1
    assert "context.tone can't be set" in failed.stderr and "updates_context" in failed.stderr


def test_what_a_function_reports_as_used_is_counted(folder: Path) -> None:
    (folder / "test.yaml").write_text('steps:\n  - {name: a, uses: "helpers:costs"}\n')
    done = run(folder, "--allow", "python_import", "--json")
    result = json.loads(done.stdout)
    assert (result["usage"]["tokens"], result["usage"]["cost_usd"]) == (5, 0.25), done.stdout


def test_a_function_that_cancels_itself_isnt_reported_as_one_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = "import asyncio\n\ndef work(_):\n    raise asyncio.CancelledError\n"
    (tmp_path / "cancels_itself.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    called = imported("cancels_itself:work").start(1, {}, lambda _: None)
    with caplog.at_level(logging.WARNING, "flujo.run"), pytest.raises(CancelledError):
        called.result(10)
    assert caplog.text == ""
