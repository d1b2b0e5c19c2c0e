"""The small examples say what they are said to say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples" / "control_flow"

SAYS = {
    "agentic_loop": "the answer: 42\n1 run_agent 42\n2 finish the answer: 42\n",
    "default_pipeline": "A note tea . 1.0\n",
    "conditional": "an answer to 'what time is it?'\nnoted: it is late, so late\n",
    "failure_route": "{'balance': 3} 3\nwithdraw of 70 was refused 10\n",
    "import_pipeline": "A pipeline t… []\n",
    "invariants": "3\nFalse 10\n",
    "loop": "7 {'iterations': 7, 'exit_reason': 'condition'} [500, 250, 125, 62, 31, 15, 7]\n",
    "map": "[2, 4, 8]\n[True, True, False, True]\n",
    "parallel": "{'words': 2, 'letters': 4, 'digits': 3}\n4.0 letters a word\n",
    "whole_life": "{'flaky': 42} 2\n",
    "refine_until": "hello!\n",
    "router": "{'words': 2}\n{'words': 2, 'digits': 3}\n",
    "state_machine": "loops: a draft, revised, revised ['draft', 'review', 'revise', 'review', 'revise', 'review']\n",
}


def test_every_example_of_control_flow_is_here() -> None:
    assert set(SAYS) == {path.stem for path in EXAMPLES.glob("*.py")}


@pytest.mark.parametrize("name", SAYS)
def test_an_example_runs_and_says(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={"PYTHONIOENCODING": "utf-8", "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == SAYS[name]
