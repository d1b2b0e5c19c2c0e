"""Two distributions with one package name: whichever came last, the import says so and names the way out."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

OTHER_INIT = "raise SystemExit('the other distribution ran')\n"


def write_wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> Path:
    """A pure wheel made by hand: the files, and the records without which pip refuses it."""
    info = f"{name}-{version}.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(f"{info}/RECORD", record)
    return wheel


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`ours`: what is installed here, packed again. `theirs`: a stranger's package of the same name."""
    folder = tmp_path_factory.mktemp("wheels")
    ours = metadata.distribution("flujo-rs")
    installed = {
        path.as_posix(): Path(str(path.locate())).read_bytes()
        for path in ours.files or []
        if not path.as_posix().startswith("..")
        and ".dist-info/" not in path.as_posix()
        and path.suffix != ".pyc"
    }
    assert "flujo/__init__.py" in installed, (
        "flujo-rs must be installed, not linked into the environment: make install"
    )
    return {
        "ours": write_wheel(folder, "flujo_rs", ours.version, installed),
        "theirs": write_wheel(folder, "flujo", "9.9", {"flujo/__init__.py": OTHER_INIT.encode()}),
    }


class Environment:
    """An empty virtual environment that also sees this one's packages, after its own."""

    def __init__(self, folder: Path, wheelhouse: Path) -> None:
        venv.create(folder, with_pip=True, symlinks=True)
        self.python = folder / "bin" / "python"
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        packages = folder / "lib" / version / "site-packages"
        (packages / "zz_dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        keep = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
        self.variables = keep | {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_FIND_LINKS": str(wheelhouse)}

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, shell=True, env=self.variables, capture_output=True, text=True)

    def install(self, wheel: Path) -> None:
        done = self.shell(f"{self.python} -m pip install --quiet --ignore-installed {wheel}")
        assert done.returncode == 0, done.stderr

    def import_flujo(self, module: str = "flujo") -> subprocess.CompletedProcess[str]:
        return self.shell(f"{self.python} -c 'import {module}, flujo; print(flujo.__file__)'")


@pytest.fixture
def environment(tmp_path: Path, wheels: dict[str, Path]) -> Environment:
    return Environment(tmp_path / "environment", wheels["ours"].parent)


def test_alone_it_imports_and_the_interpreter_starts_without_our_guard(
    environment: Environment, wheels: dict[str, Path]
) -> None:
    environment.install(wheels["ours"])
    done = environment.import_flujo()
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).is_relative_to(environment.python.parent.parent)
    started = environment.shell(
        f"""{environment.python} -c 'import sys; print("flujo_rs_clash" in sys.modules)'"""
    )
    assert (started.stdout, started.stderr) == ("False\n", "")


@pytest.mark.parametrize("order", [("theirs", "ours"), ("ours", "theirs")], ids=["ours_last", "theirs_last"])
def test_installed_over_each_other_the_import_fails_once_and_its_commands_cure_it(
    environment: Environment, wheels: dict[str, Path], order: tuple[str, str]
) -> None:
    for name in order:
        environment.install(wheels[name])

    for module in ("flujo", "flujo.domain"):
        failed = environment.import_flujo(module)
        assert failed.returncode == 1
        assert failed.stderr.count("ImportError: two distributions, 'flujo-rs' and 'flujo' (9.9)") == 1
        assert "During handling" not in failed.stderr and "direct cause" not in failed.stderr
    bystander = environment.shell(f"{environment.python} -c 'import json'")
    assert (bystander.returncode, bystander.stderr) == (0, ""), (
        "programs that don't import flujo notice nothing"
    )

    commands = [
        line.strip() for line in failed.stderr.splitlines() if line.startswith("    ") and " -m pip " in line
    ]
    assert len(commands) == 4, "two commands for each of the two ways out"
    for command in commands[:2]:
        done = environment.shell(command)
        assert done.returncode == 0, done.stderr
    cured = environment.import_flujo()
    assert (cured.returncode, cured.stderr) == (0, "")

    environment.install(wheels["theirs"])
    for command in commands[2:]:
        done = environment.shell(command)
        assert done.returncode == 0, done.stderr
    assert "the other distribution ran" in environment.import_flujo().stderr


def test_without_start_up_files_our_own_package_still_notices(
    tmp_path: Path, wheels: dict[str, Path]
) -> None:
    for name in ("theirs", "ours"):
        with zipfile.ZipFile(wheels[name]) as archive:
            archive.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "import flujo"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("ImportError: two distributions") == 1
