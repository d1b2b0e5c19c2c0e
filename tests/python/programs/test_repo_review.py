"""The main job on real input, from Python: examples/repo_review over this repository and over small ones."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flujo import PipelineResult, StepResult

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = REPOSITORY / "examples" / "repo_review"

sys.path.insert(0, str(EXAMPLE))
try:
    from review import review
finally:
    sys.path.remove(str(EXAMPLE))

Files = dict[str, str | bytes]


def write(root: Path, files: Files) -> Path:
    for path, content in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


async def reviewed(root: Path, out: Path) -> tuple[str, PipelineResult]:
    out.mkdir(exist_ok=True)
    result, _ = await review(str(root), str(out))
    assert result.success, result.step_history[-1].feedback
    return (out / "report.md").read_text(), result


def by_yaml(root: Path, out: Path) -> str:
    out.mkdir(exist_ok=True)
    settings = ["--set", f"root={root}", "--set", f"out={out}", "--allow", "file_write"]
    done = subprocess.run(
        [sys.executable, "-m", "flujo", "run", EXAMPLE / "review.yaml", *settings],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (out / "report.md").read_text()


def count(report: str, title: str) -> int:
    found = re.search(rf"^## {title}: (\d+)$", report, re.MULTILINE)
    assert found is not None, report
    return int(found[1])


def steps_of(result: PipelineResult) -> dict[str, StepResult]:
    return {step.name: step for step in result.step_history}


async def test_the_todo_lines_are_as_many_as_git_grep_counts(tmp_path: Path) -> None:
    report, _ = await reviewed(REPOSITORY, tmp_path)
    sources = ["*.rs", "*.py", "*Cargo.toml", "*pyproject.toml"]
    grep = subprocess.run(
        ["git", "grep", "--untracked", "-hcE", r"\bTODO\b", "--", *sources],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = sum(int(line) for line in grep.stdout.split())
    assert expected > 0
    assert count(report, "TODO lines") == expected


async def test_a_report_that_is_too_long_is_rejected_and_drafted_again(tmp_path: Path) -> None:
    report, result = await reviewed(REPOSITORY, tmp_path)
    draft = steps_of(result)["decide"].step_history[0]
    assert (draft.name, draft.attempts, draft.success) == ("draft", 2, True)
    rejection = draft.metadata_["attempt_failures"][0]
    assert re.search(r"the report has \d{3,} lines, more than the 120 that people read", rejection)
    assert report.count("\n") <= 120


MANY: Files = {
    "src/docs.rs": "/// Documented.\npub fn a() {}\n\npub fn b() {}\n\n#[must_use]\npub fn c() {}\n",
    "src/long.rs": "fn short() {\n    1\n}\n\nfn long() {\n" + "    let x = 1; // TODO: é\n" * 60 + "}\n",
    "src/windows.rs": "// TODO: ends with a carriage return \t\r\nNOT_A_TODO TODOS\n",
    "src/no_end.rs": "fn f() {} // TODO without a line break",
    "d.py": 'def a():\n    """Documented."""\n\n\nasync def b():\n    return 1\n\n\ndef _c():\n    return 1\n',
    "Cargo.toml": '[package]\nname = "x"\n\n[dependencies]\nserde = "1"\n[dev-dependencies]\ninsta = "1"\n',
    "pyproject.toml": '[project]\ndependencies = ["pydantic>=2", "rich"]\n',
    "ignored/a.rs": "// TODO\n",
    ".gitignore": "ignored/\n",
    "empty.py": "",
}


@pytest.mark.parametrize(
    "files",
    [
        MANY,
        {"a.rs": "// TODO: a\n"},
        {"a.rs": "fn a() {}\n"},
        {"a.rs": "fn a() {}\n", "b.rs": b"\xff\xfe"},
        {"a.rs": "// TODO: a\n" * 200},
        {"a.txt": "TODO\n"},
    ],
    ids=["all extractors", "one finding", "nothing found", "unreadable alone", "too long", "no file"],
)
async def test_yaml_and_python_write_the_same_bytes(tmp_path: Path, files: Files) -> None:
    root = write(tmp_path / "root", files)
    report, _ = await reviewed(root, tmp_path / "python")
    assert report == by_yaml(root, tmp_path / "yaml")


async def test_each_extractor_finds_what_its_definition_says(tmp_path: Path) -> None:
    report, _ = await reviewed(write(tmp_path / "root", MANY), tmp_path / "out")
    assert count(report, "TODO lines") == 62
    assert "## Long functions: 1\n\n- `src/long.rs`: `long`\n" in report
    assert "## Functions without documentation: 2\n\n- `d.py`: `b`\n- `src/docs.rs`: `b`\n" in report
    assert "- `Cargo.toml`: `serde`\n- `Cargo.toml`: `insta`\n- `pyproject.toml`: `pydantic`\n" in report
    assert "ignored" not in report


async def test_a_changed_input_changes_the_report_and_an_equal_one_does_not(tmp_path: Path) -> None:
    root = write(tmp_path / "root", {"a.rs": "// TODO: a\n"})
    first, _ = await reviewed(root, tmp_path / "out")
    again, _ = await reviewed(root, tmp_path / "out")
    assert again == first
    write(root, {"a.rs": "// TODO: a\n// TODO: b\n"})
    changed, _ = await reviewed(root, tmp_path / "out")
    assert changed == first.replace("1 files with 1 lines", "1 files with 2 lines").replace(
        "TODO lines: 1\n\n- `a.rs`: // TODO: a\n",
        "TODO lines: 2\n\n- `a.rs`: // TODO: a\n- `a.rs`: // TODO: b\n",
    )


async def test_an_unreadable_file_is_a_failed_item_and_the_rest_is_reviewed(tmp_path: Path) -> None:
    root = write(
        tmp_path / "root", {"a.rs": "// TODO: a\n", "b.rs": b"// TODO: \xff\n", "c/c.rs": "// TODO: c\n"}
    )
    (root / "dangling").mkdir()
    (root / "dangling" / "d.rs").symlink_to(root / "nowhere.rs")
    report, result = await reviewed(root, tmp_path / "out")
    items = steps_of(result)["files"].items
    assert [item.success for item in items] == [True, False, True]
    assert "the file `b.rs` isn't UTF-8 text: the first bad byte is at 9 of 11" in str(items[1].feedback)
    assert report.startswith(
        "# Repository review\n\n2 files with 2 lines\n\n## Files that could not be read\n\n- `b.rs`\n\n"
        "## TODO lines: 2\n\n- `a.rs`: // TODO: a\n- `c/c.rs`: // TODO: c\n"
    )


# --- interrupts

STUCK = """
import asyncio, sys
sys.path.insert(0, sys.argv.pop(1))
import review
from flujo import step

