"""Reviews this repository from YAML, Rust and Python, and compares the three reports.

    python examples/repo_review/demo.py --out target/demo [--model]

With `--model` a chat model (`MODEL_BASE_URL`, `MODEL_NAME`) adds a summary; `make demo-model` starts one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = Path(__file__).resolve().parent


def run(title: str, command: list[str | Path], cwd: Path = REPOSITORY) -> None:
    """Run one of the three reviews, its tree of steps on standard error.

    Raises:
        SystemExit: it didn't succeed; the exit code is its own.
    """
    print(f"\n=== {title}\n$ {' '.join(str(part) for part in command)}", flush=True)
    try:
        code = subprocess.run(command, cwd=cwd, stdout=subprocess.DEVNULL).returncode
    except FileNotFoundError as error:
        raise SystemExit(f"{error.filename} isn't installed, which {title} needs") from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    if code != 0:
        print(f"the review from {title} ended with exit code {code}", file=sys.stderr)
        raise SystemExit(code)


def show_statistics(path: Path) -> None:
    """Print what the runner measured: its counts, and the time of each step."""
    statistics = json.loads(path.read_text())
    by_step = statistics["execution_time_stats"]["by_step"]
    print("\n=== Statistics of the run in Python, times in milliseconds")
    print(f"{'step':16}{'count':>7}{'mean':>10}{'p50':>10}{'p99':>10}")
    for name, times in by_step.items():
        columns = "".join(f"{times[key] * 1000:10.2f}" for key in ("mean", "p50", "p99"))
        print(f"{name:16}{times['count']:7}{columns}")
    rest = {key: value for key, value in statistics.items() if isinstance(value, int | float)}
    print(", ".join(f"{key}: {value:g}" for key, value in rest.items()))


def compare(reports: dict[str, Path]) -> bool:
    """Say whether the reports are the same to the byte."""
    contents = {name: path.read_bytes() for name, path in reports.items()}
    first = next(iter(contents))
    equal = all(content == contents[first] for content in contents.values())
    print(f"\n=== Reports: {'equal' if equal else 'DIFFERENT'}")
    for name, path in reports.items():
        print(f"{name:8}{len(contents[name]):8} bytes  {path}")
    return equal


def main() -> int:
    """Run the three reviews; the exit code is 0 when all succeeded with equal reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("target/demo"), help="the folder for the reports")
    parser.add_argument("--model", action="store_true", help="add a summary by the model at MODEL_BASE_URL")
    arguments = parser.parse_args()
    if arguments.model and (missing := {"MODEL_BASE_URL", "MODEL_NAME"} - os.environ.keys()):
        parser.error(f"--model needs {' and '.join(sorted(missing))}; `make demo-model` sets both")

    folders = {name: arguments.out.resolve() / name for name in ("yaml", "rust", "python")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.md").unlink(missing_ok=True)
    blueprint = EXAMPLE / ("review_with_model.yaml" if arguments.model else "review.yaml")
    flujo = [sys.executable, "-m", "flujo", "run", blueprint, "--allow", "file_write"]
    run("YAML", [*flujo, "--set", f"root={REPOSITORY}", "--set", f"out={folders['yaml']}"])
    cargo = [
        "cargo",
        "run",
        "--quiet",
        "--locked",
        "--example",
        "repo_review",
        "--",
    ]
    run("Rust", [*cargo, REPOSITORY, folders["rust"]])
    statistics = folders["python"] / "statistics.json"
    review = [sys.executable, EXAMPLE / "review.py", "--root", REPOSITORY, "--out", folders["python"]]
    run("Python", [*review, "--stats-out", statistics, *(["--model"] if arguments.model else [])])

    show_statistics(statistics)
    equal = compare({name: folder / "report.md" for name, folder in folders.items()})
    if arguments.model:
        for name in ("yaml", "python"):
            summary = (folders[name] / "summary.md").read_text()
            print(f"\n=== Summary by {os.environ['MODEL_NAME']} ({name})\n{summary}")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
