"""Habits of the repository that a machine can check: see CONTRIBUTING.md."""

from __future__ import annotations

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

LONGEST = 500

MACHINE_PATHS = re.compile(r"(?<![\w.:/}>)*-])/(home|root|work|Users|build)/\w")
REGISTRY_HOSTS = re.compile(r"index-url|replace-with|artifactory|sparse\+http|https?://[^/\s]+/simple\b")
CRATES_IO = '"registry+https://github.com/rust-lang/crates.io-index"'


@cache
def tracked(*patterns: str) -> list[Path]:
    command = ["git", "ls-files", "-z", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    found = []
    for path in tracked():
        if path == Path(__file__).resolve() or path.name == "Cargo.lock":
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{name(path)}:{number}: {line.strip()[:100]}")
    return found


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    assert lines_with(MACHINE_PATHS) == []


def test_no_file_names_a_package_registry_of_its_own() -> None:
    assert lines_with(REGISTRY_HOSTS) == []
    sources = re.findall(r"^source = (.*)$", (ROOT / "Cargo.lock").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(sources) <= {CRATES_IO}


def test_every_rust_module_says_what_it_is_for() -> None:
    bare = [
        name(p) for p in tracked("crates/*/src/*.rs") if not p.read_text(encoding="utf-8").startswith("//!")
    ]
    assert bare == []


def test_a_file_fits_in_a_head() -> None:
    long = {
        name(path)
        for path in tracked("*.rs", "*.py")  # not stubs: what a native module has is declared in one file
        if not {"tests", "benches"} & set(path.parts)
        and path.stem != "tests"
        and path.read_text(encoding="utf-8").count("\n") > LONGEST
    }
    assert long == set(), "split them"


def test_no_module_hides_behind_an_empty_name() -> None:
    empty = {"utils", "util", "helpers", "helper", "common", "misc"}
    # `flujo.testing.utils` is a path existing users import.
    found = [name(p) for p in tracked("crates/*.rs", "python/*.py") if {p.stem, p.parent.name} & empty]
    assert [path for path in found if path != "python/flujo/testing/utils.py"] == []


@pytest.mark.parametrize("file", ["README.md", ".ci/run"])
@pytest.mark.parametrize("command", ["make test", "make demo"])
def test_the_two_commands_are_where_people_and_machines_look(file: str, command: str) -> None:
    assert command in (ROOT / file).read_text(encoding="utf-8")


def test_every_make_target_named_in_the_documents_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for path in tracked("*.md"):
        for target in re.findall(r"`make ([a-z-]+)`", path.read_text(encoding="utf-8")):
            assert target in targets, f"{name(path)} names `make {target}`"


def manifests() -> list[tuple[Path, dict[str, Any]]]:
    """The folder of each crate, and what its manifest says."""
    return [(p.parent, tomllib.loads(p.read_text(encoding="utf-8"))) for p in tracked("crates/*/Cargo.toml")]


def test_no_rust_test_is_left_out() -> None:
    left_out = []
    for folder, manifest in manifests():
        if not manifest["package"].get("autotests", True):
            programs = [folder / t.get("path", f"tests/{t['name']}.rs") for t in manifest["test"]]
            modules = "".join(p.read_text(encoding="utf-8") for p in programs)
            files = {*folder.glob("tests/*.rs"), *folder.glob("tests/*/main.rs")} - set(programs)
            for file in files:
                module = file.stem if file.stem != "main" else file.parent.name
                if not re.search(rf"^mod {module};", modules, re.MULTILINE):
                    left_out.append(name(file))
        if not manifest.get("lib", {}).get("test", True):
            sources = folder.glob("src/**/*.rs")
            left_out += [name(p) for p in sources if "#[test]" in p.read_text(encoding="utf-8")]
    assert left_out == []
