"""Dependencies point one way, and the core touches nothing outside a run."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A crate may depend on crates of lower layers only. A new crate gets its layer here.
LAYERS = {
    "flujo-allocations": 0,
    "flujo-core": 0,
    "flujo-macros": 0,
    "flujo-agents": 1,
    "flujo-durable": 1,
    "flujo-observe": 1,
    "flujo-shared": 1,
    "flujo-store-conformance": 1,
    "flujo-store-faults": 1,
    "flujo-simulation": 2,
    "flujo-store": 2,
    "flujo-tokio": 3,
    "flujo-blueprint": 4,
    "flujo-claims": 4,
    "flujo": 5,
    "flujo-cli": 6,
    "flujo-python": 7,
}

# What would give the core a runtime, a network, threads, an interpreter or chance of its own.
OUTSIDE_CRATES = {
    *("async-std", "smol", "tokio", "futures-executor", "rayon", "crossbeam-channel"),
    *("hyper", "mio", "reqwest", "socket2", "ureq"),
    *("fastrand", "getrandom", "rand"),
    *("chrono", "jiff", "time"),
    *("libc", "pyo3", "rusqlite", "rustix"),
}
OUTSIDE_MODULES = "env|fs|net|os|process|thread"
OUTSIDE_PATHS = re.compile(
    rf"\bstd::({OUTSIDE_MODULES})\b"
    rf"|\bstd::\{{[^;]*\b({OUTSIDE_MODULES})\b[^;]*;"
    r"|\b(Instant|SystemTime|UNIX_EPOCH|RandomState)\b"
    r"|\b(e?println|e?print|dbg)!"
)


@cache
def metadata() -> dict[str, Any]:
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def own_crates() -> dict[str, dict[str, Any]]:
    members = set(metadata()["workspace_members"])
    return {package["name"]: package for package in metadata()["packages"] if package["id"] in members}


def code_only(source: str) -> str:
    """The source without comments, string contents and the unit tests at its end, line breaks kept."""
    source = re.split(r"^#\[cfg\(test\)\]\nmod \w+ \{", source, maxsplit=1, flags=re.MULTILINE)[0]
    return re.sub(r'//[^\n]*|"(?:\\.|[^"\\])*"', "", source)


def outside_paths(source: str) -> Iterator[tuple[int, str]]:
    code = code_only(source)
    for match in OUTSIDE_PATHS.finditer(code):
        yield code.count("\n", 0, match.start()) + 1, match.group().split("\n")[0]


def test_every_crate_depends_on_lower_layers_only() -> None:
    for crate, package in own_crates().items():
        assert crate in LAYERS, f"give {crate} its layer in {Path(__file__).name}"
        for dependency in package["dependencies"]:
            name = dependency["name"]
            # Tests of a crate may look upwards, but those of the core need nothing of ours either.
            if name in LAYERS and (dependency["kind"] != "dev" or crate == "flujo-core"):
                assert LAYERS[name] < LAYERS[crate], f"{crate} must not depend on {name}"


def test_nothing_the_core_is_built_from_reaches_outside() -> None:
    # Of the core alone: in a build of everything, others switch on features of what it shares with them.
    command = ["cargo", "tree", "--package", "flujo-core", "--edges", "normal", "--target", "all", "--locked"]
    # What the processor can do has to be asked of the system on some of them.
    command += ["--prune", "cpufeatures", "--prefix", "none", "--format", "{p}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = {line.split()[0] for line in done.stdout.splitlines() if line}
    assert "flujo-core" in names
    assert names & OUTSIDE_CRATES == set()


def features_of_others(*of: str) -> dict[str, set[str]]:
    """What others wrote, with the features it is compiled with."""
    command = ["cargo", "tree", "--locked", *of, "--prefix", "none", "--format", "{p}|{f}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, set[str]] = {}
    # Headings and empty lines stand between them.
    for line in filter(lambda line: "|" in line, done.stdout.splitlines()):
        package, _, features = line.removesuffix(" (*)").partition("|")
        if package.split()[0] not in LAYERS:
            found.setdefault(package.removesuffix(" (proc-macro)"), set()).add(features)
    return found


def test_what_others_wrote_is_compiled_once_for_the_python_package_and_the_tests() -> None:
    package = features_of_others("--package", "flujo-python", "--edges", "normal,no-proc-macro")
    tests = features_of_others("--workspace", "--edges", "no-build,no-proc-macro")
    assert len(package) > 100
    # What is above one that differs is compiled twice as well. What is missing belongs into flujo-python's Cargo.toml.
    assert package == {name: tests[name] for name in package}


def test_the_core_names_no_file_network_thread_clock_or_chance() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path in sorted((ROOT / "crates/flujo-core/src").rglob("*.rs"))
        if path.stem != "tests" and "tests" not in path.parts
        for line, text in outside_paths(path.read_text(encoding="utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("use std::fs::File;", True),
        ("use std::{collections::BTreeMap, thread};", True),
        ("let now = Instant::now();", True),
        ("println!();", True),
        ("// never std::fs", False),
        ('let text = "std::net";', False),
        ("use std::{collections::BTreeMap, sync::Arc};", False),
        ("use std::time::Duration;", False),
        ("fn x() {}\n#[cfg(test)]\nmod tests {\n use std::thread; }", False),
    ],
)
def test_the_search_for_outside_paths_finds_what_it_should(source: str, found: bool) -> None:
    assert bool(list(outside_paths(source))) is found
