"""Reviews the source files of a repository and writes a report. README.md beside this file defines what is found.

python examples/repo_review/review.py --root . --out target/demo
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tree import print_tree

from flujo import Flujo, Pipeline, PipelineContext, PipelineResult, Step, current_step, step
from flujo.agents import Chat, GlobFiles, Price, ReadFile, Template, TextFile, WriteFile
from flujo.validation import validator

SOURCES = ["**/*.rs", "**/*.py", "**/Cargo.toml", "**/pyproject.toml"]

TODO = re.compile(r"^.*\bTODO\b.*$", re.ASCII | re.MULTILINE)

# A header at the left margin or indented by four, then at least 60 lines that belong to it.
_HEADER = r"(?:pub(?:\([a-z]+\))? )?(?:(?:const|async|unsafe) )*(?:fn|def)"
LONG_FUNCTION = re.compile(
    rf"^(?:{_HEADER} (?P<outer>[A-Za-z0-9_]+).*\n(?:(?:[ )].*)?\n){{59,}}[ )].*$"
    rf"| {{4}}{_HEADER} (?P<inner>[A-Za-z0-9_]+).*\n(?:(?: {{4}}[ )].*)?\n){{59,}} {{4}}[ )].*$)",
    re.MULTILINE,
)

# Rust: the line above is neither comment nor attribute. Python: the line below a one-line header is no text.
UNDOCUMENTED = re.compile(
    r"^(?: *(?:[^ \n/#].*)?\n *pub (?:(?:const|async|unsafe) )*fn (?P<rust>[A-Za-z0-9_]+)"
    r"|(?: {4})?(?:async )?def (?P<python>[a-z][A-Za-z0-9_]*)\(.*:\n +[^ \n\"'])",
    re.MULTILINE,
)

CARGO_SECTION = re.compile(
    r"^\[(?:workspace\.|dev-|build-)?dependencies\]\n((?:[^\[\n].*\n|\n)*)", re.MULTILINE
)
CARGO_NAME = re.compile(r"^([A-Za-z0-9_-]+)", re.MULTILINE)
PYTHON_SECTION = re.compile(r"^dependencies = \[([^\]]*)\]", re.MULTILINE)
PYTHON_NAME = re.compile(r'"([A-Za-z0-9_.-]+)')

TITLES = {
    "todos": "TODO lines",
    "long_functions": "Long functions",
    "missing_docs": "Functions without documentation",
    "dependencies": "Dependencies",
}

MOST_LINES = 120
"""A longer report isn't read."""


class Review(PipelineContext):
    """Where the review takes place, and which files it is about."""

    root: str = "."
    out: str = "."
    paths: list[str] = []


@dataclass(frozen=True)
class Facts:
    """What was found in one file: for each extractor the findings as lines of the report."""

    lines: int
    findings: dict[str, list[str]]


@dataclass(frozen=True)
class Totals:
    """What was found in all files."""

    files: int
    lines: int
    unread: list[str]
    findings: dict[str, list[str]] = field(default_factory=dict)


# --- one file


def _lines(file: TextFile, found: list[str]) -> list[str]:
    return [f"- `{file['path']}`: {text}" for text in found]


@step(inline=True)
def todos(file: TextFile) -> list[str]:
    """The lines with a TODO."""
    return _lines(file, [line.strip() for line in TODO.findall(file["text"])])


@step(inline=True)
def long_functions(file: TextFile) -> list[str]:
    """The functions of more than sixty lines."""
    matches = LONG_FUNCTION.finditer(file["text"])
    return _lines(file, [f"`{match['outer'] or match['inner']}`" for match in matches])


@step(inline=True)
def missing_docs(file: TextFile) -> list[str]:
    """The functions that should say what they do and don't."""
    matches = UNDOCUMENTED.finditer(file["text"])
    return _lines(file, [f"`{match['rust'] or match['python']}`" for match in matches])


@step(inline=True)
def dependencies(file: TextFile) -> list[str]:
    """What a manifest says that the project needs."""
    if file["path"].endswith("Cargo.toml"):
        names = CARGO_NAME.findall("".join(CARGO_SECTION.findall(file["text"])))
    elif file["path"].endswith("pyproject.toml"):
        names = PYTHON_NAME.findall("".join(PYTHON_SECTION.findall(file["text"])))
    else:
        names = []
    return _lines(file, [f"`{name}`" for name in names])


@step(inline=True)
def facts(found: dict[str, Any]) -> Facts:
    """What the extractors found, together."""
    return Facts(found["file"]["lines"], {key: found[key] for key in TITLES})


# --- all files


@step(inline=True)
def totals(files: list[Facts | None], *, context: Review) -> Totals:
    """Counts and findings of all files; None stands for one that couldn't be read."""
    read = [file for file in files if file is not None]
    return Totals(
        files=len(read),
        lines=sum(file.lines for file in read),
        unread=[path for path, file in zip(context.paths, files, strict=True) if file is None],
        findings={key: [line for file in read for line in file.findings[key]] for key in TITLES},
    )