@step(name="totals")
async def stuck(files):
    print("half-way", flush=True)
    await asyncio.get_running_loop().create_future()

review.totals = stuck
sys.exit(review.main())
"""


def interrupted(process: subprocess.Popen[str], wait: Callable[[], object]) -> str:
    """Sends an interrupt once `wait` has returned, and gives what the process said on standard error."""
    try:
        wait()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    return said


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that runs tests in the background has interrupts ignored, which its children would inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


posix = pytest.mark.skipif(os.name != "posix", reason="signals and named pipes of POSIX")


@posix
def test_an_interrupt_half_way_leaves_the_old_report_and_nothing_beside_it(tmp_path: Path) -> None:
    root = write(tmp_path / "root", {"a.rs": "// TODO: a\n"})
    out = write(tmp_path / "out", {"report.md": "old\n"})
    process = start("-c", STUCK, EXAMPLE, "--root", root, "--out", out)
    assert process.stdout is not None
    said = interrupted(process, process.stdout.readline)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert {path.name: path.read_text() for path in out.iterdir()} == {"report.md": "old\n"}


@posix
def test_an_interrupted_command_line_ends_its_run_without_a_traceback(tmp_path: Path) -> None:
    started = tmp_path / "started"
    os.mkfifo(started)
    blueprint = tmp_path / "waits.yaml"
    blueprint.write_text(
        'version: "0.1"\nname: waits\nsteps:\n  - name: wait\n    agent:\n      type: command\n'
        f"      args: [sh, -c, \"echo > '{started}'; exec sleep 600\"]\n"
    )
    process = start("-m", "flujo", "run", blueprint, "--allow", "command")
    said = interrupted(process, started.read_text)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "cancelled" in said


@pytest.mark.parametrize("command", [["-m", "flujo"], [str(Path(sys.executable).with_name("flujo"))]])
def test_the_command_runs_as_a_module_and_as_a_script(command: list[str]) -> None:
    program = [sys.executable, *command] if command[0] == "-m" else command
    valid = subprocess.run([*program, "validate", EXAMPLE / "review.yaml"], capture_output=True, text=True)
    assert (valid.returncode, "Traceback" in valid.stderr) == (0, False), valid.stderr
    missing = subprocess.run([*program, "validate", "missing.yaml"], capture_output=True, text=True)
    assert missing.returncode == 2
    assert "missing.yaml" in missing.stderr