def outcome(found: Totals) -> str:
    """The branch to take."""
    return "findings" if found.unread or any(found.findings.values()) else "clean"


@validator
def readable(report: str) -> tuple[bool, str | None]:
    """A report that nobody would read to its end is rejected."""
    lines = report.count("\n")
    if lines <= MOST_LINES:
        return True, None
    return False, f"the report has {lines} lines, more than the {MOST_LINES} that people read"


@step(validators=[readable], max_retries=1, inline=True)
def draft(found: Totals) -> str:
    """The report: with everything at first, and when that is too long with ten findings of each kind."""
    most = 10 if current_step().attempt > 1 else sys.maxsize
    blocks = [f"# Repository review\n\n{found.files} files with {found.lines} lines\n"]
    if found.unread:
        paths = "".join(f"- `{path}`\n" for path in found.unread)
        blocks.append(f"## Files that could not be read\n\n{paths}")
    for key, title in TITLES.items():
        findings = found.findings[key]
        block = f"## {title}: {len(findings)}\n"
        if findings:
            block += "\n" + "".join(f"{line}\n" for line in findings[:most])
        if len(findings) > most:
            block += f"- and {len(findings) - most} more\n"
        blocks.append(block)
    return "\n".join(blocks)


@step(inline=True)
def nothing(found: Totals) -> str:
    """The report without findings."""
    return f"# Repository review\n\n{found.files} files with {found.lines} lines\n\nNothing was found.\n"


# --- the pipeline


def review_pipeline() -> Pipeline[Any, Any]:
    """The review; its output says what was written where."""
    one_file = (
        Step("read", ReadFile(root="{{ context.root }}"))
        >> Step.parallel(
            "extractors",
            {
                "file": Step.from_mapper(lambda file: file, name="file"),
                "todos": todos,
                "long_functions": long_functions,
                "missing_docs": missing_docs,
                "dependencies": dependencies,
            },
        )
        >> facts
    )
    return (
        Step("glob", GlobFiles(SOURCES, root="{{ context.root }}"), sink_to="paths")
        >> Step.map_over("files", one_file, max_concurrency=8, on_item_failure="none")
        >> totals
        >> Step.branch_on("decide", outcome, {"findings": draft, "clean": nothing})
        >> Step("write", WriteFile("report.md", root="{{ context.out }}"))
    )


def with_summary(pipeline: Pipeline[Any, Any]) -> Pipeline[Any, Any]:
    """The same, and a chat model that says in a sentence what the report says.

    `MODEL_BASE_URL` and `MODEL_NAME` name the service and the model.
    """
    model = Chat(
        base_url=os.environ["MODEL_BASE_URL"],
        model=os.environ["MODEL_NAME"],
        system="You write one short sentence.",
        prompt="A review of source code found:\n{{ input }}\nSay in one sentence what was found.",
        temperature=0.0,
        max_tokens=80,
        price=Price(0.01, 0.02),  # about its electricity on this machine
    )
    counts = Template(
        "{% for line in (input.text | lines)[2:] if line and not line.startswith('-') %}"
        "{{ line | replace('## ', '') }}\n{% endfor %}"
    )
    return (
        pipeline
        >> Step("read report", ReadFile(root="{{ context.out }}", path="{{ input.path }}"))
        >> Step("counts", counts)
        >> Step("summary", model)
        >> Step("write summary", WriteFile("summary.md", root="{{ context.out }}", content="{{ input }}\n"))
    )


async def review(
    root: str, out: str, *, model: bool = False
) -> tuple[PipelineResult[Any, Any], dict[str, Any]]:
    """Review the files under `root` and write `report.md` into the folder `out`.

    Returns:
        The run's result and the runner's statistics.
    """
    pipeline = review_pipeline()
    runner = Flujo(with_summary(pipeline) if model else pipeline, context_model=Review)
    result = await runner.run_async("", initial_context_data={"root": root, "out": out})
    return result, runner.get_performance_statistics()


def main() -> int:
    """Run the review as the command line asks; the exit code is 0, 1 when it failed, 130 when interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", default=".", help="the folder whose files are reviewed")
    parser.add_argument("--out", default="target/demo", help="the folder for report.md")
    parser.add_argument("--model", action="store_true", help="add a summary by the model at MODEL_BASE_URL")
    parser.add_argument("--stats-out", type=Path, help="a file for the runner's statistics as JSON")
    arguments = parser.parse_args()
    Path(arguments.out).mkdir(parents=True, exist_ok=True)
    try:
        result, statistics = asyncio.run(review(arguments.root, arguments.out, model=arguments.model))
    except KeyboardInterrupt:
        print("interrupted; no report was written", file=sys.stderr)
        return 130
    print_tree(result, sys.stderr)
    if arguments.stats_out:
        arguments.stats_out.write_text(json.dumps(statistics, indent=2, default=str))
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main())
